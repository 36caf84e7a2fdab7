"""The loss over a vocabulary without its logits.

Shapes: `M` vectors that carry a label, `E` hidden size, `V` vocabulary.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..models.losses import Count, mean_over_items

Product = Callable[..., torch.Tensor]  # as nn.functional.linear


class ChunkedCrossEntropy(torch.autograd.Function):
    """scale · summed cross-entropy of `hidden @ weight.T + bias`, a chunk of rows at a time.

    A chunk's gradient is taken while its logits are at hand: memory holds `(chunk, V)` instead of
    `(M, V)`, and nothing is computed twice. `models.losses.cross_entropy` is the plain form, and a
    test holds the two equal.

    In half precision the scale, one over the number of labels, comes last: the gradient of a logit
    divided by thousands is below the smallest fp16, and a scaler, which multiplies the loss,
    comes too late for what has been rounded to zero here.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        labels: torch.Tensor,
        chunk_size: int,
        label_smoothing: float,
        scale: torch.Tensor,
        with_gradient: bool,
        product: Product,
    ) -> torch.Tensor:
        late = None
        total = hidden.new_zeros((), dtype=torch.float32)
        of_hidden = []
        of_weight = torch.zeros_like(weight, dtype=torch.float32) if with_gradient else None
        of_bias = None
        if with_gradient and bias is not None:
            of_bias = torch.zeros_like(bias, dtype=torch.float32)
        chunks = zip(hidden.split(chunk_size), labels.split(chunk_size), strict=True)
        for rows, targets in chunks:
            logits = product(rows, weight, bias)  # (chunk, V)
            log_probabilities = logits.float().log_softmax(-1)
            total += chunk_loss(log_probabilities, targets, label_smoothing)
            if with_gradient:
                error = chunk_error(log_probabilities, targets, label_smoothing)
                late = scale if logits.dtype != torch.float32 else None
                error = error if late is not None else error.mul_(scale)
                error = error.to(logits.dtype)  # (chunk, V)
                of_hidden.append(product(error, weight.T, None).to(hidden.dtype))
                of_weight += error.T @ rows
                if of_bias is not None:
                    of_bias += error.sum(0)
        if with_gradient:
            ctx.dtypes = (weight.dtype, None if bias is None else bias.dtype)
            ctx.save_for_backward(torch.cat(of_hidden), of_weight, of_bias, late)
        return total * scale

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple:
        of_hidden, of_weight, of_bias, late = ctx.saved_tensors
        gradient = gradient if late is None else gradient * late
        # A gradient of one is the usual case, and (V, E) is large; on a GPU the look would cost a
        # wait, and the product next to nothing.
        if gradient.device.type != "cpu" or gradient != 1:
            of_hidden = of_hidden * gradient.to(of_hidden.dtype)
            of_weight = of_weight * gradient
            of_bias = None if of_bias is None else of_bias * gradient
        of_weight = of_weight.to(ctx.dtypes[0])
        of_bias = None if of_bias is None else of_bias.to(ctx.dtypes[1])
        return of_hidden, of_weight, of_bias, None, None, None, None, None, None


def chunk_loss(
    log_probabilities: torch.Tensor, targets: torch.Tensor, label_smoothing: float
) -> torch.Tensor:
    """Summed cross-entropy of `(chunk, V)` log-probabilities."""
    of_targets = log_probabilities.gather(-1, targets[:, None]).sum()
    loss = -(1 - label_smoothing) * of_targets
    if label_smoothing:
        loss = loss - label_smoothing * log_probabilities.mean(-1).sum()
    return loss


def chunk_error(
    log_probabilities: torch.Tensor, targets: torch.Tensor, label_smoothing: float
) -> torch.Tensor:
    """The gradient of `chunk_loss` by the logits: softmax - target distribution. In place."""
    error = log_probabilities.exp_()
    on_target = torch.full_like(targets[:, None], label_smoothing - 1, dtype=error.dtype)
    error.scatter_add_(-1, targets[:, None], on_target)
    if label_smoothing:
        error -= label_smoothing / error.shape[-1]
    return error


def linear_cross_entropy(
    hidden_states: torch.Tensor,
    linear: nn.Linear,
    labels: torch.Tensor,
    *,
    product: Product,
    bias: torch.Tensor | None = None,
    num_items_in_batch: Count = None,
    chunk_size: int = 1024,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Cross-entropy over the vocabulary of `(M, E)` vectors that all carry a label `(M,)`.

    Args:
        hidden_states: `(M, E)`.
        linear: the output layer, `(V, E)`.
        labels: `(M,)`.
        product: x Wᵀ + b, as `nn.functional.linear`.
        bias: `(V,)`, added to the layer's own.
        num_items_in_batch: labels in all accumulated pieces; None: M.
        chunk_size: rows projected at a time.
        label_smoothing: ε.
    """
    own = linear.bias
    if own is not None and bias is not None:
        bias = own + bias
    bias = own if bias is None else bias
    one = hidden_states.new_ones((), dtype=torch.float32)
    return ChunkedCrossEntropy.apply(
        hidden_states,
        linear.weight,
        bias,
        labels.long(),
        chunk_size,
        label_smoothing,
        mean_over_items(one, len(labels), num_items_in_batch),
        torch.is_grad_enabled(),
        product,
    )
