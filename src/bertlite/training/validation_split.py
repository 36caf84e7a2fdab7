"""Validation rows drawn from the training rows."""

import hashlib
from collections import Counter
from typing import Any

import numpy as np

# What rows are asked for; all else is what they are asked with.
ANSWERS = ("label", "tags", "answers", "target", "id")


def split_validation(data: Any, share: float, seed: int) -> None:
    """Move a share of the training rows to validation, in place.

    Rows with equal inputs stay together (of question answering: with equal contexts), so that no
    text is in both; where each row has one class, both parts have the classes' shares.

    Args:
        data: a `TaskData` with training rows that do not stream.
        share: of the rows with different inputs.
        seed: decides which; the same seed draws the same rows.

    Raises:
        ValueError: rows that stream, validation rows that are there already, or too few rows.
    """
    from datasets import IterableDataset
    from sklearn.model_selection import train_test_split

    if data.validation is not None:
        raise ValueError(
            f"validation must be rows or a share, got the share {share} and the data set's own "
            "validation rows"
        )
    if data.train is None or isinstance(data.train, IterableDataset):
        raise ValueError(
            f"validation must be a file where rows stream or none are given, got the share {share}"
        )
    groups = input_groups(data.train)
    first = [rows[0] for rows in groups]
    classes = single_classes(data, first)
    fixed, free, strata = place_rare(classes, len(groups))
    try:
        kept, held = train_test_split(
            free, test_size=share, random_state=seed, stratify=strata, shuffle=True
        )
    except ValueError as error:
        kinds = f" of {len(set(strata))} classes" if strata else ""
        raise ValueError(
            f"validation must be a share that leaves rows{kinds} on both sides, got {share} of "
            f"{len(free)} different rows: {error}"
        ) from error
    members = [sorted(row for group in part for row in groups[group]) for part in (held, kept)]
    data.validation = data.train.select(members[0])
    data.train = data.train.select(
        sorted([*members[1], *(row for group in fixed for row in groups[group])])
    )


def input_groups(rows: Any) -> list[list[int]]:
    """The numbers of rows with equal inputs, in the order in which they first come."""
    names = [name for name in rows.column_names if name not in ANSWERS]
    names = ["context"] if "context" in names else names
    groups: dict[bytes, list[int]] = {}
    for number, row in enumerate(rows.select_columns(names)):
        text = repr([row[name] for name in names]).encode("utf-8", "surrogatepass")
        groups.setdefault(hashlib.blake2b(text, digest_size=12).digest(), []).append(number)
    return list(groups.values())


def single_classes(data: Any, numbers: list[int]) -> list[int] | None:
    """The class of each of these rows; None where rows have no single class."""
    if data.problem_type != "single_label_classification":
        return None
    labels = data.train["label"]
    return [labels[number] for number in numbers]


def place_rare(
    classes: list[int] | None, count: int
) -> tuple[list[int], list[int], list[int] | None]:
    """Groups that must stay in training, those to be split, and the latter's classes.

    A class with a single group cannot be on both sides: it is trained on.
    """
    if classes is None:
        return [], list(range(count)), None
    sizes = Counter(classes)
    fixed = [group for group in range(count) if sizes[classes[group]] < 2]
    free = [group for group in range(count) if sizes[classes[group]] >= 2]
    return fixed, free, np.asarray(classes)[free].tolist()
