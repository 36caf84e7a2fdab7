"""Losses that stay exact when a batch is split into pieces.

Every loss is a sum over labelled items divided by their number: in this batch or, as
`num_items_in_batch` of `Trainer`,
in all whose gradients are accumulated: k steps give the gradient of the full batch, however
unevenly labels fall. Items labelled -100 count nowhere; a batch without labels has loss 0.

Shapes: `B` batch, `T` length, `M` labelled positions, `E` hidden size, `V` vocabulary, `L` labels.
"""

import torch
from torch import nn

from .linear import linear
from .masking import IGNORED, check_integers, is_traced


def mean_over_items(total: torch.Tensor, count, num_items_in_batch=None) -> torch.Tensor:
    """Divide a summed loss by the items of the full batch, or of this one where nobody says."""
    count = count if num_items_in_batch is None else num_items_in_batch
    return total / (
        count.to(total.device).clamp(min=1) if isinstance(count, torch.Tensor) else max(count, 1)
    )


def cross_entropy(
    logits, labels, num_items_in_batch=None, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Cross-entropy of `(..., classes)` logits against `(...)` labels, in fp32.

    Label smoothing ε (Vaswani et al. 2017, section 5.4) puts 1 - ε on the label and spreads ε
    evenly over all classes.
    """
    logits, labels = logits.flatten(0, -2).float(), labels.flatten()
    summed = nn.CrossEntropyLoss(
        ignore_index=IGNORED, reduction="sum", label_smoothing=label_smoothing
    )
    return mean_over_items(
        summed(logits, labels.long()), (labels != IGNORED).sum(), num_items_in_batch
    )


def class_loss(
    name: str, logits: torch.Tensor, labels: torch.Tensor | None, num_items_in_batch=None
):
    """Cross-entropy of `(..., classes)` logits, or None without labels.

    `name` is the argument to blame.
    """
    if labels is None:
        return None
    labels = labels.view(-1) if logits.ndim == 2 else labels
    check_integers(name, labels, logits.shape[-1], tuple(logits.shape[:-1]))
    return cross_entropy(logits, labels, num_items_in_batch)


class ChunkedCrossEntropy(torch.autograd.Function):
    """scale · summed cross-entropy of `hidden @ weight.T + bias`, a chunk of rows at a time.

    A chunk's gradient is taken while its logits are at hand: memory holds `(chunk, V)` instead of
    `(M, V)`, and nothing is computed twice. `cross_entropy` is the plain form, and a test holds the
    two equal.
    """

    @staticmethod
    def forward(
        ctx, hidden, weight, bias, labels, chunk_size, label_smoothing, scale, with_gradient
    ):
        total, of_hidden, of_weight, of_bias = (
            hidden.new_zeros((), dtype=torch.float32),
            [],
            None,
            None,
        )
        for rows, target in zip(
            hidden.split(chunk_size), labels[:, None].split(chunk_size), strict=True
        ):
            logits = linear(rows, weight, bias)  # (chunk, V)
            log_probabilities = logits.float().log_softmax(-1)
            total -= (1 - label_smoothing) * log_probabilities.gather(-1, target).sum()
            if label_smoothing:
                total -= label_smoothing * log_probabilities.mean(-1).sum()
            if with_gradient:  # of the logits: softmax - target distribution
                error = log_probabilities.exp_()
                error.scatter_add_(
                    -1, target, torch.full_like(target, label_smoothing - 1, dtype=error.dtype)
                )
                if label_smoothing:
                    error -= label_smoothing / error.shape[-1]
                error = error.mul_(scale).to(logits.dtype)
                of_hidden.append(linear(error, weight.T).to(hidden.dtype))
                parts = ((error.T @ rows).to(weight.dtype), error.sum(0).to(bias.dtype))
                of_weight, of_bias = (
                    parts if of_weight is None else (of_weight + parts[0], of_bias + parts[1])
                )
        if with_gradient:
            ctx.save_for_backward(torch.cat(of_hidden), of_weight, of_bias)
        return total * scale

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx, gradient
    ):  # one, the usual case, is worth a look: (V, E) is large; on a GPU it costs a wait
        unit = gradient.device.type == "cpu" and gradient == 1
        return *(
            saved if unit else saved * gradient.to(saved.dtype) for saved in ctx.saved_tensors
        ), *[None] * 5


def vocabulary_loss(
    hidden,
    labels,
    weight,
    bias,
    num_items_in_batch=None,
    chunk_size: int = 1024,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Cross-entropy over the vocabulary of `(M, E)` rows that all carry a label `(M,)`,
    `chunk_size` rows at a time.
    """
    scale = mean_over_items(
        hidden.new_ones((), dtype=torch.float32), len(labels), num_items_in_batch
    )
    options = (chunk_size, label_smoothing, scale, torch.is_grad_enabled())
    return ChunkedCrossEntropy.apply(hidden, weight, bias, labels.long(), *options)


def sequence_loss(
    logits: torch.Tensor, labels: torch.Tensor, config, num_items_in_batch=None
) -> torch.Tensor:
    """Loss of `(B, L)` logits of sequences by `config.problem_type`, which is inferred once where
    it is None.

    `labels` of regression are float `(B,)` or `(B, L)`, of a single label int `(B,)`, of
    multi-label float `(B, L)`.
    """
    kinds = {True: "single_label_classification", False: "multi_label_classification"}
    whole = not labels.is_floating_point() and labels.dtype != torch.bool
    kind = config.problem_type or ("regression" if config.num_labels == 1 else kinds[whole])
    if kind == "single_label_classification":
        loss = class_loss("labels", logits, labels, num_items_in_batch)
        config.problem_type = kind
        return loss
    if labels.numel() != logits.numel():
        raise ValueError(
            f"labels must have shape {tuple(logits.shape)} for {kind}, got {tuple(labels.shape)}"
        )
    logits, labels = logits.float(), labels.view_as(logits).float()
    if kind == "regression":
        total = nn.functional.mse_loss(logits, labels, reduction="sum")
    else:
        if not is_traced() and ((labels < 0) | (labels > 1)).any():
            raise ValueError("labels of multi_label_classification must lie between 0 and 1")
        total = nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
    config.problem_type = kind
    return mean_over_items(total, labels.numel(), num_items_in_batch)


def span_loss(
    start_logits,
    end_logits,
    start_positions,
    end_positions,
    attention_mask=None,
    num_items_in_batch=None,
):
    """Mean of the start's and the end's cross-entropy over the positions of a row.

    Logits are `(B, T)`, positions `(B,)` or `(B, 1)`, `attention_mask` `(B, T)` or None. A position
    at or beyond T, or -100, marks an answer that was cut off: it is ignored. Deviation: padding is
    left out of the softmax, where transformers' BERT lets it compete, so that its loss changes with
    the padding.
    """
    losses = []
    pairs = {
        "start_positions": (start_logits, start_positions),
        "end_positions": (end_logits, end_positions),
    }
    for name, (logits, positions) in pairs.items():
        positions, length = positions.view(-1), logits.shape[-1]
        positions = positions.masked_fill(positions >= length, IGNORED)
        check_integers(name, positions, length, (len(logits),))
        if attention_mask is not None and attention_mask.ndim == 2:
            logits = logits.masked_fill(attention_mask == 0, torch.finfo(logits.dtype).min)
        losses.append(cross_entropy(logits, positions, num_items_in_batch))
    return (losses[0] + losses[1]) / 2
