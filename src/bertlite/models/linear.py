"""The product x Wᵀ + b by oneDNN, in fp32 on a CPU, forward and backward: on some twice as fast as torch."""

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
