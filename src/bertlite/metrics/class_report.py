"""What a classifier does with each class: a table and a confusion matrix.

Shapes: `N` rows, `L` labels.
"""

import unicodedata
from collections.abc import Sequence
from typing import Any

COLUMNS = ("precision", "recall", "f1", "rows")
SHOWN = 20  # classes of a confusion matrix that still fit on a screen


def class_report(
    references: Sequence[Any], predictions: Sequence[Any], labels: Sequence[str]
) -> dict[str, Any]:
    """Figures of each class, and how often each was taken for which.

    Args:
        references: `N` numbers of the true classes, or `N` lists of `L` marks 0 and 1.
        predictions: likewise.
        labels: `L` names.

    Returns:
        `per_class`: for each label its precision, recall, F1 (0 where it is not defined) and how
        many rows truly have it; and, where a row has one class, `confusion_matrix`: `labels`, and
        `counts`, in which row i, column j counts rows of class i that were taken for class j.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    numbers = list(range(len(labels)))
    figures = precision_recall_fscore_support(
        references, predictions, labels=numbers, zero_division=0
    )
    per_class = {
        label: dict(zip(COLUMNS, (*map(float, each[:3]), int(each[3])), strict=True))
        for label, each in zip(labels, zip(*figures, strict=True), strict=True)
    }
    if len(references) and hasattr(references[0], "__len__"):
        return {"per_class": per_class}
    counts = confusion_matrix(references, predictions, labels=numbers)
    matrix = {"labels": list(labels), "counts": counts.tolist()}
    return {"per_class": per_class, "confusion_matrix": matrix}


def report_table(report: dict[str, Any]) -> str:
    r"""A report of `class_report` as text in columns.

    >>> print(report_table(class_report([0, 0, 1], [0, 1, 1], ["bad", "good"])))
          precision  recall      f1  rows
    bad      1.0000  0.5000  0.6667     2
    good     0.5000  1.0000  0.6667     1
    <BLANKLINE>
    true \ taken for  bad  good
    bad                 1     1
    good                0     1
    """
    rows = [["", *COLUMNS]]
    for label, figures in report["per_class"].items():
        rows.append([label, *(f"{figures[name]:.4f}" for name in COLUMNS[:3]), figures["rows"]])
    text = in_columns(rows)
    matrix = report.get("confusion_matrix")
    if matrix is None:
        return text
    if len(matrix["labels"]) > SHOWN:
        return f"{text}\n\n{confused_most(matrix)}"
    counted = [["true \\ taken for", *matrix["labels"]]]
    counted += [
        [label, *row] for label, row in zip(matrix["labels"], matrix["counts"], strict=True)
    ]
    return f"{text}\n\n{in_columns(counted)}"


def confused_most(matrix: dict[str, Any]) -> str:
    """The pairs of classes that are mixed up most often, where the matrix is too wide to read."""
    labels, counts = matrix["labels"], matrix["counts"]
    pairs = [
        (counts[row][column], labels[row], labels[column])
        for row in range(len(labels))
        for column in range(len(labels))
        if row != column and counts[row][column]
    ]
    pairs.sort(key=lambda pair: -pair[0])
    rows = [["true", "taken for", "rows"]]
    rows += [[true, taken, count] for count, true, taken in pairs[:SHOWN]]
    return in_columns(rows)


def in_columns(rows: Sequence[Sequence[Any]]) -> str:
    """Cells as text: the first column to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(screen_width, column)) for column in zip(*cells, strict=True)]
    lines = []
    for first, *rest in cells:
        padded = [
            " " * (width - screen_width(cell)) + cell
            for cell, width in zip(rest, widths[1:], strict=True)
        ]
        lines.append("  ".join([first + " " * (widths[0] - screen_width(first)), *padded]).rstrip())
    return "\n".join(lines)


def screen_width(text: str) -> int:
    """Columns of a terminal that a text takes."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)
