"""A label for each word, and the entities that labels form.

Shapes: `N` tokens of a sentence.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from transformers import DataCollatorForTokenClassification

from .. import metrics
from ..data.labelled_rows import LabelledRows
from ..data.labels import Labels, class_names_of, complete_tags
from ..data.problems import BadRow
from ..data.rows import items_of, text_feature, text_of
from ..inference import tag
from ..inference.windows import EncodedText, cut_windows
from ..metrics.class_report import class_report
from .base import Task

IGNORED = -100


class TokenRows(LabelledRows):
    """`tokens`, `tags`."""

    task = "token-classification"
    names: ClassVar = {
        "tokens": ("tokens", "words", "token", "word"),
        "tags": ("tags", "ner_tags", "labels", "label", "pos_tags", "upos", "chunk_tags", "tag"),
    }
    required = ("tokens",)
    target = "tags"
    inputs = ("tokens",)
    label = "tags"
    plain_suffix = ".conll"
    line_column = "text"
    order = staticmethod(complete_tags)

    @classmethod
    def find_labels(cls, source, columns, wanted):
        """See `LabelledRows`; tags that the data set names need not be looked for."""
        found = wanted.found
        names = class_names_of((source.features or {}).get(columns["tags"]))
        if found is not None:
            return replace(found, class_names=names, notes=[], warnings=[])
        if wanted.labels or names:
            return Labels(list(wanted.labels or names or ()), class_names=names)
        single = replace(wanted, problem_type="single_label_classification")
        return super().find_labels(source, columns, single)

    @classmethod
    def label_values(cls, source, column):
        """See `LabelledRows`: the tag of every token."""
        for _, row in source:
            if isinstance(row, BadRow):
                continue
            try:
                yield from items_of(row, column, "tags")
            except BadRow:
                continue

    def features(self) -> dict[str, Any]:
        """See `TaskRows`."""
        import datasets

        found = {"tokens": datasets.List(text_feature())}
        if self.labels is None:
            return found
        return {**found, "tags": datasets.List(datasets.ClassLabel(names=self.labels.names))}

    def read(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """See `TaskRows`."""
        tokens = items_of(row, self.columns["tokens"], "tokens")
        words = [
            text_of({"tokens": token}, "tokens", f"token {number}")
            for number, token in enumerate(tokens, 1)
        ]
        if self.labels is None:
            return {"tokens": words}
        tags = items_of(row, self.columns["tags"], "tags")
        if len(tags) != len(tokens):
            raise BadRow(
                "tokens and tags of unequal length", f"{len(tokens)} tokens, {len(tags)} tags"
            )
        return {"tokens": words, "tags": [self.labels.one(tag) for tag in tags]}


class TokenClassification(Task):
    """Rows have `tokens` and `tags`, one a word.

    A row with `text` instead can be predicted, not learned from.
    """

    name = TokenRows.task
    rows = TokenRows
    head = "ForTokenClassification"
    labelled = True
    main_metric = "overall_f1"
    pipeline_tag = "token-classification"
    reads = (("tokens",), ("text",))
    words = ("text",)
    usage = 'bertlite.tag("A text.", "FOLDER OR HUB NAME")'

    def encode(self, rows, tokenizer, model, options):
        encoded = cut_windows(
            tokenizer,
            [row["tokens"] for row in rows],
            max_length=self.limit(model, tokenizer, options),
            doc_stride=self.stride(options),
            is_split_into_words=True,
        )
        return [
            feature
            for text, row in zip(encoded, rows, strict=True)
            for feature in label_windows(text, row["tags"])
        ]

    def collator(self, tokenizer, model):
        return DataCollatorForTokenClassification(tokenizer)

    def predict(self, rows, model, tokenizer, options, *, show_progress=True, device=None):
        words = bool(rows) and "tokens" in rows[0]
        found = tag(
            [row["tokens"] if words else row["text"] for row in rows],
            model,
            tokenizer,
            is_split_into_words=words,
            aggregate=not words,
            max_length=options.max_length,
            doc_stride=self.stride(options),
            batch_size=options.prediction_batch_size,
            device=device,
            show_progress=show_progress,
        )
        if not words:
            return [{"entities": each} for each in found]
        from ..inference.token_classification import join_entities

        return [
            {
                "tags": [word["entity"] for word in each],
                "entities": join_entities(row["tokens"], each, {"O"}),
            }
            for row, each in zip(rows, found, strict=True)
        ]

    def score(self, rows, predictions, model):
        names = model.config.id2label
        given = {
            "predictions": [each["tags"] for each in predictions],
            "references": [[names[number] for number in row["tags"]] for row in rows],
        }
        if all(label == "O" or label[:2] in ("B-", "I-", "E-", "S-") for label in names.values()):
            found = metrics.load("entity_scores").compute(**given)
            parts = {
                f"{kind}_f1": value["f1"]
                for kind, value in found.items()
                if isinstance(value, dict)
            }
            return {
                **{name: value for name, value in found.items() if not isinstance(value, dict)},
                **parts,
            }
        flat = [
            [model.config.label2id.get(label, -1) for row in given[side] for label in row]
            for side in given
        ]
        chosen, labels = flat
        accuracy = metrics.load("accuracy").compute(predictions=chosen, references=labels)[
            "accuracy"
        ]
        f1 = metrics.load("f1").compute(predictions=chosen, references=labels, average="macro")[
            "f1"
        ]
        return {"overall_f1": f1, "overall_accuracy": accuracy}

    def report(self, rows, predictions, model):
        names = [model.config.id2label[number] for number in range(model.config.num_labels)]
        truth = [number for row in rows for number in row["tags"]]
        chosen = [model.config.label2id[tag] for each in predictions for tag in each["tags"]]
        return class_report(truth, chosen, names)


def label_windows(text: EncodedText, tags: list[int]) -> list[dict]:
    """The windows of a sentence with `labels`: a word's label at its first token, -100 elsewhere.

    Each label stands in exactly one window, the one where the token lies farthest from both edges:
    that is the window whose answer counts in prediction.
    """
    firsts = {
        number: token
        for token, number in reversed(list(enumerate(text.word_ids)))
        if number is not None
    }
    labels = [[IGNORED] * len(window.inputs["input_ids"]) for window in text.windows]
    for number, token in firsts.items():
        holding = [
            (min(token - window.start, window.start + window.length - 1 - token), -place)
            for place, window in enumerate(text.windows)
            if window.start <= token < window.start + window.length
        ]
        place = -max(holding)[1]
        window = text.windows[place]
        labels[place][window.first + token - window.start] = tags[number]
    return [
        {**window.inputs, "labels": each} for window, each in zip(text.windows, labels, strict=True)
    ]
