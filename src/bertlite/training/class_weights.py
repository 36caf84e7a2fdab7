"""Classes that weigh differently in the loss, for data where some are rare.

Shapes: `B` rows, `T` length, `L` classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

IGNORED = -100
SINGLE, MULTI = "single_label_classification", "multi_label_classification"


def class_weights(
    given: Any, counts: Sequence[int] | None, labels: Sequence[str], *, rows: int | None = None
) -> list[float]:
    """One weight for each class.

    Args:
        given: "auto", numbers (also as text with commas between) in the order of `labels`, or a
            mapping of labels to numbers, where a label that is left out weighs 1.
        counts: labelled items of each class in the training data; for "auto" only.
        labels: names of the classes.
        rows: rows of multi-label data, where each label has a weight of its own: that of the rows
            that have it, against 1 for those that have it not.

    Returns:
        With "auto", items / (classes · items of the class), as scikit-learn's "balanced"; in
        multi-label data, rows without the label / rows with it. A class without items weighs 1.

    Raises:
        ValueError: weights that are no positive numbers, or not one a class.

    >>> class_weights("auto", [30, 10], ["common", "rare"])
    [0.6666666666666666, 2.0]
    """
    if isinstance(given, str) and given.strip() == "auto":
        if counts is None:
            raise ValueError("class_weights must be numbers where rows stream, got 'auto'")
        return automatic_weights(counts, rows)
    if isinstance(given, Mapping):
        if unknown := sorted(set(map(str, given)) - set(labels)):
            raise ValueError(
                f"class_weights must be of the labels {list(labels)}, got {', '.join(unknown)}"
            )
        given = [given.get(label, 1.0) for label in labels]
    parts = given.split(",") if isinstance(given, str) else list(given)
    try:
        weights = [float(part) for part in parts]
    except (TypeError, ValueError):
        raise ValueError(
            "class_weights must be auto, or one number a label with commas between, in the order "
            f"{', '.join(labels)}, got {given!r}"
        ) from None
    if len(weights) != len(labels):
        raise ValueError(
            f"class_weights must be one number for each of {len(labels)} labels "
            f"({', '.join(labels)}), got {len(weights)}"
        )
    if not all(0 < weight < float("inf") for weight in weights):
        raise ValueError(f"class_weights must be above 0 and finite, got {weights}")
    return weights


def automatic_weights(counts: Sequence[int], rows: int | None) -> list[float]:
    """The weights of "auto"; see `class_weights`."""
    if rows is not None:
        return [(rows - count) / count if 0 < count < rows else 1.0 for count in counts]
    share = sum(counts) / sum(count > 0 for count in counts)
    return [share / count if count else 1.0 for count in counts]


class WeightedLoss:
    """A loss for `Trainer(compute_loss_func=...)`, the same however a batch is cut into pieces.

    One label: the weighted mean of the cross-entropies, Σ w·loss / Σ w. The sum below the line runs
    over all pieces whose gradients are accumulated: `WeightedCount` gives it as
    `num_items_in_batch`, where the library gives the number of items. Several labels: the mean
    binary cross-entropy, in which a label that is there weighs w.

    Args:
        weights: one a class.
        problem_type: of the model.
    """

    def __init__(self, weights: Sequence[float], problem_type: str = SINGLE):
        self.weights = torch.tensor(weights, dtype=torch.float32)
        self.problem_type = problem_type

    def __call__(
        self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """The loss of `(B, L)` or `(B, T, L)` logits."""
        logits = outputs["logits"].float()
        weights = self.weights.to(logits.device)
        if self.problem_type == MULTI:
            total = nn.functional.binary_cross_entropy_with_logits(
                logits, labels.float(), pos_weight=weights, reduction="sum"
            )
        else:
            total = nn.functional.cross_entropy(
                logits.flatten(0, -2),
                labels.flatten().long(),
                weight=weights,
                ignore_index=IGNORED,
                reduction="sum",
            )
        count = self.weight_of(labels) if num_items_in_batch is None else num_items_in_batch
        return total / count

    def weight_of(self, labels: torch.Tensor) -> torch.Tensor:
        """What the labelled items of a batch weigh together: by what the loss is divided."""
        if self.problem_type == MULTI:
            return torch.tensor(float(labels.numel()), device=labels.device)
        labelled = labels[labels != IGNORED].long()
        return self.weights.to(labels.device)[labelled].sum()


class WeightedCount:
    """A mixin for `Trainer`s with a `WeightedLoss`: batches are counted by weight, not by items."""

    compute_loss_func: Any
    args: Any
    accelerator: Any

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> Any:
        loss = self.compute_loss_func
        if not isinstance(loss, WeightedLoss) or not batch_samples:
            return super()._get_num_items_in_batch(batch_samples, device)  # type: ignore[misc]
        total = torch.stack([loss.weight_of(batch["labels"]) for batch in batch_samples]).sum()
        total = total.to(device)
        if self.args.average_tokens_across_devices and self.args.world_size > 1:
            total = self.accelerator.gather(total).sum()
        return total
