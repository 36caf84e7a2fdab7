"""Thresholds of conformal sets, fitted on validation rows, and what the sets hold of other rows.

Sources: see `inference.label_sets`.

Shapes: `N` rows, `L` labels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..inference.label_sets import HIGHEST, LOWEST, coverage_key

SLACK = 1e-6  # probabilities of fp32 and fp64 differ by less


def fit_thresholds(probabilities: Any, labels: Any) -> dict[str, float]:
    """The probability from which a label is in the set, for each coverage that rows can vouch for.

    A row's score is the probability of its label, with several labels that of the least probable
    one. Of N rows, the k-th largest score with k = ⌈(N + 1) · coverage⌉ is the threshold: the label
    of another row of their kind reaches it with a probability of at least the coverage.

    Args:
        probabilities: `(N, L)`, calibrated or not, as they will be at prediction.
        labels: classes `(N,)`, or `(N, L)` of 0 and 1.

    Returns:
        Coverage, as "0.90", to threshold: from 0.50 to at most 0.99, so far as k is at most N.

    >>> scores = [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]]
    >>> {key: round(value, 3) for key, value in fit_thresholds(scores, [0, 0, 0, 0]).items()
    ...  if key in ("0.60", "0.80")}
    {'0.60': 0.7, '0.80': 0.4}
    """
    scores = np.sort(true_scores(np.asarray(probabilities, dtype=float), np.asarray(labels)))[::-1]
    found = {}
    for hundredths in range(round(LOWEST * 100), round(HIGHEST * 100) + 1):
        place = -(-(len(scores) + 1) * hundredths // 100)  # ⌈(N + 1) · coverage⌉
        if place <= len(scores):
            found[coverage_key(hundredths)] = max(float(scores[place - 1]) - SLACK, 0.0)
    return found


def true_scores(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The probability of each row's label, or of the least probable of its labels: `(N,)`.

    A row without any label is covered by every set: 1.
    """
    if labels.ndim == 1:
        return probabilities[np.arange(len(labels)), labels.astype(int)]
    return np.where(labels > 0, probabilities, 1.0).min(1)


def set_figures(
    sets: Sequence[Sequence[str]], rightly: Sequence[Sequence[str]]
) -> dict[str, float]:
    """How often sets hold all right labels of their row, and how large they are.

    >>> set_figures([["a"], ["a", "b"], []], [["a"], ["b"], ["a"]])
    {'covered': 0.6666666666666666, 'labels_per_set': 1.0, 'empty_sets': 0.3333333333333333}
    """
    pairs = list(zip(sets, rightly, strict=True))
    return {
        "covered": sum(set(right) <= set(found) for found, right in pairs) / len(pairs),
        "labels_per_set": sum(len(found) for found, _ in pairs) / len(pairs),
        "empty_sets": sum(not found for found, _ in pairs) / len(pairs),
    }


def names_of(label: Any, id2label: Mapping[int, str]) -> list[str]:
    """The names of a canonical row's label: one class, or one mark a class."""
    if isinstance(label, list | tuple | np.ndarray):
        return [id2label[number] for number, mark in enumerate(label) if mark > 0.5]
    return [id2label[label]]
