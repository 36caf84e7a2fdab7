"""`prepare`: from files or data sets of any known shape to checked splits of canonical columns."""

import atexit
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from transformers.utils import logging

from .comparing import class_counts, duplicate_warnings, label_warnings
from .problems import BadRow, Problems
from .rows import TaskRows, Wanted
from .sources import Opening, Source, open_source, open_sources

logger = logging.get_logger(__name__)


@dataclass
class TaskData:
    """What `prepare` gives.

    Attributes:
        task: the task.
        train, validation, test: `datasets.Dataset` (`IterableDataset` when streaming) with the
            task's canonical columns; None where the split was not given.
        labels: names of the classes, in the order of their numbers; None where the task has none.
        problem_type: of sequence classification: "regression", "single_label_classification" or
            "multi_label_classification"; None in other tasks.
        problems: the report of bad rows, made to be printed. When streaming, it grows as rows are
            read.
        warnings: what is odd about the splits, one sentence each; they were logged as well.
    """

    task: str
    train: Any = None
    validation: Any = None
    test: Any = None
    labels: list[str] | None = None
    problem_type: str | None = None
    problems: Problems = field(default_factory=Problems)
    warnings: list[str] = field(default_factory=list)

    @property
    def splits(self) -> dict[str, Any]:
        """The splits that there are, by name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}


def prepare(
    task: str | type[TaskRows],
    train: Any = None,
    validation: Any = None,
    test: Any = None,
    *,
    dataset: Any = None,
    dataset_config: str | None = None,
    columns: Mapping[str, Any] | None = None,
    on_bad_row: str = "stop",
    streaming: bool = False,
    labels: Sequence[str] | None = None,
    problem_type: str | None = None,
    max_train_examples: int | None = None,
    max_eval_examples: int | None = None,
    source_language: str | None = None,
    target_language: str | None = None,
    require_labels: bool = True,
) -> TaskData:
    """Read, check and convert a task's data.

    Canonical columns:

    - sequence-classification: `text`, `text_pair` (if there is one), `label` (class number, number,
      or one 0.0 or 1.0
      a class)
    - token-classification: `tokens`, `tags` (class numbers)
    - question-answering: `id`, `question`, `context`, `answers` {`text`, `answer_start`}; empty
      lists: no answer
    - multiple-choice: `question`, `choices`, `label` (number of the right one, from 0)
    - translation, summarization: `source`, `target`

    Args:
        task: one of the above, or the class of its rows.
        train: rows to learn from: a path (CSV, TSV, JSON, JSON lines, Parquet, CoNLL, SQuAD; with
            .gz, .bz2 or .xz too), a pattern, a list of paths, two text files with equally many
            lines (translation, summarization), the name of a data set of the hub (`name` or
            `name:split`), a `datasets.Dataset` or a list of dictionaries.
        validation: likewise.
        test: likewise.
        dataset: in place of these, a data set with splits of its own: of the hub, a folder with
            files named `train.…`, `validation.…` and `test.…`, one saved by `datasets` or laid out
            as the hub's are, or a `DatasetDict`.
        dataset_config: its configuration, on the hub.
        columns: role → column, for those that are not found by their usual names. Roles are the
            canonical columns; multiple-choice has `context` and `start` as well. A list of 0/1
            columns as `label` (or their names with commas between) is multi-label.
        on_bad_row: "stop": one error that names the first ten bad rows and counts all, before
            training; "skip": leave them out and count them in `problems`.
        streaming: give `IterableDataset`s that read as they go, for data that does not fit on disk
            twice. Rows are then checked as they come: a bad one stops training there, or is
            skipped. Labels are found in a first pass, unless given. With several loader workers
            each counts for itself.
        labels: known label names, in the order of their numbers; None: found in train (or the first
            split there is).
        problem_type: known type; None: lists are multi-label, numbers that are not all whole are
            regression, anything else is single-label.
        max_train_examples: the first so many good rows of train.
        max_eval_examples: the first so many good rows of validation and of test.
        source_language: key of the source in a `translation` column, or a column's name; None: the
            first key.
        target_language: likewise of the target; None: the second key.
        require_labels: False leaves labels, answers and targets out, for prediction.

    Returns:
        The splits, the labels and the report.

    Raises:
        ValueError: an argument is wrong, a file cannot be read, a column is missing or ambiguous, a
            split has no good row, or there are bad rows and `on_bad_row` is "stop".
    """
    limits = {
        "train": max_train_examples,
        "validation": max_eval_examples,
        "test": max_eval_examples,
    }
    check_limits(limits)
    kind = rows_of(task)
    data = TaskData(kind.task, problems=Problems(on_bad_row))
    given = {"train": train, "validation": validation, "test": test}
    how = Opening(kind.parallel, kind.plain_suffix, dataset_config, streaming)
    sources = open_all(given, dataset, how)
    languages = (source_language, target_language)
    wanted = Wanted(columns, languages, labels, problem_type, require_labels)
    reader: TaskRows | None = None
    for split, source in sources.items():
        reader = kind.open(source, wanted)
        wanted = replace(wanted, found=reader.labels)
        make = stream if streaming else write
        setattr(data, split, make(source, reader, data.problems, split, limits[split]))
    assert reader is not None
    data.problems.raise_if_any()
    for split, rows in () if streaming else data.splits.items():
        if not len(rows):
            raise ValueError(
                f"{split} must have at least one good row, got none of {sources[split].name}"
            )
    finish(data, reader, streaming)
    return data


def rows_of(task: str | type[TaskRows]) -> type[TaskRows]:
    """The class of a task's rows.

    The one place of this room that looks up to the tasks, and only when it is called by a name.

    Raises:
        ValueError: there is no task of this name.
    """
    if not isinstance(task, str):
        return task
    from ..tasks.registry import task_named

    return task_named(task).rows


def check_limits(limits: Mapping[str, int | None]) -> None:
    """Refuse limits below 1."""
    for split, limit in limits.items():
        if limit is not None and limit < 1:
            name = "max_train_examples" if split == "train" else "max_eval_examples"
            raise ValueError(f"{name} must be at least 1, got {limit}")


def open_all(given: Mapping[str, Any], dataset: Any, how: Opening) -> dict[str, Source]:
    """The splits in the order train, validation, test.

    Those given, and the rest from the whole data set.

    Raises:
        ValueError: there is nothing at all.
    """
    whole = {} if dataset is None else open_sources(dataset, how)
    for split, data in given.items():
        if data is not None:
            whole[split] = open_source(data, split=split, how=how)
    if not whole:
        raise ValueError("train, validation, test or dataset must be given, got none of them")
    return {split: whole[split] for split in given if split in whole}


def good_rows(
    source: Source, reader: TaskRows, problems: Problems, limit: int | None
) -> Iterator[dict[str, Any]]:
    """Canonical rows; bad ones go into the report."""
    count = 0
    for where, row in source:
        if count == limit:
            return
        try:
            if isinstance(row, BadRow):
                raise row
            good = reader.read(row)
        except BadRow as bad:
            problems.add(where, bad)
            continue
        count += 1
        yield good


def write(
    source: Source, reader: TaskRows, problems: Problems, split: str, limit: int | None
) -> Any:
    """A split as an Arrow file that is mapped, not loaded, and removed when the process ends."""
    import datasets
    from datasets.arrow_writer import ArrowWriter

    folder = tempfile.mkdtemp(prefix="bertlite-data-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = str(Path(folder) / f"{split}.arrow")
    features = datasets.Features(reader.features())
    with ArrowWriter(path=path, features=features) as writer:
        rows = good_rows(source, reader, problems, limit)
        for row in logging.tqdm(rows, desc=f"checking {split}", unit=" rows", delay=2):
            writer.write(row)
        writer.finalize()
    return datasets.Dataset.from_file(path)


def stream(
    source: Source, reader: TaskRows, problems: Problems, split: str, limit: int | None
) -> Any:
    """A split that reads, checks and converts row by row, each time anew.

    Loader workers share out its files.
    """
    import datasets

    features = datasets.Features(reader.features())
    shards = {"parts": list(source.parts)}
    common = {"name": source.name, "reader": reader, "problems": problems, "limit": limit}
    return datasets.IterableDataset.from_generator(
        stream_rows, features=features, gen_kwargs={**shards, **common}
    )


def stream_rows(
    parts: list[Any], name: str, reader: TaskRows, problems: Problems, limit: int | None
) -> Iterator[dict[str, Any]]:
    """Good rows of some files; the first bad one is an error where bad rows stop the work."""
    reader.restart()
    for row in good_rows(Source(name, tuple(parts)), reader, problems, limit):
        problems.raise_if_any()
        yield row
    problems.raise_if_any()


def finish(data: TaskData, reader: TaskRows, streaming: bool) -> None:
    """Fill in labels and problem type, and warn of what is odd."""
    if reader.labels is not None:
        data.labels = reader.labels.names
        if reader.has_problem_type:
            data.problem_type = reader.labels.problem_type
    if not streaming:
        counts = {split: class_counts(rows, reader) for split, rows in data.splits.items()}
        data.warnings = [
            *label_warnings(counts, data.labels),
            *duplicate_warnings(data.splits, reader),
        ]
    for warning in data.warnings:
        logger.warning(warning)
    if data.problems:
        logger.warning(f"left out: {data.problems}")
