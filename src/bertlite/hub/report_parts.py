"""What a card says of each class, with the pictures that lie beside it."""

from collections.abc import Mapping
from typing import Any

from ..metrics.class_report import COLUMNS
from ..metrics.pictures import LACKING
from .card import as_table

LISTED = 50  # classes in the table; all of them stand in metrics.json
MATRIX = 12  # classes of a confusion matrix that can be read as a table
TITLES = {
    "confusion_matrix.png": "Confusion matrix",
    "reliability.png": "Reliability: the share of right answers, by score",
}


def report_parts(report: Mapping[str, Any] | None) -> list[str]:
    """Paragraphs of a card.

    Args:
        report: of `training.reports.report_of`, with `split`, the rows that were measured, and
            `pictures`, the names of files beside the card; None where a task has no classes.
    """
    if not report:
        return []
    parts = []
    if "per_class" in report:
        parts += [f"Of each class, on the {report['split']} rows:", class_table(report)]
    matrix = report.get("confusion_matrix")
    if matrix is not None and len(matrix["labels"]) <= MATRIX:
        parts += ["Rows of each class (down) that were taken for which (across):"]
        parts += [matrix_table(matrix)]
    parts += [f"![{TITLES[name]}]({name})" for name in report["pictures"]]
    if not report["pictures"] and ("reliability" in report or matrix is not None):
        parts.append(f"No pictures were drawn: {LACKING}.")
    return parts


def class_table(report: Mapping[str, Any]) -> str:
    """Precision, recall, F1 and rows of each class."""
    found = list(report["per_class"].items())
    rows = [[cell(label), *(part[name] for name in COLUMNS)] for label, part in found[:LISTED]]
    more = len(found) - LISTED
    return as_table(["", *COLUMNS], rows) + (f"\n\n... and {more:,} more." if more > 0 else "")


def matrix_table(matrix: Mapping[str, Any]) -> str:
    """The confusion matrix with its labels."""
    labels = [cell(label) for label in matrix["labels"]]
    rows = [[label, *counts] for label, counts in zip(labels, matrix["counts"], strict=True)]
    return as_table(["", *labels], rows)


def cell(label: str) -> str:
    r"""A label as it can stand in a table.

    >>> cell("a|b")
    'a\\|b'
    """
    return " ".join(str(label).replace("|", "\\|").split())
