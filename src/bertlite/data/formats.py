"""Local files as rows: CSV, TSV, JSON, JSON lines, Parquet, CoNLL, SQuAD, parallel text.

The text formats are read here, not by `datasets`, so that each row keeps its line number, and a
broken line is one bad row instead of the end of the run. Bytes that are not UTF-8 come as lone
surrogates, which the checks of the rows find. Each reader yields `(where, row)`: a place such as
"train.csv line 7", and the row as a dictionary, or a `BadRow`.
"""

import bz2
import csv
import gzip
import json
import lzma
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from .problems import BadRow, shown

Row = dict[str, Any]
Rows = Iterator[tuple[str, Row | BadRow]]

COMPRESSION: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


@contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """A text file, compressed or not, as UTF-8; bytes that are not UTF-8 become lone surrogates.

    Raises:
        ValueError: the file is missing or cannot be decompressed.
    """
    opener = COMPRESSION.get(path.suffix.lower(), open)
    try:
        with opener(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            yield file
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise ValueError(f"{path} must be a readable file, got: {error}") from error


def suffix_of(path: Path) -> str:
    """The ending that tells the format, without that of the compression.

    `.jsonl` of `train.jsonl.gz`.
    """
    endings = [ending.lower() for ending in path.suffixes]
    if endings and endings[-1] in COMPRESSION:
        endings.pop()
    return endings[-1] if endings else ""


def lines_of(file: IO[str]) -> Iterator[str]:
    """Lines without their ends.

    Only line feeds and carriage returns end a line, never U+2028 or a form feed.
    """
    for line in file:
        yield line.rstrip("\r\n")


def read_csv(path: Path) -> Rows:
    """Rows of a CSV file with a header.

    Where the header has no comma, a semicolon or a tab is taken as separator.
    """
    csv.field_size_limit(
        sys.maxsize
    )  # the default refuses texts of more than 128 KiB; the limit is the process's
    with open_text(path) as file:
        first = file.readline()
        separator = next((mark for mark in ",;\t" if mark in first), ",")
        header = next(csv.reader([first], delimiter=separator), [])
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


def read_tsv(path: Path) -> Rows:
    """Rows of a TSV file with a header: one line a row, as the format has it.

    A quote inside a field is text, as in the files of GLUE; a field that is quoted as a whole loses
    its quotes.
    """
    with open_text(path) as file:
        header: list[str] = []
        for number, line in enumerate(lines_of(file), start=1):
            fields = [unquoted(field) for field in line.split("\t")]
            if number == 1:
                header = fields
            elif line:
                yield f"{path.name} line {number}", row_of(header, fields)


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


def read_json_lines(path: Path) -> Rows:
    """One JSON object a line; empty lines are passed over."""
    with open_text(path) as file:
        for number, line in enumerate(lines_of(file), start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                row = BadRow("broken JSON", str(error))
            if not isinstance(row, (dict, BadRow)):
                row = BadRow("not a JSON object", shown(row))
            yield f"{path.name} line {number}", row


def read_json(path: Path) -> Rows:
    """A JSON file: SQuAD's nesting, a list of objects, a list under `data`, or in truth JSON lines.

    Raises:
        ValueError: the file holds something else.
    """
    with open_text(path) as file:
        first, second = file.readline(), file.readline()
    if is_object(second) and first.strip() != "[":
        yield from read_json_lines(path)
        return
    with open_text(path) as file:
        try:
            content = json.load(file)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} must hold JSON or JSON lines, got: {error}") from error
    if isinstance(content, dict):
        content = content["data"] if isinstance(content.get("data"), list) else [content]
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


def is_object(line: str) -> bool:
    """Whether the line alone is a JSON object."""
    try:
        return isinstance(json.loads(line), dict)
    except json.JSONDecodeError:
        return False


def flatten_squad(path: Path, articles: list[Any]) -> Rows:
    """SQuAD 1 and 2.

    Articles, paragraphs, questions, as one row a question, numbered through the file.

    Raises:
        ValueError: the nesting is not SQuAD's.
    """
    number = 0
    try:
        for article in articles:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    number += 1
                    answers = [] if question.get("is_impossible") else question["answers"]
                    row = {
                        "id": str(question["id"]),
                        "title": article.get("title", ""),
                        "question": question["question"],
                        "context": paragraph["context"],
                        "answers": {
                            key: [answer[key] for answer in answers]
                            for key in ("text", "answer_start")
                        },
                    }
                    yield f"{path.name} question {number} (id {row['id']})", row
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path} must be nested as SQuAD is, got at question {number + 1}: {error!r}"
        ) from error


def read_conll(path: Path) -> Rows:
    """Sentences in columns, one word a line, empty lines between them; `-DOCSTART-` is passed over.

    Yields:
        A row has `tokens` (the first column), `tags` (the last) and the columns between as `column
        2`, `column 3`, …; its place is its first line.
    """
    with open_text(path) as file:
        sentence: list[list[str]] = []
        start = 1
        for number, line in enumerate(with_end(lines_of(file)), start=1):
            fields = line.split("\t") if "\t" in line else line.split()
            if line.strip() and not line.startswith("-DOCSTART-"):
                start = start if sentence else number
                sentence.append([field.strip() for field in fields])
            elif sentence:
                yield f"{path.name} line {start}", conll_row(sentence)
                sentence = []


def with_end(lines: Iterable[str]) -> Iterator[str]:
    """The lines and an empty one, which ends the last sentence."""
    yield from lines
    yield ""


def conll_row(sentence: list[list[str]]) -> Row | BadRow:
    """Columns of one sentence.

    Every line must have as many. Words alone, for prediction, have no tags.
    """
    widths = {len(fields) for fields in sentence}
    if widths == {1}:
        return {"tokens": [fields[0] for fields in sentence]}
    if len(widths) > 1:
        short = min(sentence, key=len)
        return BadRow(
            "tokens and tags of unequal length", f"a line holds {shown(' '.join(short))} only"
        )
    columns = [list(column) for column in zip(*sentence, strict=True)]
    between = {f"column {number}": column for number, column in enumerate(columns[1:-1], start=2)}
    return {"tokens": columns[0], **between, "tags": columns[-1]}


def read_parquet(path: Path) -> Rows:
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


def read_parallel(source: Path, target: Path) -> Rows:
    """Two text files, of which line n of one is the translation of line n of the other.

    Raises:
        ValueError: they have unequal numbers of lines.
    """
    counts = []
    for path in (source, target):
        with open_text(path) as file:
            counts.append(sum(1 for _ in lines_of(file)))
    if counts[0] != counts[1]:
        found = f"{source.name} has {counts[0]:,} and {target.name} {counts[1]:,}"
        raise ValueError(f"parallel text must have equally many lines, but {found}")
    with open_text(source) as left, open_text(target) as right:
        for number, texts in enumerate(zip(lines_of(left), lines_of(right), strict=True), start=1):
            yield (
                f"{source.name} line {number}",
                dict(zip(("source", "target"), texts, strict=True)),
            )


READERS: dict[str, Callable[[Path], Rows]] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".tab": read_tsv,
    ".json": read_json,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".parquet": read_parquet,
    ".conll": read_conll,
    ".iob": read_conll,
    ".iob2": read_conll,
    ".bio": read_conll,
}
LOOKS_LIKE_FILE = re.compile(
    r"\.(csv|tsv|tab|jsonl?|ndjson|parquet|conll|iob2?|bio|txt)(\.(gz|bz2|xz))?$", re.I
)
