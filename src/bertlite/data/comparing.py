"""What is odd about splits taken together: warnings, not errors, since the data may be meant so."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from .problems import shown
from .rows import TaskRows

NAMED = 5  # labels or rows that a warning names


def class_counts(dataset: Any, reader: TaskRows) -> Counter[str]:
    """How many rows (tokens in token classification) have each label.

    Nothing where labels are no classes.
    """
    labels = reader.labels
    if labels is None or labels.names is None or reader.label is None:
        return Counter()
    counts: Counter[str] = Counter()
    for value in dataset.with_format(None)[reader.label]:
        if labels.problem_type == "multi_label_classification":
            counts.update(name for name, bit in zip(labels.names, value, strict=True) if bit)
        else:
            counts.update(
                labels.names[number] for number in (value if isinstance(value, list) else [value])
            )
    return counts


def label_warnings(counts: Mapping[str, Mapping[str, int]], names: list[str] | None) -> list[str]:
    """A single class to train on.

    Labels that only the other splits have; entities that begin nowhere.
    """
    found = []
    train = counts.get("train")
    if not train:
        return []
    if len(train) == 1:
        only, number = next(iter(train.items()))
        found.append(
            f"train has a single class: all {number:,} labels are {only!r}, so there is nothing to "
            "learn"
        )
    for split, others in counts.items():
        unseen = {name: number for name, number in others.items() if name not in train}
        if unseen and split != "train":
            listed = ", ".join(
                f"{name} ({number:,})" for name, number in list(unseen.items())[:NAMED]
            )
            found.append(
                f"{split} has {sum(unseen.values()):,} labels that train never has: {listed}"
            )
    inside = {name[2:] for name in names or () if name.startswith("I-")}
    begun = {name[2:] for name in names or () if name.startswith("B-")}
    if begun and (lost := sorted(inside - begun)):
        found.append(
            f"tags have I- but never B- for {', '.join(lost)}: entities of IOB2 begin with B-"
        )
    return found


def spelling_warnings(readers: Mapping[str, TaskRows]) -> list[str]:
    """Labels that were taken for one of another spelling."""
    return [
        f"{split}: label {value!r} is taken as {name!r} ({count:,} ×)"
        for split, reader in readers.items()
        if reader.labels is not None
        for (value, name), count in reader.labels.taken.items()
    ]


def digests(dataset: Any, reader: TaskRows) -> Iterable[bytes]:
    """A hash of each row's inputs, without its label."""
    columns = [name for name in reader.inputs if name in dataset.column_names]
    for row in dataset.select_columns(columns):
        yield hashlib.blake2b(
            repr([row[name] for name in columns]).encode(), digest_size=12
        ).digest()


def duplicate_warnings(splits: dict[str, Any], reader: TaskRows) -> list[str]:
    """How many rows of a split have inputs that an earlier split has too.

    Figures on them say too much.
    """
    found = []
    earlier: dict[bytes, str] = {}
    for split, dataset in splits.items():
        shared: Counter[str] = Counter()
        own = []
        example: dict[str, int] = {}
        for number, digest in enumerate(digests(dataset, reader)):
            own.append(digest)
            if digest in earlier:
                shared[earlier[digest]] += 1
                example.setdefault(earlier[digest], number)
        for other, count in shared.items():
            text = shown(dataset[example[other]][reader.inputs[0]])
            found.append(
                f"{split} has {count:,} of {len(dataset):,} rows that {other} has too, the first: "
                f"{text}"
            )
        for digest in own:
            earlier.setdefault(digest, split)
    return found
