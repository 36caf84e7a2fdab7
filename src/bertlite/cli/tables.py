"""Rows of answers to the screen or to a file, in the format that the file's ending says."""

import csv
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
JSON_ENDINGS = (".json", ".jsonl", ".ndjson")
LINE_ENDS = {ord(letter): f"\\u{ord(letter):04x}" for letter in "\x85\u2028\u2029"}


def write_rows(
    output: str | None,
    rows: Iterable[dict[str, Any]],
    *,
    whole: str | None = None,
    text_column: str | None = None,
) -> None:
    """Write rows: CSV or TSV, one JSON array, or else one JSON object a line.

    Args:
        output: the file, which is there only when it is whole; None: the screen.
        rows: dicts that JSON can hold.
        whole: what stands in a JSON file, and on the screen, instead of the rows.
        text_column: for a file of another ending (.txt, .de): the column whose text is written, one
            line a row.
    """
    if output is None:
        lines = [whole] if whole is not None else map(as_json, rows)
        for line in lines:
            sys.stdout.write(line + "\n")
        return
    ending = Path(output).suffix.lower()
    with whole_file(output) as file:
        if ending in SEPARATORS:
            write_table(file, rows, SEPARATORS[ending])
        elif whole is not None:
            file.write(whole + "\n")
        elif ending == ".json":
            write_array(file, rows)
        elif text_column is not None and ending not in JSON_ENDINGS:
            for row in rows:
                file.write(" ".join(str(row.get(text_column, "")).split()) + "\n")
        else:
            file.writelines(as_json(row) + "\n" for row in rows)


@contextmanager
def whole_file(output: str) -> Iterator[IO[str]]:
    """A file beside the one that is meant, which takes its place when all is written."""
    target = Path(output)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            yield file
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def as_json(row: dict[str, Any]) -> str:
    """A row as a line of JSON, which no reader of lines can take for two."""
    return json.dumps(row, ensure_ascii=False, default=str).translate(LINE_ENDS)


def write_array(file: IO[str], rows: Iterable[dict[str, Any]]) -> None:
    """One JSON array, a row a line."""
    for number, row in enumerate(rows):
        file.write(("[\n" if number == 0 else ",\n") + as_json(row))
    file.write("[]\n" if file.tell() == 0 else "\n]\n")


def write_table(file: IO[str], rows: Iterable[dict[str, Any]], separator: str) -> None:
    """Columns of all rows in the order in which they first come, so that none is lost.

    The rows wait on disk until all columns are known.
    """
    names: dict[str, None] = {}
    with tempfile.TemporaryFile("w+", encoding="utf-8") as waiting:
        for row in rows:
            flat = flattened(row)
            names.update(dict.fromkeys(flat))
            waiting.write(as_json(flat) + "\n")
        waiting.seek(0)
        writer = csv.DictWriter(file, list(names), delimiter=separator, lineterminator="\n")
        writer.writeheader()
        writer.writerows(json.loads(line) for line in waiting)


def flattened(row: dict[str, Any]) -> dict[str, Any]:
    """A row of single values: a score a column, other lists and dicts as JSON.

    >>> flattened({"label": "a", "scores": {"a": 0.9, "b": 0.1}, "labels": [1]})
    {'label': 'a', 'score_a': 0.9, 'score_b': 0.1, 'labels': '[1]'}
    """
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name == "scores" and isinstance(value, dict):
            flat.update({f"score_{label}": score for label, score in value.items()})
        elif isinstance(value, list | dict):
            flat[name] = json.dumps(value, ensure_ascii=False, default=str)
        else:
            flat[name] = value
    return flat
