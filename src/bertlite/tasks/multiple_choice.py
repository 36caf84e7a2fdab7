"""Which of several choices fits a question.

Shapes: `B` questions, `C` choices, `T` length.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from transformers import DataCollatorForMultipleChoice

from .. import metrics
from ..data.columns import key_of
from ..data.labels import is_missing
from ..data.problems import BadRow, shown
from ..data.rows import TaskRows, items_of, text_feature, text_of
from ..inference.batching import RunOptions
from ..inference.choices import choice_scores, cut_choices
from ..inference.loading import load
from .base import Task

NUMBERED = re.compile(r"(choice|ending|option|answer|sol|solution)_?(\d+)")


def numbered_columns(available: Iterable[str]) -> list[str]:
    """`choice0`, `choice1`, … (or ending, option, answer, sol) in their order.

    None where there are fewer than two.
    """
    families: dict[str, dict[int, str]] = {}
    for name in available:
        if match := NUMBERED.fullmatch(key_of(name)):
            families.setdefault(match[1], {})[int(match[2])] = name
    best = max(families.values(), key=len, default={})
    return [best[number] for number in sorted(best)] if len(best) > 1 else []


@dataclass
class ChoiceRows(TaskRows):
    """`question`, `choices`, `label`: the number of the right choice, from 0.

    Every row must have equally many choices, since a model reads them as one table (rows, choices,
    tokens): as many as most of the first rows have. A `context` (RACE's article) stands before the
    question, and is what is cut where they are too long; a `start` (SWAG's `sent2`) is put before
    each choice.

    Attributes:
        number_of_choices: what each row must have.
        first_number: what the label of the first choice is: 0, or 1 where the data counts from 1.
    """

    number_of_choices: int | None = None
    first_number: int = 0

    task = "multiple-choice"
    names: ClassVar = {
        "question": ("question", "sent1", "ctx", "premise", "sentence", "question_stem"),
        "choices": ("choices", "endings", "options"),
        "label": ("label", "answerKey", "answer", "gold", "correct"),
        "context": ("context", "article", "passage", "premise"),
        "start": ("start", "sent2"),
    }
    required = ("question", "choices")
    target = "label"
    optional = ("context", "start")
    inputs = ("question", "choices", "context")
    label = "label"

    @classmethod
    def find_columns(cls, source, available, wanted):
        """See `TaskRows`; the choices may be numbered columns."""
        found = super().find_columns(source, available, wanted)
        if "choices" not in found and (numbered := numbered_columns(available)):
            found["choices"] = numbered
        return found

    @classmethod
    def made_for(cls, source, columns, labels, require_labels):
        """See `TaskRows`; the first rows say how many choices there are, and from where they
        count.
        """
        rows = source.peek()
        first = counts_from(rows, columns["label"], columns["choices"]) if require_labels else 0
        number = usual_number(rows, cls(columns, None, require_labels))
        return cls(columns, None, require_labels, number, first)

    def features(self) -> dict[str, Any]:
        """See `TaskRows`."""
        import datasets

        texts = [role for role in ("context", "question") if role in self.columns]
        found: dict[str, Any] = {role: text_feature() for role in texts}
        found["choices"] = datasets.List(text_feature())
        return {**found, "label": datasets.Value("int64")} if self.require_labels else found

    def read(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """See `TaskRows`."""
        found: dict[str, Any] = {
            role: text_of(row, self.columns[role], role)
            for role in ("context", "question")
            if role in self.columns
        }
        choices, names = self.choices(row)
        if self.number_of_choices not in (None, len(choices)):
            raise BadRow(
                "another number of choices",
                f"{len(choices)}, but most rows have {self.number_of_choices}",
            )
        found["choices"] = choices
        if self.require_labels:
            found["label"] = self.number(row.get(self.columns["label"]), choices, names)
        return found

    def choices(self, row: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        """The texts, and the names that the data gives them (ARC's "A", "B", …; none elsewhere)."""
        columns = self.columns["choices"]
        names: list[str] = []
        if isinstance(columns, str):
            value = row.get(columns)
            if isinstance(value, Mapping):
                names = [str(name) for name in value.get("label", [])]
                row = {**row, columns: value.get("text")}
            texts = [{columns: text} for text in items_of(row, columns, "choices")]
        else:
            texts = [{columns[0]: row.get(name)} for name in columns]
        key = columns if isinstance(columns, str) else columns[0]
        start = (
            f"{text_of(row, self.columns['start'], 'start')} " if "start" in self.columns else ""
        )
        return [
            f"{start}{text_of(text, key, f'choice {number}')}" for number, text in enumerate(texts)
        ], names

    def number(self, value: Any, choices: list[str], names: list[str]) -> int:
        """The right choice's number: by name, by number, by letter or by its own text.

        Raises:
            BadRow: there is no label, or no such choice.
        """
        if is_missing(value):
            raise BadRow("missing label")
        text = str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()
        if text in names:
            return names.index(text)
        if re.fullmatch(r"-?\d+", text):
            number = int(text) - self.first_number
        elif re.fullmatch("[A-Za-z]", text):
            number = ord(text.upper()) - ord("A")
        else:
            number = choices.index(text) if text in choices else -1
        if not 0 <= number < len(choices):
            raise BadRow("label out of range", f"{shown(value)} of {len(choices)} choices")
        return number


def usual_number(rows: Iterable[Mapping[str, Any]], reader: ChoiceRows) -> int | None:
    """How many choices most of these rows have."""
    counts: Counter[int] = Counter()
    for row in rows:
        try:
            counts[len(reader.choices(row)[0])] += 1
        except BadRow:
            continue
    return counts.most_common(1)[0][0] if counts else None


def counts_from(rows: Iterable[Mapping[str, Any]], label: str, columns: Any) -> int:
    """1 where the choices' columns are numbered from 1 and no label among these rows is 0.

    Otherwise 0.
    """
    if isinstance(columns, str) or not str(columns[0]).endswith("1"):
        return 0
    return 0 if any(str(row.get(label)).strip() == "0" for row in rows) else 1


class MultipleChoice(Task):
    """Rows have `question`, `choices`, perhaps `context`, and `label`: the right one's number."""

    name = ChoiceRows.task
    rows = ChoiceRows
    head = "ForMultipleChoice"
    main_metric = "accuracy"
    pipeline_tag = "multiple-choice"
    reads = (("question", "choices"),)
    words = ("question", "choices", "text")
    usage = 'bertlite.BertLiteForMultipleChoice.from_pretrained("FOLDER OR HUB NAME")'

    def rows_of_words(self, words):
        questions, choices = words.get("question", []), words.get("choices")
        if len(questions) != 1 or not choices:
            raise ValueError("multiple choice needs one --question and its --choices")
        texts = words.get("text") or []
        if len(texts) > 1:
            raise ValueError(f"multiple choice takes one --text, the context, got {len(texts)}")
        context = {"context": texts[0]} if texts else {}
        return [{**context, "question": questions[0], "choices": choices}]

    def encode(self, rows, tokenizer, model, options):
        features = []
        for row, choices in zip(rows, self.cut(rows, tokenizer, model, options), strict=True):
            first = [text.windows[0].inputs for text in choices]
            feature = {name: [inputs[name] for inputs in first] for name in first[0]}
            features.append({**feature, "labels": row["label"]})
        return features

    def cut(self, rows, tokenizer, model, options):
        """The windows of each choice of each row, as `cut_choices`."""
        limit = self.limit(model, tokenizer, options)
        return cut_choices(rows, tokenizer, limit, self.stride(options))

    def collator(self, tokenizer, model):
        return GroupedChoices(DataCollatorForMultipleChoice(tokenizer))

    def predict(self, rows, model, tokenizer, options, *, show_progress=True, device=None):
        model, tokenizer = load("choose", model, tokenizer, self.head)
        run = RunOptions(options.prediction_batch_size, device, show_progress)
        encoded = self.cut(rows, tokenizer, model, options)
        scores = choice_scores(encoded, model, tokenizer, run)
        return [choice_of(row, score) for row, score in zip(rows, scores, strict=True)]

    def score(self, rows, predictions, model):
        chosen = [each["label"] for each in predictions]
        return metrics.load("accuracy").compute(
            predictions=chosen, references=[row["label"] for row in rows]
        )


class GroupedChoices:
    """Hands rows to `collator`, all of which must have as many choices.

    Raises:
        ValueError: rows of one batch have different numbers of choices.
    """

    def __init__(self, collator):
        self.collator = collator

    def __call__(self, rows: list[dict]) -> dict:
        counts = sorted({len(row["input_ids"]) for row in rows})
        if len(counts) > 1:
            raise ValueError(
                f"choices must be of one number in every training row, got {counts} in one batch"
            )
        return self.collator(rows)


def choice_of(row: dict, scores: torch.Tensor) -> dict:
    """The best choice by its number and text, and the probabilities of all."""
    best = int(scores.argmax())
    return {
        "label": best,
        "choice": row["choices"][best],
        "score": float(scores[best]),
        "scores": scores.tolist(),
    }
