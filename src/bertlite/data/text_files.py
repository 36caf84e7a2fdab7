"""Text files as lines: compressed or not, in any encoding.

Bytes that are not of the encoding come as lone surrogates, which the checks of the rows find.
"""

import bz2
import codecs
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

COMPRESSION: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
MARKS = (  # first bytes by which a file says its encoding; UTF-32 begins as UTF-16 does
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@contextmanager
def open_text(path: Path, encoding: str | None = None) -> Iterator[IO[str]]:
    """A text file, compressed or not.

    Args:
        path: the file.
        encoding: None: UTF-8, or UTF-16 or UTF-32 where the file begins with its mark. A byte order
            mark is no part of the text.

    Raises:
        ValueError: the file is missing, cannot be decompressed, or is of another encoding.
    """
    opener = COMPRESSION.get(path.suffix.lower(), open)
    try:
        name = marked_encoding(path) if encoding is None else checked_encoding(encoding)
        with opener(path, "rt", encoding=name, errors="surrogateescape", newline="") as file:
            yield file
    except UnicodeError as error:
        raise ValueError(
            f"{path} must be UTF-8, or as its byte-order mark says, got: {error}"
        ) from error
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise ValueError(f"{path} must be a readable file, got: {error}") from error


def checked_encoding(encoding: str) -> str:
    """The encoding as Python names it; UTF-8 with or without its mark.

    Raises:
        ValueError: there is none of this name.
    """
    try:
        name = codecs.lookup(encoding).name
        "".encode(name)
    except LookupError as error:
        raise ValueError(
            f"encoding must be a name that Python knows, such as cp1252 or utf-16, got {encoding!r}"
        ) from error
    return "utf-8-sig" if name == "utf-8" else name


def marked_encoding(path: Path) -> str:
    """The encoding that the file's first bytes name, otherwise UTF-8."""
    opener = COMPRESSION.get(path.suffix.lower(), open)
    with opener(path, "rb") as file:
        first = file.read(4)
    return next((name for mark, name in MARKS if first.startswith(mark)), "utf-8-sig")


def holds_text(path: Path) -> bool:
    """Whether the file is text, as far as its first bytes tell: others hold zeros."""
    opener = COMPRESSION.get(path.suffix.lower(), open)
    with opener(path, "rb") as file:
        first = file.read(1024)
    return b"\0" not in first or any(first.startswith(mark) for mark, _ in MARKS)


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
