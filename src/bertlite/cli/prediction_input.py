"""The rows that `bertlite predict` answers, and what stands beside them in the input."""

import atexit
import dataclasses
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.formats import READERS, lines_of, open_text, suffix_of
from ..data.preparing import rows_of
from ..data.problems import BadRow, Problems
from ..data.rows import TaskRows, Wanted, text_feature, text_of
from ..data.sources import Source, open_source
from ..tasks.base import Row
from ..training.evaluation import remembered_columns

EMPTY = ("empty text", "missing value")  # rows of a text file that have an empty answer


@dataclass(frozen=True)
class InputRow:
    """One row of the input.

    Attributes:
        beside: its columns as they stand there.
        row: what the task reads; None where there is nothing to read.
        problem: why there is not.
    """

    beside: dict[str, Any]
    row: Row | None
    problem: str = ""


@dataclass
class PredictionInput:
    """A file that can be read again and again, and the report of its bad rows.

    Attributes:
        keeps_lines: whether each line of the input has an answer, also an empty one.
    """

    source: Source
    reader: TaskRows
    problems: Problems
    keeps_lines: bool = False
    empty: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[InputRow]:
        """The rows; bad ones are counted, and left out or an error as `problems` says."""
        self.reader.restart()  # rows are read twice, and their ids counted anew
        for where, raw in self.source:
            try:
                if isinstance(raw, BadRow):
                    raise raw
                yield InputRow(raw, self.reader.read(raw))
            except BadRow as bad:
                if not isinstance(raw, BadRow) and self.has_empty_answer(bad):
                    self.empty.append(where)
                    yield InputRow(raw, None, bad.kind)
                else:
                    self.problems.add(where, bad)

    def has_empty_answer(self, bad: BadRow) -> bool:
        """Whether a row is answered by nothing, so that lines stay what they were."""
        return self.keeps_lines and self.problems.on_bad_row == "stop" and bad.kind in EMPTY

    def check(self) -> None:
        """Read everything once, before any work.

        Raises:
            ValueError: no row that can be read, or bad rows where they stop the work.
        """
        count = sum(each.row is not None for each in self)
        self.problems.raise_if_any()
        if not count:
            raise ValueError(f"file must hold a row to answer, got none in {self.source.name}")
        self.problems = Problems(self.problems.on_bad_row)  # counted again when they are answered
        self.empty = []


def open_input(
    task: str,
    file: str,
    columns: dict[str, Any],
    model: str,
    on_bad_row: str,
    encoding: str | None = None,
) -> PredictionInput:
    """The rows of a file, of several, or of standard input.

    Args:
        task: which columns are looked for.
        file: a path, or "-" for standard input: JSON lines where its first line is a JSON object,
            else a text a line.
        columns: role → column, where they cannot be guessed; empty: those of the model's training.
        model: whose folder may remember columns.
        on_bad_row: "stop" or "skip".
        encoding: of a text file; None: UTF-8, or what its first bytes say.

    Raises:
        ValueError: no such file, a column that is not there, bad rows where they stop the work, or
            a text file where a row is more than a text.
    """
    path = from_standard_input() if file == "-" else Path(file)
    if not path.is_file():
        raise ValueError(f"file must be one that is there, got {file}")
    kind = rows_of(task)
    line_column = kind.line_column
    plain = suffix_of(path) not in READERS
    if plain and line_column is None:
        raise ValueError(
            f"file must have columns for {task}, as a .jsonl or .csv file has, got {file}"
        )
    if plain:
        source = Source(path.name, (lambda: read_texts(path, str(line_column), encoding),))
        reader: Any = LineReader({str(line_column): str(line_column)})
    else:
        how = dataclasses.replace(kind.opening(require_labels=False), encoding=encoding)
        source = open_source(str(path), split="test", how=how)
        reader = open_reader(kind, source, columns, model)
    found = PredictionInput(source, reader, Problems(on_bad_row), keeps_lines=plain)
    found.check()
    return found


def open_reader(
    kind: type[TaskRows], source: Source, columns: dict[str, Any], model: str
) -> TaskRows:
    """What reads the rows of a file with columns; errors as of `TaskRows.open`."""
    needed = {role: column for role, column in columns.items() if role != kind.target}
    wanted = Wanted(needed or None, require_labels=False, remembered=remembered_columns(model))
    return kind.open(source, wanted)


class LineReader(TaskRows):
    """Rows of a text file: one text each."""

    def features(self):
        """See `TaskRows`."""
        return {name: text_feature() for name in self.columns}

    def read(self, row):
        """See `TaskRows`."""
        (name,) = self.columns
        return {name: text_of(row, name, name)}


def read_texts(
    path: Path, name: str, encoding: str | None = None
) -> Iterator[tuple[str, Row | BadRow]]:
    """A text a line, as rows with one column.

    Raises:
        ValueError: the file is none of text.
    """
    with open_text(path, encoding) as file:
        for number, line in enumerate(lines_of(file), start=1):
            if "\0" in line:
                raise ValueError(f"file must hold text, got {path.name}, which has a NUL byte")
            yield f"{path.name} line {number}", {name: line}


def from_standard_input() -> Path:
    """Standard input as a file, since it is read twice; it goes when the process ends."""
    folder = tempfile.mkdtemp(prefix="bertlite-input-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder, "standard input")
    with path.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    with path.open("rb") as file:
        first = file.readline()
    try:
        rows = isinstance(json.loads(first), dict)
    except ValueError:
        rows = False
    return path.rename(path.with_suffix(".jsonl")) if rows else path
