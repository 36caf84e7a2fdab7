"""Documents as lists of sentences, read one at a time from text, JSON lines, Parquet or a hub data
set.

A text file holds many documents, with blank lines between them (as for create_pretraining_data.py
of github.com/google-research/bert); a row of the other formats is one document.
"""

import glob
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LINES = ("paragraph", "sentence")
TEXT, JSON, PARQUET = (".txt", ".text", ".md"), (".jsonl", ".json", ".ndjson"), (".parquet",)
# An end of sentence, with what closes it; then white space and something that can begin a sentence.
SENTENCE_END = re.compile(
    r"(?<=[.!?…])[\"'”’)\]]*\s+(?=[\"'“‘(\[¿¡]*[^\W_a-z])|(?<=[。！？])(?![”’」』）])"
)
ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|vs|etc|e\.g|i\.e|cf|al|No|Nr|Fig|fig|vol|pp?|z\.B|bzw|ca)\.$"
)


def split_sentences(paragraph: str) -> list[str]:
    """Cut a paragraph into sentences by simple rules, which need no model and no language.

    A sentence ends with . ! ? or …, perhaps a closing quote or bracket, when white space and then a
    letter that is not a plain lower-case one, or a digit, follow; or with 。！？. Initials ("J.") and
    common abbreviations do not end one. It errs at times, mostly by leaving two sentences together,
    which BERT's segments bear: they hold several.

    >>> split_sentences('Dr. Who came. "Why?" he asked! Nobody knew.')
    ['Dr. Who came.', '"Why?" he asked!', 'Nobody knew.']
    """
    sentences, start = [], 0
    for match in SENTENCE_END.finditer(paragraph):
        closing = match.group().rstrip()
        piece = paragraph[start : match.start() + len(closing)].strip()
        if piece and not ABBREVIATION.search(piece):
            sentences.append(piece)
            start = match.end()
    rest = paragraph[start:].strip()
    return [*sentences, rest] if rest else sentences


def sentences_of(text: str, lines: str) -> list[str]:
    """Sentences of one document, of which each line is a sentence or a paragraph.

    Blank lines count for nothing.
    """
    found = (line.strip() for line in text.splitlines())
    if lines == "sentence":
        return [line for line in found if line]
    return [sentence for line in found if line for sentence in split_sentences(line)]


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
            sorted(str(each) for each in path.rglob("*") if kind_of(str(each)))
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
            known = ", ".join((*TEXT, *JSON, *PARQUET))
            raise ValueError(
                f"input must end in one of {known} (or .gz after it) or begin with hub:, got "
                f"{name!r}"
            )
    return found


def kind_of(name: str) -> str | None:
    """One of "text", "json", "parquet", "hub", or None for a file that cannot be read."""
    if name.startswith("hub:"):
        return "hub"
    suffix = Path(name.removesuffix(".gz")).suffix.lower()
    return {
        **dict.fromkeys(TEXT, "text"),
        **dict.fromkeys(JSON, "json"),
        **dict.fromkeys(PARQUET, "parquet"),
    }.get(suffix)


def read_documents(
    inputs: list[str], *, field: str = "text", lines: str = "paragraph"
) -> Iterator[list[str]]:
    """Documents of all inputs, one after another; one document at a time is in memory.

    Args:
        inputs: files (.txt, .jsonl, .parquet; the first two also .gz), folders, patterns, or
            `hub:NAME` for the "train" split of a data set of the hub, which is streamed
            (`hub:NAME:CONFIG` for one of its parts).
        field: the field of JSON, Parquet and hub rows that holds the text.
        lines: whether a line of text is a "sentence", or a "paragraph" that `split_sentences` cuts.

    Returns:
        An iterator over documents: lists of sentences, never empty.

    Raises:
        ValueError: an input that is not there or cannot be read, a row without `field`, a bad
            `lines`.
    """
    if lines not in LINES:
        raise ValueError(f"lines must be one of {LINES}, got {lines!r}")
    return (
        sentences
        for name in find_inputs(inputs)
        for text in texts_of(name, field)
        if (sentences := sentences_of(text, lines))
    )


def texts_of(name: str, field: str) -> Iterator[str]:
    """The text of each document of one input."""
    kind = kind_of(name)
    if kind == "text":
        yield from _text_documents(name)
    elif kind == "json":
        for number, line in enumerate(_open(name), start=1):
            if line.strip():
                yield _text_of_row(_parse(line, name, number), field, f"{name}, line {number}")
    else:
        for number, row in enumerate(_load_streaming(name), start=1):
            yield _text_of_row(row, field, f"{name}, row {number}")


def _open(name: str):
    opener: Any = gzip.open if name.endswith(".gz") else open
    with opener(name, "rt", encoding="utf-8") as file:
        try:
            yield from file
        except (UnicodeDecodeError, EOFError, OSError) as error:
            raise ValueError(
                f"input {name} must be UTF-8 text (in a whole .gz file): {error}"
            ) from error


def _text_documents(name: str) -> Iterator[str]:
    """Runs of lines between blank lines."""
    document: list[str] = []
    for line in _open(name):
        if line.strip():
            document.append(line)
        elif document:
            yield "".join(document)
            document = []
    if document:
        yield "".join(document)


def _parse(line: str, name: str, number: int) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{name}, line {number}: must be a JSON object, got {line[:60]!r} ({error})"
        ) from error


def _text_of_row(row: Any, field: str, place: str) -> str:
    if not isinstance(row, dict) or not isinstance(row.get(field), str):
        came = sorted(row) if isinstance(row, dict) else type(row).__name__
        raise ValueError(
            f"{place}: must have text in the field {field!r}, got {came}; name another with --field"
        )
    return row[field]


def _load_streaming(name: str):
    """Rows of a Parquet file or of a hub data set's train split, without loading the whole."""
    from datasets import load_dataset

    if kind_of(name) == "parquet":
        given: tuple[str, ...] = ("parquet",)
        options: dict[str, Any] = {"data_files": name}
    else:
        given, options = tuple(name.removeprefix("hub:").split(":", 1)), {}
    try:
        yield from load_dataset(*given, split="train", streaming=True, **options)
    except (OSError, ValueError) as error:  # the library's own errors are kinds of these
        reason = " ".join(str(error).split())
        raise ValueError(
            f"input {name} must be a data set that can be read, got {reason}"
        ) from error
