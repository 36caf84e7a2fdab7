"""Texts to learn a vocabulary from: what is asked of them, and how they are read from files."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..data.formats import READERS, lines_of, open_text, suffix_of
from ..data.problems import BadRow, has_surrogates


def check_sizes(vocab_size: int, least: int, min_frequency: int, model_max_length: int) -> None:
    """Refuse a vocabulary without room for a token of its own, and numbers below their least."""
    if vocab_size <= least:
        raise ValueError(
            f"vocab_size must be above {least}, which special tokens and bytes take, got "
            f"{vocab_size}"
        )
    if min_frequency < 1:
        raise ValueError(f"min_frequency must be at least 1, got {min_frequency}")
    if model_max_length < 2:
        raise ValueError(f"model_max_length must be at least 2, got {model_max_length}")


def not_empty(texts: Iterable[str]) -> Iterator[str]:
    """The texts; a ValueError where there is none to learn from."""
    if isinstance(texts, str):
        raise ValueError(
            "texts must be many texts, got a single one: give [text], or the lines of a file"
        )
    count = 0
    for text in texts:
        if text.strip():
            count += 1
            yield text
    if not count:
        raise ValueError("texts must hold at least one that is not empty, got none")


def read_texts(paths: Sequence[str | Path], fields: Sequence[str] = ()) -> Iterator[str]:
    """Texts of files.

    A line each of plain text; of rows (JSON lines, CSV, Parquet, …) each of the fields.

    Args:
        paths: files, compressed or not.
        fields: of rows; `translation.en` is the field `en` inside `translation`. A field that is
            null holds no text, and is passed over.

    Raises:
        ValueError: a file or a field is missing, a line is not UTF-8 or broken, or rows come
            without fields.
    """
    for path in map(Path, paths):
        if suffix_of(path) in READERS:
            yield from texts_of_rows(path, fields)
            continue
        if fields:
            raise ValueError(
                f"--field is for rows ({', '.join(READERS)}), got the plain text {path}"
            )
        with open_text(path) as file:
            for number, line in enumerate(lines_of(file), start=1):
                yield checked(line, f"{path.name} line {number}")


def texts_of_rows(path: Path, fields: Sequence[str]) -> Iterator[str]:
    """Texts of one file of rows."""
    if not fields:
        raise ValueError(f"--field must name the texts' fields in {path}, got none")
    for where, row in READERS[suffix_of(path)](path):
        if isinstance(row, BadRow):
            raise ValueError(f"{where}: {row}")
        for name in fields:
            value = field_of(row, name, where)
            if value is not None:
                yield checked(value, where)


def field_of(row: dict[str, Any], name: str, where: str) -> Any:
    """The field of a row; a dot goes one level in."""
    value: Any = row
    for key in [name] if name in row else name.split("."):
        if not isinstance(value, dict) or key not in value:
            raise ValueError(
                f"{where}: --field must be one of {', '.join(row)} (or inside one), got {name!r}"
            )
        value = value[key]
    return value


def checked(text: Any, where: str) -> str:
    """The text, if it is one and UTF-8."""
    if not isinstance(text, str):
        raise ValueError(f"{where}: must be a text, got {type(text).__name__}")
    if has_surrogates(text):
        raise ValueError(f"{where}: must be UTF-8, got {ascii(text[:60])}")
    return text
