"""Temperatures and calibration errors: worked by hand, and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from bertlite.training.calibration import (
    brier_score,
    calibration_figures,
    expected_calibration_error,
    fit_temperature,
    log_odds,
    reliability,
)


def test_a_temperature_by_hand():
    """Logits (2, 0) with three of four right: softmax(2 / T) must be 3/4, so T = 2 / log 3."""
    logits, labels = [[2.0, 0.0]] * 4, [0, 0, 0, 1]
    assert fit_temperature(logits, labels) == pytest.approx(2 / np.log(3), rel=1e-3)
    # The same from probabilities: softmax takes the constant away.
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert fit_temperature(log_odds(scores, False), labels) == pytest.approx(
        2 / np.log(3), rel=1e-3
    )


def test_a_temperature_of_several_labels_by_hand():
    """Each label has a sigmoid: of logits 2 and -2, three of four marks each are as they say."""
    logits = [[2.0, -2.0]] * 4
    labels = [[1, 0], [1, 0], [1, 1], [0, 0]]
    expected = 2 / np.log(3)
    assert fit_temperature(logits, labels, multi_label=True) == pytest.approx(expected, rel=1e-3)
    scores = 1 / (1 + np.exp(-np.asarray(logits)))
    np.testing.assert_allclose(log_odds(scores, True), logits)


def test_temperatures_that_are_drawn_are_found():
    """Labels drawn from softmax(logits / 2.5): as many rows as that, and the fit finds 2.5."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(20_000, 4)) * 4
    scores = np.exp(logits / 2.5)
    scores /= scores.sum(1, keepdims=True)
    labels = [random.choice(4, p=row) for row in scores]
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(2.5, rel=0.05)
    before, after = (calibration_figures(logits / t, np.asarray(labels), False) for t in (1, found))
    assert after["expected_calibration_error"] < 0.5 * before["expected_calibration_error"]
    assert after["brier_score"] < before["brier_score"]


def test_no_temperature_is_invented():
    """All right, the lowest would be the best; where nothing is told apart, none is better."""
    assert fit_temperature([[3.0, 0.0], [0.0, 3.0]], [0, 1]) == 1.0
    assert fit_temperature([[0.0, 0.0]], [1]) == 1.0
    assert fit_temperature([[9.0, 0.0]] * 2, [0, 1]) == pytest.approx(20, rel=0.01)  # chance


def test_calibration_error_by_hand():
    # Bins of a tenth: 0.95 twice, one right: |0.95 - 0.5| · 2/5; 0.65 three times, all right:
    # |0.65 - 1| · 3/5.
    scores, right = [0.95, 0.95, 0.65, 0.65, 0.65], [True, False, True, True, True]
    expected = 0.45 * 2 / 5 + 0.35 * 3 / 5
    assert expected_calibration_error(scores, right, bins=10) == pytest.approx(expected)
    assert expected_calibration_error([1.0, 0.0], [True, False]) == 0.0  # the edges have a bin


def test_brier_score_by_hand_and_by_scikit_learn():
    # (0.2² + 0.2²) and (0.6² + 0.6²), halved.
    assert brier_score([[0.8, 0.2], [0.4, 0.6]], [0, 0]) == pytest.approx((0.08 + 0.72) / 2)
    scores, labels = np.asarray([0.1, 0.7, 0.4]), np.asarray([0, 1, 1])
    both = np.stack([1 - scores, scores], axis=1)
    assert brier_score(both, labels) == pytest.approx(2 * brier_score_loss(labels, scores))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: fit_temperature([[1.0, 2.0]], [0, 1]), "labels must have the shape"),
        (lambda: fit_temperature([[np.nan, 2.0]], [0]), "logits must be finite"),
        (lambda: fit_temperature(np.zeros((0, 2)), []), "at least one row"),
        (lambda: expected_calibration_error([1.5], [True]), "between 0 and 1"),
        (lambda: expected_calibration_error([], []), "at least one"),
        (lambda: brier_score([[1.0, 0.0]], [[1, 0, 0]]), "labels must fit"),
    ],
)
def test_what_does_not_fit_is_refused(function, message):
    with pytest.raises(ValueError, match=message):
        function()


@pytest.mark.parametrize("label", [-1, -100, 2])
def test_labels_that_are_no_classes_are_refused(label):
    """One below 0 would be taken for the last class, and so on backwards."""
    scores = [[1.0, 2.0], [2.0, 1.0]]
    for function in (fit_temperature, brier_score):
        with pytest.raises(ValueError, match=f"labels must be classes from 0 to 1, got {label}"):
            function(scores, [0, label])
    with pytest.raises(ValueError, match="labels must be marks from 0 to 1, got"):
        fit_temperature(scores, [[0, 1], [1, label]], multi_label=True)


def test_bins_are_at_least_one():
    with pytest.raises(ValueError, match="bins must be a whole number of at least 1, got 0"):
        reliability([0.5], [True], bins=0)
