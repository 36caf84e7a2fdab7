"""Scores that can be acted on: how far they are from true frequencies, and one number that mends
most of it.

Sources: Guo et al. 2017 (https://arxiv.org/abs/1706.04599): temperature scaling, and the expected
calibration error over bins of equal width; Brier 1950 for the score.

Shapes: `N` rows, `L` labels.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..inference.label_sets import THRESHOLDS
from ..inference.loading import check_counts
from ..inference.sequence_classification import TEMPERATURE
from ..tasks.base import Row, Task, TaskOptions
from .label_sets import fit_thresholds

MULTI = "multi_label_classification"
CLASSES = ("single_label_classification", MULTI)  # problem types


def fit_temperature(logits: Any, labels: Any, *, multi_label: bool = False) -> float:
    """The temperature T for which softmax(logits / T) gives the labels the highest likelihood.

    It changes no decision between labels, only how sure they are: above 1, scores were too high.

    Args:
        logits: `(N, L)`; log-probabilities serve as well, since softmax takes any constant away.
        labels: `(N,)` classes, or `(N, L)` of 0 and 1 with `multi_label`, where each label has a
            sigmoid of its own.
        multi_label: whether labels exclude each other.

    Returns:
        Between 0.05 and 20; 1.0 where all rows are right, so that the lower, the better: so few
        rows say nothing of how sure the model may be.

    Raises:
        ValueError: no rows, shapes that do not fit, labels that are no classes, or logits that are
            no finite numbers.
    """
    from scipy.optimize import minimize_scalar

    logits, labels = checked(logits, labels, multi_label)

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        if multi_label:
            return float(np.logaddexp(0, np.where(labels > 0, -scaled, scaled)).mean())
        top = scaled.max(1, keepdims=True)
        total = np.log(np.exp(scaled - top).sum(1)) + top[:, 0]
        return float((total - scaled[np.arange(len(scaled)), labels]).mean())

    right = (logits > 0) == (labels > 0) if multi_label else logits.argmax(1) == labels
    edge = np.log(20.0)
    found = minimize_scalar(loss, bounds=(-edge, edge), method="bounded")
    return 1.0 if right.all() or not found.fun < loss(0.0) else float(np.exp(found.x))


def checked(logits: Any, labels: Any, multi_label: bool) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays; a ValueError where they do not fit."""
    logits, labels = np.asarray(logits, dtype=float), np.asarray(labels)
    expected = logits.shape if multi_label else logits.shape[:1]
    if logits.ndim != 2 or not len(logits) or labels.shape != expected:
        raise ValueError(
            f"labels must have the shape {expected} for logits (N, L) of at least one row, got "
            f"{labels.shape} for {logits.shape}"
        )
    if not np.isfinite(logits).all():
        raise ValueError("logits must be finite numbers, got some that are not")
    check_classes(labels, logits.shape[1], multi_label)
    return logits, labels if multi_label else labels.astype(int)


def check_classes(labels: np.ndarray, count: int, multi_label: bool) -> None:
    """Refuse, with a ValueError, labels that are none of `count` classes, or marks beyond 0 and 1.

    A number below 0 would count from the last class on.
    """
    last = 1 if multi_label else count - 1
    if odd := labels[~((labels >= 0) & (labels <= last))].tolist():
        kind = "marks" if multi_label else "classes"
        raise ValueError(f"labels must be {kind} from 0 to {last}, got {odd[0]}")


def expected_calibration_error(scores: Any, right: Any, *, bins: int = 15) -> float:
    """How far scores lie from the share of answers that are right, on average over the rows.

    Rows are put into `bins` of equal width by their score; of each bin, the distance of its mean
    score from its share of right answers counts by its number of rows.

    Args:
        scores: of the answers, from 0 to 1, `(N,)`.
        right: whether each is right, `(N,)`.
        bins: how many.

    Raises:
        ValueError: no rows, unequal numbers of them, or scores beyond 0 to 1.

    >>> round(expected_calibration_error([0.9, 0.9, 0.6, 0.6], [True, False, True, True]), 3)
    0.4
    """
    found = reliability(scores, right, bins=bins)
    total = sum(each["rows"] for each in found)
    return sum(abs(each["score"] - each["right"]) * each["rows"] for each in found) / total


def reliability(scores: Any, right: Any, *, bins: int = 15) -> list[dict[str, Any]]:
    """Of each bin of scores that holds any: what a reliability diagram draws.

    Args:
        scores: of the answers, from 0 to 1, `(N,)`.
        right: whether each is right, `(N,)`.
        bins: how many, of equal width.

    Returns:
        For each bin `from` and `to`, its number of `rows`, their mean `score`, and the share of
        them that is `right`.

    Raises:
        ValueError: no rows, unequal numbers of them, or scores beyond 0 to 1.
    """
    check_counts(1, bins=bins)
    probabilities, hits = np.asarray(scores, dtype=float), np.asarray(right, dtype=float)
    if not len(probabilities) or probabilities.shape != hits.shape or probabilities.ndim != 1:
        raise ValueError(
            f"right must be as many as scores, at least one, got {hits.shape} and "
            f"{probabilities.shape}"
        )
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("scores must lie between 0 and 1, got some that do not")
    places = np.minimum((probabilities * bins).astype(int), bins - 1)
    counts = np.bincount(places, minlength=bins)
    sums = [np.bincount(places, weights=each, minlength=bins) for each in (probabilities, hits)]
    return [
        {
            "from": place / bins,
            "to": (place + 1) / bins,
            "rows": int(counts[place]),
            "score": float(sums[0][place] / counts[place]),
            "right": float(sums[1][place] / counts[place]),
        }
        for place in np.flatnonzero(counts).tolist()
    ]


def brier_score(probabilities: Any, labels: Any) -> float:
    """Mean squared distance of the probabilities `(N, L)` from 1 at the label and 0 elsewhere.

    From 0, all sure and right, to 2, all sure and wrong. `labels` are classes `(N,)`, or `(N, L)`
    of 0 and 1; a ValueError refuses others.

    >>> round(brier_score([[0.8, 0.2], [0.4, 0.6]], [0, 0]), 3)
    0.4
    """
    found, given = np.asarray(probabilities, dtype=float), np.asarray(labels)
    check_classes(given, found.shape[-1], given.ndim == 2)
    marks = given if given.ndim == 2 else np.eye(found.shape[1])[given.astype(int)]
    if marks.shape != found.shape:
        raise ValueError(f"labels must fit probabilities {found.shape}, got {given.shape}")
    return float(np.square(found - marks).sum(1).mean())


def log_odds(probabilities: np.ndarray, multi_label: bool) -> np.ndarray:
    """Logits that give these probabilities `(N, L)`: what temperature scaling divides."""
    tiny = 1e-12
    kept = np.clip(probabilities, tiny, 1 - tiny if multi_label else 1.0)
    return np.log(kept) - np.log1p(-kept) if multi_label else np.log(kept)


def calibrate(
    task: Task, model: Any, tokenizer: Any, data: Any, options: TaskOptions
) -> dict[str, Any]:
    """Fit a classifier's temperature and the thresholds of its conformal sets on the validation
    rows, and keep them in `model.config`.

    Args:
        task: what the model does.
        model: the final one.
        tokenizer: its tokenizer.
        data: `TaskData`.
        options: how texts are cut.

    Returns:
        The temperature and, of each split that is there, the expected calibration error and the
        Brier score without and with it; nothing where there is nothing to fit: another task, no
        validation rows, or numbers instead of classes.
    """
    if data.validation is None or data.problem_type not in CLASSES:
        return {}
    several, options = data.problem_type == MULTI, with_all_labels(options, model)
    forget_temperature(model)  # what is fitted is the model itself
    found: dict[str, Any] = {}
    for split in ("validation", "test"):
        rows = getattr(data, split)
        if rows is None:
            continue
        rows = list(rows)
        labels = np.asarray([row["label"] for row in rows])
        predictions = task.predict(rows, model, tokenizer, options, show_progress=False)
        logits = log_odds(label_scores(predictions, model), several)
        if split == "validation":
            found["temperature"] = fit_temperature(logits, labels, multi_label=several)
            honest = probabilities_of(logits / found["temperature"], several)
            setattr(model.config, THRESHOLDS, fit_thresholds(honest, labels))
        before = calibration_figures(logits, labels, several)
        after = calibration_figures(logits / found["temperature"], labels, several)
        found[split] = {f"{name}_uncalibrated": value for name, value in before.items()} | after
    setattr(model.config, TEMPERATURE, found["temperature"])
    return found


def score_figures(
    rows: Sequence[Row], predictions: Sequence[Row], model: Any, problem_type: str | None
) -> dict[str, Any]:
    """How far the scores of predictions, which hold those of all labels, can be trusted.

    Returns:
        Expected calibration error, Brier score, and `reliability`, the bins of a diagram. Nothing
        where rows are not labelled with classes.
    """
    if problem_type not in CLASSES:
        return {}
    several = problem_type == MULTI
    logits = log_odds(label_scores(predictions, model), several)
    labels = np.asarray([row["label"] for row in rows])
    scores, right = answers_of(probabilities_of(logits, several), labels, several)
    bins = {"reliability": reliability(scores, right)}
    return {**calibration_figures(logits, labels, several), **bins}


def forget_temperature(model: Any) -> None:
    """Take an earlier run's temperature and thresholds away: they say nothing of weights that are
    trained on.
    """
    for name in (TEMPERATURE, THRESHOLDS):
        if hasattr(model.config, name):
            setattr(model.config, name, None)


def with_all_labels(options: TaskOptions, model: Any) -> TaskOptions:
    """The options with which `Task.predict` gives the scores of every label."""
    return dataclasses.replace(options, top_k=model.config.num_labels, coverage=None)


def label_scores(predictions: Sequence[dict], model: Any) -> np.ndarray:
    """The probability of every label `(N, L)`, of predictions that hold all of them."""
    names = [model.config.id2label[number] for number in range(model.config.num_labels)]
    return np.asarray([[row["scores"][name] for name in names] for row in predictions])


def calibration_figures(logits: np.ndarray, labels: np.ndarray, several: bool) -> dict[str, float]:
    """Expected calibration error and Brier score of `(N, L)` logits.

    With several labels a row, the error is over all pairs of row and label.
    """
    probabilities = probabilities_of(logits, several)
    error = expected_calibration_error(*answers_of(probabilities, labels, several))
    return {"expected_calibration_error": error, "brier_score": brier_score(probabilities, labels)}


def probabilities_of(logits: np.ndarray, several: bool) -> np.ndarray:
    """Logits `(N, L)` as probabilities: a softmax, or with several labels a row, sigmoids."""
    if several:
        return 1 / (1 + np.exp(-logits))
    scores = np.exp(logits - logits.max(1, keepdims=True))
    return scores / scores.sum(1, keepdims=True)


def answers_of(
    probabilities: np.ndarray, labels: np.ndarray, several: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The scores of answers, and whether each is right.

    One answer a row, `(N,)`; with several labels a row, one for each pair, `(N · L,)`.
    """
    if several:
        return probabilities.ravel(), (labels > 0).ravel()
    return probabilities.max(1), probabilities.argmax(1) == labels
