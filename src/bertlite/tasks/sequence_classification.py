"""Classes or scores of texts and of pairs of texts: one label, several labels, or numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from transformers import DataCollatorWithPadding

from .. import metrics
from ..data.columns import matching, with_remembered
from ..data.labelled_rows import LabelledRows
from ..data.rows import text_feature, text_of
from ..inference import classify
from ..inference.label_sets import threshold_for
from ..inference.sequence_classification import encode
from ..metrics.class_report import class_report
from .base import Task, TaskOptions

SINGLE, MULTI = "single_label_classification", "multi_label_classification"
# Names of two columns that are a pair of texts.
PAIRS = (
    ("text", "text_pair"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("question", "sentence"),
    ("query", "passage"),
    ("sentence_A", "sentence_B"),
)


class ClassificationRows(LabelledRows):
    """`text`, `text_pair` where there is one, `label`."""

    task = "sequence-classification"
    names: ClassVar = {
        "text": (
            "text",
            "sentence",
            "review",
            "content",
            "tweet",
            "comment",
            "document",
            "body",
            "message",
            "question",
            "utterance",
            "headline",
        ),
        "text_pair": ("text_pair",),
        "label": (
            "label",
            "labels",
            "class",
            "category",
            "sentiment",
            "target",
            "score",
            "stars",
            "rating",
            "intent",
            "emotion",
            "polarity",
        ),
    }
    required = ("text",)
    target = "label"
    inputs = ("text", "text_pair")
    label = "label"
    has_problem_type = True
    line_column = "text"

    @classmethod
    def find_columns(cls, source, available, wanted):
        """See `TaskRows`; two columns that usually are a pair are one."""
        roles = ("text", "text_pair")
        given = with_remembered(wanted.columns, wanted.remembered, available, roles)
        if not set(roles) & set(given):
            given.update(find_pair(available))
        return super().find_columns(source, available, replace(wanted, columns=given))

    @classmethod
    def hint(cls, role, source):
        """See `TaskRows`: several columns that hold 0 and 1 are labels that a row may have."""
        rows = source.peek()
        marks = [
            name
            for name in (rows[0] if role == cls.target and rows else ())
            if {str(row.get(name)) for row in rows} <= {"0", "1", "0.0", "1.0", "True", "False"}
        ]
        return f"; is label={','.join(marks)} meant?" if len(marks) > 1 else ""

    def features(self) -> dict[str, Any]:
        """See `TaskRows`; the label's type follows the problem type."""
        import datasets

        found = {role: text_feature() for role in self.inputs if role in self.columns}
        if self.labels is None:
            return found
        kind: Any = datasets.Value("float32")
        if self.labels.problem_type == "single_label_classification":
            kind = datasets.ClassLabel(names=self.labels.names)
        elif self.labels.problem_type == "multi_label_classification":
            kind = datasets.List(kind)
        return {**found, "label": kind}

    def read(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """See `TaskRows`."""
        found: dict[str, Any] = {
            role: text_of(row, self.columns[role], role)
            for role in self.inputs
            if role in self.columns
        }
        if self.labels is not None:
            column = self.columns["label"]
            value = (
                row.get(column) if isinstance(column, str) else [row.get(name) for name in column]
            )
            found["label"] = self.labels.encode(value)
        return found


def find_pair(available: Sequence[str]) -> dict[str, str]:
    """Text and text_pair where the data has two columns that usually are such a pair."""
    for first, second in PAIRS:
        if matching(first, available) and matching(second, available):
            return {"text": first, "text_pair": second}
    return {}


class SequenceClassification(Task):
    """Rows have `text`, perhaps `text_pair`, and `label`.

    A class, a number, or one number a label.
    """

    name = ClassificationRows.task
    rows = ClassificationRows
    head = "ForSequenceClassification"
    labelled = True
    ranks = True
    main_metric = "accuracy"
    pipeline_tag = "text-classification"
    reads = (("text",),)
    words = ("text", "text_pair")
    usage = 'bertlite.classify("A text.", "FOLDER OR HUB NAME")'

    def rows_of_words(self, words):
        texts, pairs = words.get("text", []), words.get("text_pair")
        if pairs is None:
            return super().rows_of_words(words)
        if len(pairs) != len(texts):
            raise ValueError(
                f"--text_pair must be as many as --text, {len(texts)}, got {len(pairs)}"
            )
        return [{"text": text, "text_pair": pair} for text, pair in zip(texts, pairs, strict=True)]

    def head_fields(self, labels, problem_type):
        fields = super().head_fields(labels, problem_type)
        if not labels and problem_type == "regression":
            fields["num_labels"] = 1
        return {**fields, "problem_type": problem_type or SINGLE}

    def encode(self, rows, tokenizer, model, options):
        limit = self.limit(model, tokenizer, options)
        texts, pairs = texts_of(rows)
        if options.long_texts == "windows":
            encoded = encode(tokenizer, texts, pairs, limit, self.stride(options))
            inputs = [[window.inputs for window in text.windows] for text in encoded]
        else:
            batch = tokenizer(texts, pairs, truncation=True, max_length=limit)
            names = [name for name in tokenizer.model_input_names if name in batch]
            inputs = [[{name: batch[name][place] for name in names}] for place in range(len(rows))]
        whole = model.config.problem_type == SINGLE
        labels = [
            row["label"] if whole else np.asarray(row["label"], dtype=float).tolist()
            for row in rows
        ]
        return [
            {**window, "labels": label}
            for windows, label in zip(inputs, labels, strict=True)
            for window in windows
        ]

    def collator(self, tokenizer, model):
        return DataCollatorWithPadding(tokenizer)

    def predict(self, rows, model, tokenizer, options, *, show_progress=True, device=None):
        texts, pairs = texts_of(rows)
        in_set = None if options.coverage is None else threshold_for(model.config, options.coverage)
        wanted = options.top_k is not None or in_set is not None
        every = wanted and kind_of(model) != "regression"
        found = classify(
            texts,
            model,
            tokenizer,
            text_pair=pairs,
            threshold=0.0 if every else options.threshold,
            top_k=model.config.num_labels if every else None,
            max_length=options.max_length,
            doc_stride=self.stride(options),
            batch_size=options.prediction_batch_size,
            device=device,
            show_progress=show_progress,
        )
        if every:
            return [with_scores(each, kind_of(model), options, in_set) for each in found]
        return [each if isinstance(each, dict) else {"labels": each} for each in found]

    def score(self, rows, predictions, model):
        kind, labels = kind_of(model), [row["label"] for row in rows]
        if kind == SINGLE:
            return single_label_figures(chosen_classes(predictions, model), labels)
        if kind == MULTI:
            marks = chosen_marks(predictions, model)
            return multi_label_figures(marks, np.asarray(labels).round().astype(int))
        scores = [[part["score"] for part in each.get("labels", [each])] for each in predictions]
        return regression_figures(
            np.asarray(scores), np.asarray(labels, dtype=float).reshape(len(rows), -1)
        )

    def report(self, rows, predictions, model):
        kind, labels = kind_of(model), [row["label"] for row in rows]
        names = [model.config.id2label[number] for number in range(model.config.num_labels)]
        if kind == SINGLE:
            return class_report(labels, chosen_classes(predictions, model), names)
        if kind == MULTI:
            truth = np.asarray(labels).round().astype(int)
            return class_report(truth, chosen_marks(predictions, model), names)
        return {}

    def best_metric(self, problem_type, *, weighted=False):
        if weighted and problem_type != "regression":
            return "f1_macro"
        return {MULTI: "f1_micro", "regression": "pearsonr"}.get(problem_type or SINGLE, "accuracy")


def kind_of(model: Any) -> str:
    """The model's problem type, also where its config leaves it to the number of outputs."""
    return model.config.problem_type or (SINGLE if model.config.num_labels > 1 else "regression")


def with_scores(
    found: list[dict], kind: str, options: TaskOptions, in_set: float | None = None
) -> dict[str, Any]:
    """The answer to a row, with the scores of its best labels and the set of those that it may be.

    Args:
        found: every label with its score, best first.
        kind: the problem type.
        options: how many scores are given, if any.
        in_set: the probability from which a label is in the set; None where none is asked for.
    """
    extra: dict[str, Any] = {}
    if in_set is not None:
        extra["label_set"] = [each["label"] for each in found if each["score"] >= in_set]
    if options.top_k is not None:
        extra["scores"] = {each["label"]: each["score"] for each in found[: options.top_k]}
    if kind == MULTI:
        return {"labels": [each for each in found if each["score"] >= options.threshold], **extra}
    return {**found[0], **extra}


def chosen_classes(predictions: Sequence[dict], model: Any) -> list[int]:
    """Numbers of the predicted classes."""
    return [model.config.label2id[each["label"]] for each in predictions]


def chosen_marks(predictions: Sequence[dict], model: Any) -> np.ndarray:
    """`(N, L)` marks, 1 for each label that was given."""
    marks = np.zeros((len(predictions), model.config.num_labels), dtype=int)
    for row, each in zip(marks, predictions, strict=True):
        row[[model.config.label2id[label["label"]] for label in each["labels"]]] = 1
    return marks


def texts_of(rows) -> tuple[list[str], list[str] | None]:
    """The texts, and their partners where the rows are pairs.

    Raises:
        ValueError: some rows are pairs and some are not.
    """
    texts = [row["text"] for row in rows]
    pairs = [row.get("text_pair") for row in rows]
    if all(pair is None for pair in pairs):
        return texts, None
    if None in pairs:
        raise ValueError(
            "rows must all have a text_pair, or none of them, got one without: "
            f"{texts[pairs.index(None)]!r:.80}"
        )
    return texts, pairs


def single_label_figures(chosen: list[int], labels: list[int]) -> dict[str, float]:
    """Accuracy, F1 (of class 1 where there are no others than 0 and 1.

    Macro else) and Matthews' correlation.
    """
    given = {"predictions": chosen, "references": labels}
    binary = set(chosen) | set(labels) <= {0, 1}
    return {
        **metrics.load("accuracy").compute(**given),
        **({"f1": metrics.load("f1").compute(**given)["f1"]} if binary else {}),
        "f1_macro": metrics.load("f1").compute(**given, average="macro")["f1"],
        **metrics.load("matthews_correlation").compute(**given),
    }


def multi_label_figures(chosen: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """F1 over all marks and over labels, and how many rows are wholly right, of `(N, L)` marks."""
    given = {"predictions": chosen, "references": labels}
    f1 = metrics.load("f1", "multilabel")
    return {
        **metrics.load("accuracy", "multilabel").compute(**given),
        **{
            f"f1_{average}": f1.compute(**given, average=average)["f1"]
            for average in ("micro", "macro")
        },
    }


def regression_figures(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Mean squared error, and both correlations (their means over the outputs), of `(N, L)`
    numbers.

    A correlation that is not defined, as with constant predictions or a single row, counts as 0.
    """
    found: dict[str, Any] = {"mse": float(np.square(scores - labels).mean())}
    for name, key in (("pearson", "pearsonr"), ("spearman", "spearmanr")):
        values = []
        for score, label in zip(scores.T, labels.T, strict=True):
            defined = len(set(score.tolist())) > 1 and len(set(label.tolist())) > 1
            value = (
                metrics.load(name).compute(predictions=score, references=label)[key]
                if defined
                else 0.0
            )
            values.append(value)
        found[key] = float(np.mean(values))
    return found
