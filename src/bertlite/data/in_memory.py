"""Rows that are in memory: dictionaries, data frames, tables, columns."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

PER_BATCH = 1000


def is_rows(data: Any) -> bool:
    """Whether these are dictionaries, one a row."""
    return (
        isinstance(data, Sequence)
        and not isinstance(data, str)
        and all(isinstance(row, Mapping) for row in data)
    )


def is_table(data: Any) -> bool:
    """Whether this is a data frame, or a table of pyarrow."""
    return hasattr(data, "iloc") or hasattr(data, "to_batches")


def is_columns(data: Any) -> bool:
    """Whether this is a dictionary of columns, each a list of values."""
    return isinstance(data, Mapping) and all(
        isinstance(column, list | tuple) or hasattr(column, "tolist") for column in data.values()
    )


def read_list(rows: Iterable[Any], place: str) -> Iterator[tuple[str, Any]]:
    """Dictionaries in memory, or rows of a data set, numbered from 1."""
    for number, row in enumerate(rows, start=1):
        yield f"{place} {number}", {str(name): plain(value) for name, value in row.items()}


def read_table(table: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Rows of a data frame or a table, numbered from 1.

    Whatever the frame writes for a value that is missing is None.
    """
    number = 0
    for batch in batches_of(table):
        for row in batch:
            number += 1
            yield f"{place} {number}", {str(name): plain(value) for name, value in row.items()}


def batches_of(table: Any) -> Iterator[list[dict[Any, Any]]]:
    """The rows, some at a time."""
    if hasattr(table, "to_batches"):
        for batch in table.to_batches(PER_BATCH):
            yield batch.to_pylist()
        return
    for start in range(0, len(table), PER_BATCH):
        part = table.iloc[start : start + PER_BATCH].astype(object)
        yield part.where(part.notna(), None).to_dict("records")


def plain(value: Any) -> Any:
    """A value without numpy: an array as a list, a number as Python's, inside objects too."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list) and any(hasattr(each, "tolist") for each in value):
        return [plain(each) for each in value]
    return value


def rows_of_columns(columns: Mapping[str, Any], split: str) -> list[dict[str, Any]]:
    """Dictionaries, one a row.

    Raises:
        ValueError: the columns are not of one length.
    """
    lengths = {str(name): len(column) for name, column in columns.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"{split} must have columns of one length, got {lengths}")
    values = zip(*(plain(column) for column in columns.values()), strict=True)
    return [dict(zip(lengths, row, strict=True)) for row in values]
