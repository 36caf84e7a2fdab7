"""What was decided about the data, in words, for whoever is about to train on them."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from .problems import Problems
from .rows import TaskRows

NAMED = 20  # labels of which the rows are counted in words


def column_words(columns: Mapping[str, Any]) -> str:
    """Which column plays which role.

    >>> column_words({"text": "Review", "label": ["rude", "loud"]})
    'text is Review; label is rude, loud'
    """
    return "; ".join(
        f"{role} is {column if isinstance(column, str) else ', '.join(column)}"
        for role, column in columns.items()
    )


def label_words(dataset: Any, reader: TaskRows, counts: Counter[str]) -> str:
    """The labels of a split with how often each is there; of numbers their range.

    Nothing where the task has no labels.
    """
    if reader.labels is None or reader.label is None:
        return ""
    if reader.labels.names is None:
        values = np.asarray(dataset.with_format(None)[reader.label])
        return f"numbers from {values.min():g} to {values.max():g}, {values.mean():g} on average"
    names = reader.labels.names
    listed = ", ".join(f"{name} {counts[name]:,}" for name in names[:NAMED])
    return f"{listed}{f', … ({len(names):,} in all)' if len(names) > NAMED else ''}"


def row_words(rows: int | None, split: str, problems: Problems) -> str:
    """How many rows a split has, and how many were left out, by reason."""
    found = "as they stream" if rows is None else f"{rows:,} rows"
    reasons = problems.by_split.get(split)
    if not reasons:
        return found
    listed = ", ".join(f"{count:,} × {kind}" for kind, count in reasons.most_common())
    return f"{found}, {reasons.total():,} left out ({listed})"
