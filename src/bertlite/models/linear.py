"""What torch does slowly on a CPU: the product x Wᵀ + b, here by oneDNN, and dropout (Srivastava et al. 2014)."""

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
        rows, inputs = (tensor.flatten(0, -2).contiguous() for tensor in (gradient, x))  # else 50 times as slow
        weight_gradient = linear(rows.T, inputs.T) if of_weight else None
        return linear(gradient, weight.T) if of_x else None, weight_gradient, rows.sum(0) if of_bias else None


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`(..., in)` by `(out, in)` to `(..., out)`, as `nn.functional.linear`, which does what oneDNN cannot."""
    kinds = {(each.dtype, each.device.type) for each in (x, weight)} | {type(x), type(weight)} - {nn.Parameter}
    plain = kinds - {torch.Tensor} != {(torch.float32, "cpu")} or torch.is_autocast_enabled("cpu") or is_traced()
    plain = plain or x.ndim < 2 or 0 in x.shape or x.shape[-1] != weight.shape[-1]
    plain = plain or forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()
    if plain or not torch.backends.mkldnn.is_available():
        return nn.functional.linear(x, weight, bias)
    if torch.is_grad_enabled():
        return Product.apply(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")


class Linear(nn.Linear):
    """`nn.Linear` by `linear`."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return linear(hidden_states, self.weight, self.bias)


def drop(x: torch.Tensor, p: float, training: bool) -> torch.Tensor:
    """`nn.functional.dropout`; on a CPU each random number of 64 bits decides over four elements of `x`.

    Deviation: `p` is rounded to a multiple of 1/65536, at least one; what is kept is scaled by the rounded value.
    """
    known = type(x) is torch.Tensor and x.device.type == "cpu" and x.is_floating_point() and 0 < p < 1
    if not (training and known) or is_traced() or torch._C._are_functorch_transforms_active():
        return nn.functional.dropout(x, p, training)
    dropped = min(max(round(p * 65536), 1), 65535)
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None).view(torch.int16)
    kept = (bits[: x.numel()].view(x.shape) >= dropped - 32768).to(x.dtype)
    return x * kept.mul_(65536 / (65536 - dropped))


class Dropout(nn.Dropout):
    """`nn.Dropout` by `drop`."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return drop(input, self.p, self.training)
