"""The product x Wᵀ + b by oneDNN, in fp32 on a CPU, forward and backward.

On some twice as fast as torch.
"""

import torch
from torch import nn
from torch.autograd import forward_ad

from .masking import is_traced


class Product(torch.autograd.Function):
    """x Wᵀ + b. Its gradients are products of the same kind, so that they can be derived again."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")

    @staticmethod
    def backward(ctx, gradient):
        (x, weight), (of_x, of_weight, of_bias) = ctx.saved_tensors, ctx.needs_input_grad
        rows, inputs = (
            (gradient := gradient.contiguous()).flatten(0, -2),
            x.flatten(0, -2),
        )  # else 50 times as slow
        weight_gradient = (
            rows.T @ inputs if of_weight else None
        )  # by torch: oneDNN would turn both round first
        return (
            linear(gradient, weight.T) if of_x else None,
            weight_gradient,
            rows.sum(0) if of_bias else None,
        )


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`(..., in)` by `(out, in)` to `(..., out)`, as `nn.functional.linear`, which does what oneDNN
    cannot.
    """
    plain = not {type(x), type(weight)} <= {torch.Tensor, nn.Parameter} or not (
        x.is_cpu and weight.is_cpu
    )
    plain = (
        plain
        or x.dtype != torch.float32
        or weight.dtype != torch.float32
        or torch.is_autocast_enabled("cpu")
    )
    plain = (
        plain
        or x.ndim < 2
        or 0 in x.shape
        or x.shape[-1] != weight.shape[-1]
        or forward_ad._current_level >= 0
    )
    if (
        plain
        or is_traced()
        or torch._C._are_functorch_transforms_active()
        or not torch.backends.mkldnn.is_available()
    ):
        return nn.functional.linear(x, weight, bias)
    if torch.is_grad_enabled():
        return Product.apply(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")


class Linear(nn.Linear):
    """`nn.Linear` by `linear`."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return linear(hidden_states, self.weight, self.bias)


def drop(x: torch.Tensor, p: float, training: bool) -> torch.Tensor:
    """Dropout.

    On a CPU each 64 random bits decide over four elements. Deviation: `p` is rounded to n / 65536.
    """
    ours = (
        type(x) is torch.Tensor
        and x.device.type == "cpu"
        and x.is_floating_point()
        and 1e-3 < p < 1 - 1e-3
    )
    if not (training and ours) or is_traced() or torch._C._are_functorch_transforms_active():
        return nn.functional.dropout(x, p, training)
    bits = (
        torch.empty(-(-x.numel() // 4), dtype=torch.int64)
        .random_(-(1 << 63), None)
        .view(torch.int16)
    )
    kept = torch.ge(
        bits[: x.numel()].view(x.shape),
        (dropped := round(p * 65536)) - 32768,
        out=torch.empty_like(x),
    )
    return x * kept.mul_(65536 / (65536 - dropped))


class Dropout(nn.Dropout):
    """`nn.Dropout` by `drop`."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return drop(input, self.p, self.training)
