"""`prepare`: from files or data sets of any known shape to checked splits of canonical columns."""

import atexit
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from transformers.utils import logging

from .comparing import class_counts, duplicate_warnings, label_warnings, spelling_warnings
from .decisions import column_words, label_words, row_words
from .label_checks import check_several
from .problems import BadRow, Problems
from .rows import TaskRows, Wanted
from .sources import Opening, Source, open_source, open_sources
from .text_files import checked_encoding

logger = logging.get_logger(__name__)
COUNTED = "labels of "  # how the sentences of `decisions` begin that hold counts


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
        columns: role → column as found or given; `prepare` takes them as `remembered_columns`.
        decisions: what was decided, one sentence each; `str(data)` has them with the rows.
        counts: how many rows (tokens in token classification) of each split have each label;
            nothing of streams.
        readers: what read each split.
    """

    task: str
    train: Any = None
    validation: Any = None
    test: Any = None
    labels: list[str] | None = None
    problem_type: str | None = None
    problems: Problems = field(default_factory=Problems)
    warnings: list[str] = field(default_factory=list)
    columns: dict[str, Any] = field(default_factory=dict)
    decisions: list[str] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    readers: dict[str, TaskRows] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        """What was decided, in lines for the screen."""
        return "\n".join([f"task: {self.task}", *self.decisions, *self.rows()])

    def rows(self) -> list[str]:
        """A sentence for each split: its rows, and those that were left out, by reason."""
        return [
            f"{split}: {row_words(length(rows), split, self.problems)}"
            for split, rows in self.splits.items()
        ]

    def record(self) -> dict[str, Any]:
        """What is to be remembered of the data, as JSON can hold it."""
        return {
            "columns": self.columns,
            "labels": self.labels,
            "label_counts": self.counts,
            "rows": {split: length(rows) for split, rows in self.splits.items()},
            "left_out": {split: dict(kinds) for split, kinds in self.problems.by_split.items()},
            "decisions": self.decisions,
            "warnings": self.warnings,
        }

    def count_labels(self) -> None:
        """Fill `counts`, and say in `decisions` what they are.

        Call it again where rows have gone from one split to another: a split that no file was read
        for has the labels of the first.
        """
        first = next(iter(self.readers.values()))
        self.counts, said = {}, []
        for split, rows in self.splits.items():
            if length(rows) is None:
                continue
            reader = self.readers.get(split, first)
            counts = class_counts(rows, reader)
            self.counts[split] = dict(counts)
            if reader.labels is not None:
                said.append(f"{COUNTED}{split}: {label_words(rows, reader, counts)}")
        others = [each for each in self.decisions if not each.startswith(COUNTED)]
        self.decisions = [*others, *said]

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
    encoding: str | None = None,
    remembered_columns: Mapping[str, Any] | None = None,
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
    - multiple-choice: `question`, `choices`, perhaps `context`, `label` (the right one's number)
    - translation, summarization: `source`, `target`

    Args:
        task: one of the above, or the class of its rows.
        train: rows to learn from: a path (CSV, TSV, JSON, JSON lines, Parquet, spreadsheets,
            CoNLL, CoNLL-U, SQuAD; the texts with .gz, .bz2 or .xz too), a pattern, a list of paths,
            two text files with equally many lines (translation, summarization), the name of a data
            set of the hub (`name` or `name:split`), a `datasets.Dataset`, a data frame, a list of
            dictionaries or a dictionary of columns.
        validation: likewise.
        test: likewise.
        dataset: in place of these, a data set with splits of its own: of the hub, a folder with
            files named `train.…`, `validation.…` and `test.…`, one saved by `datasets` or laid out
            as the hub's are, or a `DatasetDict`.
        dataset_config: its configuration, on the hub.
        columns: role → column, for those that are not found by their usual names; capitals do not
            count. Roles are the
            canonical columns; multiple-choice has `start` as well. A list of 0/1
            columns as `label` (or their names with commas between) is multi-label.
        on_bad_row: "stop": one error that names the first ten bad rows and counts all, before
            training; "skip": leave them out and count them in `problems`.
        streaming: give `IterableDataset`s that read as they go, for data that does not fit on disk
            twice. Rows are then checked as they come: a bad one stops training there, or is
            skipped. Labels are found in a first pass, unless given. With several loader workers
            each counts for itself.
        labels: known label names, in the order of their numbers; None: found in train (or the first
            split there is).
        problem_type: known type; None: as `label_kinds.find_labels` says: lists are multi-label,
            numbers that are not all whole are regression, anything else is single-label, and what
            is doubtful is refused.
        max_train_examples: the first so many good rows of train.
        max_eval_examples: the first so many good rows of validation and of test.
        source_language: key of the source in a `translation` column, a column's name, or an ending
            of a text file's; None: the first key, or what the names of two files say.
        target_language: likewise of the target; None: the other one.
        encoding: of text files; None: UTF-8, or UTF-16 where a file begins with its mark.
        remembered_columns: `TaskData.columns` of an earlier run, for roles that are not given.
        require_labels: False leaves labels, answers and targets out, for prediction.

    Returns:
        The splits, the labels and the report.

    Raises:
        ValueError: an argument is wrong, a file cannot be read, a column is missing or ambiguous, a
            split has no good row, there are bad rows and `on_bad_row` is "stop", or labels are
            doubtful.
    """
    limits = {
        "train": max_train_examples,
        "validation": max_eval_examples,
        "test": max_eval_examples,
    }
    check_limits(limits)
    if encoding is not None:
        checked_encoding(encoding)
    kind = rows_of(task)
    data = TaskData(kind.task, problems=Problems(on_bad_row, may_skip=require_labels))
    given = {"train": train, "validation": validation, "test": test}
    languages = (source_language, target_language)
    how = kind.opening(require_labels)
    how = replace(
        how, config=dataset_config, streaming=streaming, encoding=encoding, languages=languages
    )
    sources = open_all(given, dataset, how)
    wanted = Wanted(columns, languages, labels, problem_type, require_labels)
    wanted = replace(wanted, remembered=remembered_columns)
    readers: dict[str, TaskRows] = {}
    for split, source in sources.items():
        reader = readers[split] = kind.open(source, wanted)
        wanted = reader.hold(wanted)
        make = stream if streaming else write
        setattr(data, split, make(source, reader, data.problems, split, limits[split]))
    data.problems.raise_if_any()
    for split, rows in () if streaming else data.splits.items():
        if not len(rows):
            raise ValueError(
                f"{split} must have at least one good row, got none of {sources[split].name}"
            )
    finish(data, sources, readers, streaming)
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

    Those given, and the rest from the whole data set. Of parallel text, the sides of the first
    split hold for the others.

    Raises:
        ValueError: there is nothing at all.
    """
    whole = {} if dataset is None else open_sources(dataset, how)
    for split, data in given.items():
        if data is not None:
            whole[split] = source = open_source(data, split=split, how=how)
            if source.sides is not None and not any(how.languages):
                how = replace(how, languages=source.sides)
    if not whole:
        raise ValueError("train, validation, test or dataset must be given, got none of them")
    return {split: whole[split] for split in given if split in whole}


def good_rows(
    source: Source, reader: TaskRows, problems: Problems, limit: int | None, split: str = ""
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
            problems.add(where, bad, split)
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
        rows = good_rows(source, reader, problems, limit, split)
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
    common["split"] = split
    return datasets.IterableDataset.from_generator(
        stream_rows, features=features, gen_kwargs={**shards, **common}
    )


def stream_rows(
    parts: list[Any],
    name: str,
    reader: TaskRows,
    problems: Problems,
    limit: int | None,
    split: str,
) -> Iterator[dict[str, Any]]:
    """Good rows of some files; the first bad one is an error where bad rows stop the work."""
    reader.restart()
    for row in good_rows(Source(name, tuple(parts)), reader, problems, limit, split):
        problems.raise_if_any()
        yield row
    problems.raise_if_any()


def finish(
    data: TaskData,
    sources: Mapping[str, Source],
    readers: Mapping[str, TaskRows],
    streaming: bool,
) -> None:
    """Fill in labels, problem type and what was decided, and warn of what is odd.

    Raises:
        ValueError: the labels are a single class.
    """
    first = next(iter(readers.values()))
    data.columns = dict(first.columns)
    data.decisions = [note for source in sources.values() for note in source.notes]
    data.decisions.append(f"columns: {column_words(first.columns)}")
    data.readers = dict(readers)
    if (labels := first.labels) is not None:
        data.labels = labels.names
        data.problem_type = labels.problem_type if first.has_problem_type else None
        if labels.problem_type == "single_label_classification":
            check_several(labels.names, first.columns.get(first.target))
        if first.has_problem_type:
            data.decisions.append(f"kind of task: {labels.problem_type}")
        if streaming and labels.names:
            data.decisions.append(f"labels: {', '.join(labels.names)}")
        data.decisions += labels.notes
        data.warnings += labels.warnings
    data.count_labels()
    if not streaming:
        data.warnings += label_warnings(data.counts, data.labels)
        data.warnings += spelling_warnings(readers)
        data.warnings += duplicate_warnings(data.splits, first)
    say(data)


def say(data: TaskData) -> None:
    """Log what was decided, what is odd, and what was left out."""
    logger.info(str(data))
    for warning in data.warnings:
        logger.warning(warning)
    if data.problems:
        logger.warning(f"left out: {data.problems}")


def length(rows: Any) -> int | None:
    """How many rows a split has; None where it streams."""
    return len(rows) if hasattr(rows, "__len__") else None
