"""Documents as lists of sentences, read one at a time from files or a data set of the hub.

A text file holds many documents, with blank lines between them (as for create_pretraining_data.py
of github.com/google-research/bert); a row of the other formats is one document.
"""

import glob
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..data.formats import READERS
from ..data.problems import BadRow, has_surrogates
from ..data.text_files import COMPRESSION, lines_of, open_text, suffix_of
from .sentences import sentences_of

LINES = ("paragraph", "sentence")
TEXT = (".txt", ".text", ".md")
TABLES = (".csv", ".tsv")  # read where they are named; in a folder they tend to be lists of files
ROWS = (".jsonl", ".json", ".ndjson", ".parquet", *TABLES)
SURROGATE = re.compile("[\ud800-\udfff]")
NOT_DECODED = re.compile("[\udc80-\udcff]")  # bytes that were not UTF-8, as `open_text` gives them
NO_TEXT = "rows without text (null), which were passed over"
MENDED = "texts with half a character (a lone surrogate), which was replaced"


def find_inputs(inputs: list[str]) -> list[str]:
    """Files of `inputs` in order: folders and patterns are opened, `hub:NAME` is left as it is.

    Raises:
        ValueError: nothing there, or a file of another kind.
    """
    found: list[str] = []
    for name in inputs:
        if name.startswith("hub:"):
            found.append(name)
            continue
        path = Path(name)
        files = (
            sorted(
                str(each)
                for each in path.rglob("*")
                if kind_of(str(each)) and suffix_of(each) not in TABLES
            )
            if path.is_dir()
            else [name]
        )
        if not path.exists():
            files = sorted(glob.glob(name, recursive=True))
        if not files:
            raise ValueError(
                f"input must be a file, folder, pattern or hub:NAME with text in it, got {name!r}"
            )
        found += files
    for name in found:
        if not kind_of(name):
            known, packed = ", ".join((*TEXT, *ROWS)), ", ".join(COMPRESSION)
            raise ValueError(
                f"input must end in one of {known} (or {packed} after it) or begin with hub:, got "
                f"{name!r}"
            )
    return found


def kind_of(name: str) -> str | None:
    """One of "text", "rows", "hub", or None for a file that cannot be read."""
    if name.startswith("hub:"):
        return "hub"
    suffix = suffix_of(Path(name))
    return {**dict.fromkeys(TEXT, "text"), **dict.fromkeys(ROWS, "rows")}.get(suffix)


def read_documents(
    inputs: list[str],
    *,
    field: str = "text",
    lines: str = "paragraph",
    counts: Counter[str] | None = None,
) -> Iterator[list[str]]:
    """Documents of all inputs, one after another; one document at a time is in memory.

    Args:
        inputs: files (.txt, .jsonl, .csv, .parquet, ...; also compressed), folders, patterns, or
            `hub:NAME` for the "train" split of a data set of the hub, which is streamed
            (`hub:NAME:CONFIG` for one of its parts).
        field: the field of rows that holds the text. A row whose text is null is passed over.
        lines: whether a line of text is a "sentence", or a "paragraph" that `split_sentences` cuts.
        counts: where given, what was passed over and what was mended is counted in it.

    Returns:
        An iterator over documents: lists of sentences, never empty.

    Raises:
        ValueError: an input that is not there or cannot be read, a row without `field`, a bad
            `lines`.
    """
    if lines not in LINES:
        raise ValueError(f"lines must be one of {LINES}, got {lines!r}")
    noted: Counter[str] = Counter() if counts is None else counts
    return (
        sentences
        for name in find_inputs(inputs)
        for text in texts_of(name, field, noted)
        if (sentences := sentences_of(text, lines))
    )


def texts_of(name: str, field: str, counts: Counter[str]) -> Iterator[str]:
    """The text of each document of one input."""
    kind = kind_of(name)
    if kind == "text":
        yield from _text_documents(Path(name))
        return
    rows = READERS[suffix_of(Path(name))](Path(name)) if kind == "rows" else _hub_rows(name)
    for place, row in rows:
        if isinstance(row, BadRow):
            raise ValueError(f"input {place}: {row}")
        text = _text_of_row(row, field, place)
        if text is None:
            counts[NO_TEXT] += 1
            continue
        if has_surrogates(text):
            if NOT_DECODED.search(text):
                raise ValueError(f"input {place}: must be UTF-8, got {ascii(text[:60])}")
            # It has no UTF-8, so no tokenizer takes it. BERT's own passes over U+FFFD.
            text, _ = SURROGATE.subn("\ufffd", text)
            counts[MENDED] += 1
        yield text


def _text_documents(path: Path) -> Iterator[str]:
    """Runs of lines between blank lines."""
    document: list[str] = []
    with open_text(path) as file:
        for number, line in enumerate(lines_of(file), start=1):
            if has_surrogates(line):
                raise ValueError(f"input {path} must be UTF-8 text, got bad bytes in line {number}")
            if line.strip():
                document.append(line)
            elif document:
                yield "\n".join(document)
                document = []
    if document:
        yield "\n".join(document)


def _text_of_row(row: Any, field: str, place: str) -> str | None:
    """The text of a row, or None where it is null (NaN, as pandas writes it)."""
    text = row.get(field, 0) if isinstance(row, dict) else 0
    if text is None or text != text:
        return None
    if not isinstance(text, str):
        came = sorted(row) if isinstance(row, dict) else type(row).__name__
        raise ValueError(
            f"input {place}: must have text in the field {field!r}, got {came}; name another with "
            "--field"
        )
    return text


def _hub_rows(name: str) -> Iterator[tuple[str, Any]]:
    """Rows of a hub data set's train split, streamed, with their places."""
    from datasets import load_dataset

    given = tuple(name.removeprefix("hub:").split(":", 1))
    try:
        for number, row in enumerate(load_dataset(*given, split="train", streaming=True), start=1):
            yield f"{name}, row {number}", row
    except (OSError, ValueError) as error:  # the library's own errors are kinds of these
        reason = " ".join(str(error).split())
        raise ValueError(
            f"input {name} must be a data set that can be read, got {reason}"
        ) from error
