"""Training with a few rows a class: vectors that part the classes first, then a head on them.

After Tunstall et al. 2022 (SetFit, https://arxiv.org/abs/2209.11055): the encoder learns that two
texts of one class have like vectors and two of different classes unlike ones, which makes of 16
rows 120 pairs; then a logistic regression on these vectors becomes the classifier's weights.

Vectors are those of `bertlite.encode`: means over tokens, or the first token's where the folder of
sentence-transformers says so. What BERT's own classifier reads is made the same, by a layer more
(`averaging.py`), so that the folder is that of any other classifier.

Deviation: a step sees all pairs of a batch of rows, where SetFit draws pairs of texts; the head is
BERT's linear layer, where SetFit keeps scikit-learn's.

Shapes: `B` rows, `E` hidden size, `L` classes.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ..inference.batching import evaluating
from ..inference.embedding_recipe import read_recipe
from ..tasks.base import Row, Task, TaskOptions
from .averaging import can_read_mean, hand_on_first, read_mean

SINGLE = "single_label_classification"
BATCH = 32
# What a run has where nothing else is given: twenty looks at each row, and no figures between them,
# since the head is fitted at the end.
ARGUMENTS: dict[str, Any] = {
    "num_train_epochs": 20,
    "learning_rate": 1e-4,
    "eval_strategy": "no",
    "save_strategy": "no",
}


class PairLoss:
    """For `Trainer(compute_loss_func=...)`: pairs of rows of a batch, by what the classifier reads.

    The squared distance of their vectors' cosine from 1, where both rows are of one class, and from
    0 where they are not; both kinds of pairs count alike, whatever their numbers.

    Args:
        model: whose `classifier` is watched.
    """

    def __init__(self, model: Any):
        self.vectors: torch.Tensor | None = None
        self.watch = model.classifier.register_forward_pre_hook(self.keep)

    def keep(self, module: nn.Module, inputs: tuple) -> None:
        """Remember what the classifier is given, `(B, E)`."""
        self.vectors = inputs[0]

    def __call__(
        self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """The loss of the batch that went through the model last."""
        assert self.vectors is not None
        return pair_loss(self.vectors, labels)


def pair_loss(vectors: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """See `PairLoss`; of `(B, E)` and `(B,)`. A batch without pairs of a kind has none to learn."""
    unit = nn.functional.normalize(vectors.float(), dim=-1)
    same = labels[:, None] == labels[None]  # (B, B)
    each = torch.ones_like(same).triu(1)  # each pair once
    errors = (unit @ unit.T - same.float()).square()
    parts = [errors[each & kind] for kind in (same, ~same)]
    kept = [part.mean() for part in parts if part.numel()]
    return torch.stack(kept).mean() if kept else errors.sum() * 0


def check_few_shot(model: Any, data: Any, recipe: Any) -> None:
    """Refuse what few-shot training cannot do.

    Raises:
        ValueError: rows without one class each or that stream, a label without rows, a model whose
            classifier is more than one linear layer, options that do not go with it.
    """
    others = {
        "lora": recipe.lora,
        "class_weights": recipe.class_weights is not None,
        "average_last": bool(recipe.average_last),
        "batch_tokens": recipe.batch_tokens is not None,
        "early_stopping": recipe.early_stopping is not None,
    }
    if given := [name for name, value in others.items() if value]:
        raise ValueError(f"few_shot has a recipe of its own, got {', '.join(given)} too")
    if data.problem_type != SINGLE:
        came = data.problem_type or data.task
        raise ValueError(f"few_shot takes texts with one class each, got {came}")
    counts = data.counts.get("train", {})
    if lacking := [label for label in data.labels if not counts.get(label)]:
        raise ValueError(f"few_shot needs training rows of every label, got none of {lacking}")
    if not isinstance(getattr(model, "classifier", None), nn.Linear):
        raise ValueError(
            "few_shot needs a model whose classifier is one linear layer, as BERT's is, got "
            f"{type(model).__name__}"
        )


def prepare(model: Any, source: Any) -> None:
    """Have the classifier read what `encode` makes of the folder that a model comes from.

    Models whose classifier is not BERT's read what they read.

    Args:
        source: a folder, a hub name, or the model itself.
    """
    if not can_read_mean(model):
        return
    name = source if isinstance(source, str | os.PathLike) else model.name_or_path
    if read_recipe(os.fspath(name or "")).poolings == ("cls",):
        hand_on_first(model)
    else:
        read_mean(model)


def fit_head(
    task: Task, model: Any, tokenizer: Any, rows: Sequence[Row], options: TaskOptions
) -> None:
    """Make a logistic regression on the vectors of training rows the model's classifier."""
    from sklearn.linear_model import LogisticRegression

    vectors, labels = classifier_inputs(task, model, tokenizer, rows, options)
    found = LogisticRegression(max_iter=1000).fit(vectors, labels)
    weight, bias = torch.as_tensor(found.coef_), torch.as_tensor(found.intercept_)
    if len(weight) == 1:  # two classes: softmax over (-z/2, z/2) is the sigmoid of z
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    with torch.no_grad():
        model.classifier.weight.copy_(weight)
        model.classifier.bias.copy_(bias)


def classifier_inputs(
    task: Task, model: Any, tokenizer: Any, rows: Sequence[Row], options: TaskOptions
) -> tuple[np.ndarray, np.ndarray]:
    """What the classifier reads of each row (or window), `(B, E)`, without dropout, and labels."""
    features = task.encode(rows, tokenizer, model, options)
    collate, kept = task.collator(tokenizer, model), []
    watch = model.classifier.register_forward_pre_hook(
        lambda module, inputs: kept.append(inputs[0].float().cpu().numpy())
    )
    try:
        with evaluating(model) as device:
            for start in range(0, len(features), BATCH):
                batch = collate(features[start : start + BATCH])
                batch.pop("labels")
                model(**{name: tensor.to(device) for name, tensor in batch.items()})
    finally:
        watch.remove()
    return np.concatenate(kept), np.asarray([feature["labels"] for feature in features])
