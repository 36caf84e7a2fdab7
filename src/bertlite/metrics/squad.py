"""Exact match and F1 of SQuAD 1.1 answers, as the official script counts them.

Source: evaluate-v1.1.py of https://rajpurkar.github.io/SQuAD-explorer (Rajpurkar et al. 2016).
"""

import re
import string
from collections import Counter

from datasets import Features, List, Value

from bertlite.metrics.base import OfflineMetric

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Lower case, without ASCII punctuation, English articles and extra white space; in this order.

    >>> normalize_answer("The  cat's (big) hat.")
    'cats big hat'
    """
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def exact_match(predicted: str, answer: str) -> float:
    """1 where both answers are equal once normalised, else 0."""
    return float(normalize_answer(predicted) == normalize_answer(answer))


def word_f1(predicted: str, answer: str, both_empty: float = 0.0) -> float:
    """F1 of the words that two normalised answers share; `both_empty` where neither has any."""
    predicted_words, answer_words = (
        normalize_answer(predicted).split(),
        normalize_answer(answer).split(),
    )
    if not predicted_words and not answer_words:
        return both_empty
    shared = (Counter(predicted_words) & Counter(answer_words)).total()
    return 2 * shared / (len(predicted_words) + len(answer_words))


def predicted_rows(values, fields: dict[str, type | tuple[type, ...]]) -> list[dict]:
    """Predictions reduced to `fields`, or a ValueError that names the row and field that does not
    fit.
    """
    for row, value in enumerate(values):
        for field, kind in fields.items():
            if not isinstance(value, dict) or not isinstance(value.get(field), kind):
                came = value.get(field) if isinstance(value, dict) else value
                raise ValueError(
                    f"predictions must be dicts with {sorted(fields)}, got {field} {came!r} in row "
                    f"{row}"
                )
    return [{field: value[field] for field in fields} for value in values]


def reference_rows(values, allow_no_answer: bool) -> list[dict]:
    """References as `{"id": str, "answers": {"text": [str]}}`.

    Raises:
        ValueError: a row of another form, or without an answer where there must be one.
    """
    rows = []
    for row, value in enumerate(values):
        answers = value.get("answers") if isinstance(value, dict) else None
        if isinstance(answers, list):  # the form of the JSON files: a list of dicts
            answers = {
                "text": [
                    answer.get("text") if isinstance(answer, dict) else answer for answer in answers
                ]
            }
        texts = answers.get("text") if isinstance(answers, dict) else None
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError(
                f"references must be dicts with id and answers['text'], got {value!r} in row {row}"
            )
        if not isinstance(value.get("id"), str):
            raise ValueError(
                f"references must have a string as id, got {value.get('id')!r} in row {row}"
            )
        if not texts and not allow_no_answer:
            raise ValueError(
                f"references must have an answer each, got none in row {row}; SquadV2 allows that"
            )
        rows.append({"id": value["id"], "answers": {"text": texts}})
    return rows


def pair_by_id(predictions: list[dict], references: list[dict]) -> list[tuple[dict, list[str]]]:
    """Each prediction with its answers, in the order of the references.

    Raises:
        ValueError: an id occurs twice, or on one side only.
    """
    for name, rows in (("predictions", predictions), ("references", references)):
        twice = [key for key, count in Counter(row["id"] for row in rows).items() if count > 1]
        if twice:
            raise ValueError(f"{name} must have each id once, got {twice[0]!r} twice")
    by_id = {row["id"]: row for row in predictions}
    lacking = [row["id"] for row in references if row["id"] not in by_id]
    if lacking:
        raise ValueError(
            f"predictions must have the ids of the references, got none for {lacking[0]!r}"
        )
    return [(by_id[row["id"]], row["answers"]["text"]) for row in references]


class Squad(OfflineMetric):
    """Exact match and F1 of answers, each the best over a question's true answers, in percent.

    Rows of `predictions` are `{"id": str, "prediction_text": str}`, of `references` `{"id": str,
    "answers": {"text": [str]}}`, paired by id; other fields are let be.
    """

    source = "https://rajpurkar.github.io/SQuAD-explorer"

    def row_features(self) -> Features:
        text = Value("string")
        reference = {"id": text, "answers": {"text": List(text)}}
        return Features(
            {"predictions": {"id": text, "prediction_text": text}, "references": reference}
        )

    def prepare(self, name: str, values) -> list:
        if name == "predictions":
            return predicted_rows(values, {"id": str, "prediction_text": str})
        return reference_rows(values, allow_no_answer=False)

    def _compute(self, *, predictions, references):
        """Compute exact match and F1.

        Returns:
            `{"exact_match": float, "f1": float}`, from 0 to 100.

        Raises:
            ValueError: ids of predictions and references differ, or one occurs twice.
        """
        pairs = [
            (each["prediction_text"], answers)
            for each, answers in pair_by_id(predictions, references)
        ]
        exact = sum(max(exact_match(text, answer) for answer in answers) for text, answers in pairs)
        f1 = sum(max(word_f1(text, answer) for answer in answers) for text, answers in pairs)
        return {"exact_match": 100 * exact / len(pairs), "f1": 100 * f1 / len(pairs)}
