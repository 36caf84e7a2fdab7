"""A label for each word, and the entities that labels form.

Shapes: `N` tokens of a sentence.
"""

from transformers import DataCollatorForTokenClassification

from .. import metrics
from ..inference import tag
from ..inference.windows import EncodedText, cut_windows
from .base import Task

IGNORED = -100


class TokenClassification(Task):
    """Rows have `tokens` and `tags`, one a word.

    A row with `text` instead can be predicted, not learned from.
    """

    name = "token-classification"
    head = "ForTokenClassification"
    columns = ("tokens", "tags")
    labelled = True
    main_metric = "overall_f1"
    pipeline_tag = "token-classification"

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
