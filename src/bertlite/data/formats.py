"""Local files as rows: CSV, TSV, JSON, JSON lines, Parquet, spreadsheets, CoNLL, SQuAD.

The text formats are read here, not by `datasets`, so that each row keeps its line number, and a
broken line is one bad row instead of the end of the run. Bytes that are not UTF-8 come as lone
surrogates, which the checks of the rows find. Each reader yields `(where, row)`: a place such as
"train.csv line 7", and the row as a dictionary, or a `BadRow`.
"""

import csv
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from transformers.utils import logging

from .conll import read_conll
from .problems import BadRow, shown
from .squad import flatten_squad
from .text_files import lines_of, open_text, suffix_of

logger = logging.get_logger(__name__)

# Also of numbers of thousands of digits, and of lists in lists without end.
NO_JSON = (ValueError, RecursionError)
Row = dict[str, Any]
Rows = Iterator[tuple[str, Row | BadRow]]


def read_csv(path: Path, encoding: str | None = None) -> Rows:
    """Rows of a CSV file with a header.

    Where the header has no comma, a semicolon or a tab is taken as separator.
    """
    csv.field_size_limit(
        sys.maxsize
    )  # the default refuses texts of more than 128 KiB; the limit is the process's
    with open_text(path, encoding) as file:
        first = file.readline()
        separator = next((mark for mark in ",;\t" if mark in first), ",")
        header = checked_header(path, next(csv.reader([first], delimiter=separator), []))
        reader = csv.reader(file, delimiter=separator)
        while True:
            line = reader.line_num + 2  # where the row starts: fields may hold line ends
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield f"{path.name} line {line}", BadRow("broken CSV", str(error))
                continue
            if fields:
                yield f"{path.name} line {line}", row_of(header, fields)


def read_tsv(path: Path, encoding: str | None = None) -> Rows:
    """Rows of a TSV file with a header: one line a row, as the format has it.

    A quote inside a field is text, as in the files of GLUE; a field that is quoted as a whole loses
    its quotes.
    """
    with open_text(path, encoding) as file:
        header: list[str] = []
        for number, line in enumerate(lines_of(file), start=1):
            fields = [unquoted(field) for field in line.split("\t")]
            if number == 1:
                header = checked_header(path, fields)
            elif line:
                yield f"{path.name} line {number}", row_of(header, fields)


def checked_header(path: Path, names: list[str]) -> list[str]:
    """The names of columns; a ValueError where two columns have the same."""
    twice = [name for name in dict.fromkeys(names) if name.strip() and names.count(name) > 1]
    if twice:
        raise ValueError(f"{path} must name each column once, got {shown(twice[0])} twice")
    return names


def unquoted(field: str) -> str:
    """The text of a field that was written in quotes, with the quotes inside doubled.

    Any other field as it is.
    """
    inner = field[1:-1]
    if len(field) >= 2 and field[0] == field[-1] == '"' and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return field


def row_of(header: list[str], fields: list[str]) -> Row | BadRow:
    """Fields by their names, if there are as many as the header has."""
    if len(fields) != len(header):
        return BadRow(
            "another number of fields", f"{len(fields)}, but the header has {len(header)}"
        )
    return dict(zip(header, fields, strict=True))


def read_json_lines(path: Path, encoding: str | None = None) -> Rows:
    """One JSON object a line; empty lines are passed over."""
    with open_text(path, encoding) as file:
        for number, line in enumerate(lines_of(file), start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.lstrip("\ufeff"))  # files joined to one keep their marks
            except NO_JSON as error:
                row = BadRow("broken JSON", str(error))
            if not isinstance(row, (dict, BadRow)):
                row = BadRow("not a JSON object", shown(row))
            yield f"{path.name} line {number}", row


def read_json(path: Path, encoding: str | None = None) -> Rows:
    """A JSON file: SQuAD's nesting, a list of objects, a list under `data`, or in truth JSON lines.

    Raises:
        ValueError: the file holds something else.
    """
    with open_text(path, encoding) as file:
        first, second = file.readline(), file.readline()
    if is_object(second) and first.strip() != "[":
        yield from read_json_lines(path, encoding)
        return
    with open_text(path, encoding) as file:
        try:
            content = json.load(file)
        except NO_JSON as error:
            raise ValueError(f"{path} must hold JSON or JSON lines, got: {error}") from error
    if isinstance(content, dict):
        content = content["data"] if isinstance(content.get("data"), list) else by_index(content)
    if not isinstance(content, list):
        raise ValueError(
            f"{path} must hold a list of objects, or one under 'data', got {type(content).__name__}"
        )
    if content and isinstance(content[0], dict) and "paragraphs" in content[0]:
        yield from flatten_squad(path, content)
        return
    for number, row in enumerate(content, start=1):
        bad = BadRow("not a JSON object", shown(row))
        yield f"{path.name} row {number}", row if isinstance(row, dict) else bad


def by_index(content: dict[str, Any]) -> list[Any]:
    """Rows of one object: that one row, or columns with an entry an index, as pandas writes."""
    columns = list(content.values())
    keys = list(columns[0]) if columns and isinstance(columns[0], dict) else []
    if keys and all(isinstance(column, dict) and list(column) == keys for column in columns):
        return [{name: column[key] for name, column in content.items()} for key in keys]
    return [content]


def is_object(line: str) -> bool:
    """Whether the line alone is a JSON object."""
    try:
        return isinstance(json.loads(line), dict)
    except NO_JSON:
        return False


def read_parquet(path: Path, encoding: str | None = None) -> Rows:
    """Rows of a Parquet file, in batches, so that memory does not grow with the file.

    Raises:
        ValueError: it is no Parquet file.
    """
    import pyarrow.lib
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1000):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path.name} row {number}", row
    except (OSError, pyarrow.lib.ArrowException) as error:
        raise ValueError(f"{path} must be a Parquet file, got: {error}") from error


SHEETS = {  # pandas' name of the library that reads them, and the package's
    ".xlsx": ("openpyxl", "openpyxl"),
    ".xlsm": ("openpyxl", "openpyxl"),
    ".xls": ("xlrd", "xlrd"),
    ".ods": ("odf", "odfpy"),
}


def read_sheet(path: Path, encoding: str | None = None) -> Rows:
    """Rows of the first sheet of a spreadsheet, whose first row names the columns.

    They are numbered as the spreadsheet numbers them. Cells are as they are written: `NA` is a
    text.

    Raises:
        ValueError: the library that reads it is not installed, or it is no spreadsheet.
    """
    import pandas

    engine, package = SHEETS[suffix_of(path)]
    try:
        with pandas.ExcelFile(path, engine=engine) as book:
            first, *others = book.sheet_names
            if others:
                logger.warning_once(f"{path.name}: sheet {first!r} is read, not {others!r}")
            frame = book.parse(first, dtype=object, na_filter=False)
    except ImportError as error:
        raise ValueError(
            f"{path} needs {package} to be read: pip install {package}; or save it as CSV"
        ) from error
    except Exception as error:  # each of the libraries has its own kinds of errors
        raise ValueError(f"{path} must be a spreadsheet, got: {error}") from error
    names = [str(name) for name in frame.columns]
    for number, cells in enumerate(frame.itertuples(index=False, name=None), start=2):
        row = dict(zip(names, cells, strict=True))
        if any(cell not in (None, "") for cell in cells):
            yield f"{path.name} row {number}", row


def read_lines(path: Path, column: str, encoding: str | None = None) -> Rows:
    """Plain text, each line of which is a row with this one column."""
    with open_text(path, encoding) as file:
        for number, line in enumerate(lines_of(file), start=1):
            yield f"{path.name} line {number}", {column: line}


READERS: dict[str, Callable[..., Rows]] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".tab": read_tsv,
    ".json": read_json,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".parquet": read_parquet,
    **dict.fromkeys(SHEETS, read_sheet),
    ".conll": read_conll,
    ".conllu": read_conll,
    ".iob": read_conll,
    ".iob2": read_conll,
    ".bio": read_conll,
}
LOOKS_LIKE_FILE = re.compile(
    r"\.(csv|tsv|tab|jsonl?|ndjson|parquet|xls[xm]?|ods|conllu?|iob2?|bio|txt)(\.(gz|bz2|xz))?$",
    re.I,
)
