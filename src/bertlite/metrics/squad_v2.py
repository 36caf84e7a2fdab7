"""Exact match and F1 of SQuAD 2.0, where some questions have no answer, as the official script
counts them.

Source: evaluate-v2.0.py of https://rajpurkar.github.io/SQuAD-explorer (Rajpurkar et al. 2018).
"""

from datasets import Features, List, Value

from bertlite.metrics.base import OfflineMetric
from bertlite.metrics.squad import (
    exact_match,
    normalize_answer,
    pair_by_id,
    predicted_rows,
    reference_rows,
    word_f1,
)


class SquadV2(OfflineMetric):
    """Exact match and F1 of answers in percent, where "" is the answer to a question that has none.

    Rows as in `Squad`; predictions may carry `no_answer_probability`, any score that grows with the
    belief that there is no answer (0 where it is left out), and references may have no answers.
    """

    source = "https://rajpurkar.github.io/SQuAD-explorer"

    def row_features(self) -> Features:
        text = Value("string")
        prediction = {
            "id": text,
            "prediction_text": text,
            "no_answer_probability": Value("float64"),
        }
        return Features(
            {"predictions": prediction, "references": {"id": text, "answers": {"text": List(text)}}}
        )

    def prepare(self, name: str, values) -> list:
        if name == "references":
            return reference_rows(values, allow_no_answer=True)
        values = [
            {"no_answer_probability": 0.0, **value} if isinstance(value, dict) else value
            for value in values
        ]
        return predicted_rows(
            values, {"id": str, "prediction_text": str, "no_answer_probability": (int, float)}
        )

    def _compute(self, *, predictions, references, no_answer_threshold: float = 1.0):
        """Compute the scores.

        Args:
            no_answer_threshold: a prediction whose `no_answer_probability` is above this counts as
                "no answer".

        Returns:
            `exact`, `f1` (0 to 100) and `total`; the same with `HasAns_` and `NoAns_` over the
            questions with and without an answer, where there are any; `best_exact` and `best_f1`
            over all thresholds, and the thresholds (`best_exact_thresh`, `best_f1_thresh`), which
            are to be chosen on development data.

        Raises:
            ValueError: ids of predictions and references differ, or one occurs twice.
        """
        rows = [
            _Row(prediction, answers) for prediction, answers in pair_by_id(predictions, references)
        ]
        made = _means(rows, no_answer_threshold)
        for prefix, has_answer in (("HasAns_", True), ("NoAns_", False)):
            part = [row for row in rows if row.has_answer == has_answer]
            if part:
                made.update(
                    {
                        prefix + name: value
                        for name, value in _means(part, no_answer_threshold).items()
                    }
                )
        for name in ("exact", "f1"):
            made[f"best_{name}"], made[f"best_{name}_thresh"] = _best_threshold(rows, name)
        return made


class _Row:
    """The scores of one prediction, before any threshold."""

    def __init__(self, prediction: dict, answers: list[str]):
        self.has_answer = bool(answers)
        answers = [answer for answer in answers if normalize_answer(answer)]
        self.text = prediction["prediction_text"]
        self.no_answer_probability = prediction["no_answer_probability"]
        self.exact = max(exact_match(self.text, answer) for answer in answers or [""])
        self.f1 = max(word_f1(self.text, answer, both_empty=1.0) for answer in answers or [""])

    def score(self, name: str, threshold: float) -> float:
        if self.no_answer_probability > threshold:
            return float(not self.has_answer)
        return self.exact if name == "exact" else self.f1


def _means(rows: list[_Row], threshold: float) -> dict[str, float]:
    """Exact match and F1 in percent, and how many questions they are the mean of."""
    made = {
        name: 100 * sum(row.score(name, threshold) for row in rows) / len(rows)
        for name in ("exact", "f1")
    }
    return {**made, "total": len(rows)}


def _best_threshold(rows: list[_Row], name: str) -> tuple[float, float]:
    """The best mean over thresholds, in percent, and its threshold.

    The threshold rises from below every probability, where all is "no answer"; each row that it
    passes is answered. Deviation: rows of one probability are passed together. The official script
    stops between them, and can so report a score that no threshold gives.
    """
    ordered = sorted(rows, key=lambda row: row.no_answer_probability)
    current = best = float(sum(not row.has_answer for row in rows))
    threshold = 0.0
    for position, row in enumerate(ordered):
        if row.has_answer:
            current += row.score(name, float("inf"))
        elif row.text:
            current -= 1
        last = (
            position + 1 == len(ordered)
            or ordered[position + 1].no_answer_probability > row.no_answer_probability
        )
        if last and current > best:
            best, threshold = current, row.no_answer_probability
    return 100 * best / len(rows), threshold
