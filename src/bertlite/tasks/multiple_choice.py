"""Which of several choices fits a question.

Shapes: `B` questions, `C` choices, `T` length.
"""

from collections import defaultdict

import torch
from transformers import DataCollatorForMultipleChoice

from .. import metrics
from ..inference.batching import RunOptions, collate, evaluating, length_batches
from ..inference.loading import load
from .base import Task


class MultipleChoice(Task):
    """Rows have `question`, `choices` and `label`, the number of the right one."""

    name = "multiple-choice"
    head = "ForMultipleChoice"
    columns = ("question", "choices", "label")
    main_metric = "accuracy"
    pipeline_tag = "multiple-choice"

    def encode(self, rows, tokenizer, model, options):
        features = [
            pair_choices(row, tokenizer, self.limit(model, tokenizer, options)) for row in rows
        ]
        return [
            {**feature, "labels": row["label"]} for feature, row in zip(features, rows, strict=True)
        ]

    def collator(self, tokenizer, model):
        return GroupedChoices(DataCollatorForMultipleChoice(tokenizer))

    def predict(self, rows, model, tokenizer, options, *, show_progress=True, device=None):
        model, tokenizer = load("choose", model, tokenizer, self.head)
        run = RunOptions(options.prediction_batch_size, device, show_progress)
        features = [
            pair_choices(row, tokenizer, self.limit(model, tokenizer, options)) for row in rows
        ]
        results: list[dict] = [{} for _ in rows]
        by_count: dict[int, list[int]] = defaultdict(list)
        for place, row in enumerate(rows):
            by_count[len(row["choices"])].append(place)
        for count, members in by_count.items():
            flat = [
                {name: values[choice] for name, values in features[place].items()}
                for place in members
                for choice in range(count)
            ]
            longest = [
                {"input_ids": max(features[place]["input_ids"], key=len)} for place in members
            ]
            with evaluating(model, run.device) as target:
                for batch in length_batches(longest, run, "Choosing"):
                    chosen = [
                        flat[place * count + choice] for place in batch for choice in range(count)
                    ]
                    tensors = collate(chosen, tokenizer, target)  # (B * C, T)
                    tensors = {
                        name: tensor.unflatten(0, (-1, count)) for name, tensor in tensors.items()
                    }
                    scores = model(**tensors).logits.float().softmax(-1).cpu()  # (B, C)
                    for place, score in zip(batch, scores, strict=True):
                        results[members[place]] = choice_of(rows[members[place]], score)
        return results

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


def pair_choices(row: dict, tokenizer, limit: int) -> dict[str, list[list[int]]]:
    """The question with each choice as rows of ids, the longer side cut first."""
    questions = [row["question"]] * len(row["choices"])
    batch = tokenizer(questions, list(row["choices"]), truncation=True, max_length=limit)
    return {name: batch[name] for name in tokenizer.model_input_names if name in batch}


def choice_of(row: dict, scores: torch.Tensor) -> dict:
    """The best choice by its number and text, and the probabilities of all."""
    best = int(scores.argmax())
    return {
        "label": best,
        "choice": row["choices"][best],
        "score": float(scores[best]),
        "scores": scores.tolist(),
    }
