"""Losses that stay exact when a batch is split into pieces.

Every loss is a sum over labelled items divided by their number: in this batch or, where `Trainer`
gives `num_items_in_batch`, in all those whose gradients are accumulated. So k steps give the
gradient of the full batch, however unevenly labels fall. Items labelled -100 count nowhere, and a
batch without labels has loss 0.

Shapes: `B` batch, `T` length, `L` labels.
"""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig

from .inputs import IGNORED, assert_labels, assert_soon, check_labels, is_traced, label_error

Count = torch.Tensor | int | None  # of labelled items in all accumulated pieces


def mean_over_items(
    total: torch.Tensor, count: torch.Tensor | int, num_items_in_batch: Count = None
) -> torch.Tensor:
    """Divide a summed loss by the items of the full batch, or of this one where nobody says."""
    if num_items_in_batch is not None:
        count = num_items_in_batch
    if isinstance(count, torch.Tensor):
        return total / count.to(total.device).clamp(min=1)
    return total / max(count, 1)


def cross_entropy(
    name: str,
    logits: torch.Tensor,
    labels: torch.Tensor,
    num_items_in_batch: Count = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Cross-entropy of `(..., classes)` logits against `(...)` labels, in fp32.

    Label smoothing ε (Vaswani et al. 2017, section 5.4) puts 1 - ε on the label and spreads ε
    evenly over all classes.

    Args:
        name: the argument to blame where a label is in no class.
        logits: `(..., classes)`.
        labels: `(...)`, -100 where nothing is predicted.
        num_items_in_batch: labelled items in all accumulated pieces.
        label_smoothing: ε.

    Raises:
        ValueError: labels of another shape or type, or out of range.
    """
    if logits.ndim == 2:
        labels = labels.view(-1)
    check_labels(name, labels, tuple(logits.shape[:-1]))
    flat_logits, flat_labels = logits.flatten(0, -2).float(), labels.flatten().long()
    summed = nn.CrossEntropyLoss(
        ignore_index=IGNORED, reduction="sum", label_smoothing=label_smoothing
    )
    assert_labels(name, flat_labels, logits.shape[-1])
    try:
        total = summed(flat_logits, flat_labels)
    except IndexError as error:
        raise label_error(name, labels, logits.shape[-1]) or error from error
    return mean_over_items(total, (flat_labels != IGNORED).sum(), num_items_in_batch)


def problem_type(config: PreTrainedConfig, labels: torch.Tensor) -> Any:
    """What kind of problem the labels of sequences are: the config's word, else by their type."""
    if config.problem_type is not None:
        return config.problem_type
    if config.num_labels == 1:
        return "regression"
    if labels.is_floating_point() or labels.dtype == torch.bool:
        return "multi_label_classification"
    return "single_label_classification"


def replaced_loss(
    logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: Count = None
) -> torch.Tensor:
    """Binary cross-entropy of `(...)` logits that a token was replaced (Clark et al. 2020).

    Args:
        logits: `(...)`.
        labels: `(...)`: 1 where it was, 0 where not, -100 where nothing is asked.
        num_items_in_batch: as in `cross_entropy`.

    Raises:
        ValueError: labels of another shape or type, or out of range.
    """
    check_labels("labels", labels, tuple(logits.shape))
    assert_labels("labels", labels, 2)
    counts = labels != IGNORED
    each = nn.functional.binary_cross_entropy_with_logits(
        logits.float(), labels.clamp(min=0).float(), reduction="none"
    )
    return mean_over_items((each * counts).sum(), counts.sum(), num_items_in_batch)


def sequence_loss(
    kind: str, logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: Count = None
) -> torch.Tensor:
    """Loss of `(B, L)` logits of whole sequences.

    Args:
        kind: as `problem_type` gives it.
        logits: `(B, L)`.
        labels: of regression, float `(B,)` or `(B, L)`; of a single label, int `(B,)`; of several,
            float `(B, L)` between 0 and 1.
        num_items_in_batch: as in `cross_entropy`.

    Raises:
        ValueError: labels that do not fit.
    """
    if kind == "single_label_classification":
        return cross_entropy("labels", logits, labels, num_items_in_batch)
    if labels.numel() != logits.numel():
        raise ValueError(
            f"labels must have shape {tuple(logits.shape)} for {kind}, got {tuple(labels.shape)}"
        )
    logits, labels = logits.float(), labels.view_as(logits).float()
    if kind == "regression":
        total = nn.functional.mse_loss(logits, labels, reduction="sum")
    else:
        check_shares(labels)
        total = nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
    return mean_over_items(total, labels.numel(), num_items_in_batch)


def check_shares(labels: torch.Tensor) -> None:
    """Refuse labels of several classes that are not from 0 to 1."""
    if not is_traced() and not labels.is_meta:
        said = "labels of multi_label_classification must lie between 0 and 1"
        assert_soon(((labels >= 0) & (labels <= 1)).all(), said)


def span_loss(
    start_logits: torch.Tensor,
    end_logits: torch.Tensor,
    start_positions: torch.Tensor,
    end_positions: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    num_items_in_batch: Count = None,
) -> torch.Tensor:
    """Mean of the start's and the end's cross-entropy over the positions of a row.

    A position at or beyond T, or -100, marks an answer that was cut off: it is ignored.

    Deviation: padding is left out of the softmax, where transformers' BERT lets it compete, so that
    its loss changes with the padding.

    Args:
        start_logits: `(B, T)`, and so are `end_logits`.
        start_positions: `(B,)` or `(B, 1)`, and so are `end_positions`.
        attention_mask: `(B, T)`, or None.
        num_items_in_batch: as in `cross_entropy`.
    """
    start = position_loss(
        "start_positions", start_logits, start_positions, attention_mask, num_items_in_batch
    )
    end = position_loss(
        "end_positions", end_logits, end_positions, attention_mask, num_items_in_batch
    )
    return (start + end) / 2


def position_loss(
    name: str,
    logits: torch.Tensor,
    positions: torch.Tensor,
    attention_mask: torch.Tensor | None,
    num_items_in_batch: Count,
) -> torch.Tensor:
    """One side of `span_loss`; `name` is the argument to blame."""
    positions = positions.view(-1)
    positions = positions.masked_fill(positions >= logits.shape[-1], IGNORED)
    if attention_mask is not None and attention_mask.ndim == 2:
        logits = logits.masked_fill(attention_mask == 0, torch.finfo(logits.dtype).min)
    return cross_entropy(name, logits, positions, num_items_in_batch)
