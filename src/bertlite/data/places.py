"""Where a result is to be written, looked at before the work that makes it; names in errors."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def called(name: str, inside: str) -> Iterator[None]:
    """Errors that begin with an argument's name `inside` begin with that of the caller's instead.

    >>> with called("data", "test"):
    ...     raise ValueError("test must be a file that exists, got a.csv")
    Traceback (most recent call last):
    ValueError: data must be a file that exists, got a.csv
    """
    try:
        yield
    except ValueError as error:
        said = str(error)
        if not said.startswith(f"{inside} "):
            raise
        raise ValueError(name + said.removeprefix(inside)) from error


def check_writable(name: str, path: str | os.PathLike) -> None:
    """Refuse a place that nothing can be written to; nothing is made there.

    Args:
        name: of the argument or option.
        path: the file or folder that is to be written.

    Raises:
        ValueError: the nearest folder above it that is there cannot be written, or is a file.
    """
    above = next(each for each in Path(path).absolute().parents if each.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise ValueError(f"{name} must be in a folder that can be written, got {path} and {above}")


def check_output_file(name: str, path: str | os.PathLike | None) -> None:
    """As `check_writable`, of a file; None passes.

    Raises:
        ValueError: it is a folder, or cannot be written.
    """
    if path is None:
        return
    if Path(path).is_dir():
        raise ValueError(f"{name} must be a file to write to, got the folder {path}")
    check_writable(name, path)
