"""Products and dropout for training and inference on a CPU, in place of torch's own.

`attach` gives a model's `nn.Linear`, `nn.Dropout` and GELU layers a faster `forward`. They keep
their type, their parameters and their place, so that whoever looks for `nn.Linear` finds it, and
`detach` takes it away again.
"""

import contextlib
import functools
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn
from torch.autograd import forward_ad
from transformers.activations import GELUActivation

from ...models.inputs import is_traced
from ...models.seam import walk


class Product(torch.autograd.Function):
    """x Wᵀ + b by oneDNN; its gradients are products of the same kind, to be derived again."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        # Rows that lie far apart, as those of a pooler do, make the product fifty times as slow.
        gradient = gradient.contiguous()
        rows = gradient.flatten(0, -2)
        # The weight's by torch: oneDNN would turn both inputs round first.
        weight_gradient = rows.T @ x.flatten(0, -2) if of_weight else None
        return (
            linear(gradient, weight.T) if of_x else None,
            weight_gradient,
            rows.sum(0) if of_bias else None,
        )


def suits_onednn(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether oneDNN may multiply here: plain fp32 tensors on a CPU, and nobody in between."""
    plain = type(x) is torch.Tensor or type(x) is nn.Parameter
    plain = plain and (type(weight) is torch.Tensor or type(weight) is nn.Parameter)
    if not plain or not (x.is_cpu and weight.is_cpu):
        return False
    if x.dtype != torch.float32 or weight.dtype != torch.float32:
        return False
    if x.ndim < 2 or 0 in x.shape or x.shape[-1] != weight.shape[-1]:
        return False
    return not (
        torch.is_autocast_enabled("cpu")
        or forward_ad._current_level >= 0
        or torch._C._are_functorch_transforms_active()
        or not torch.backends.mkldnn.is_available()
    )


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`(..., in)` by `(out, in)` to `(..., out)`, as `nn.functional.linear`.

    By oneDNN in fp32, forward and backward, which on some processors is twice as fast; what oneDNN
    cannot multiply goes to torch.
    """
    if is_traced() or not suits_onednn(x, weight):
        return nn.functional.linear(x, weight, bias)
    if torch.is_grad_enabled():
        return Product.apply(x, weight, bias)
    if x.numel() == x.shape[-1]:
        # A single row has another kernel, which adds up in another order. Two have that of all
        # others, so that a text gives the same numbers alone as in any batch.
        pair = x.reshape(1, -1).expand(2, -1).contiguous()
        made = torch.ops.mkldnn._linear_pointwise.default(pair, weight, bias, "none", [], "")
        return made[:1].view(*x.shape[:-1], -1)
    return torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")


def drop(x: torch.Tensor, p: float, training: bool) -> torch.Tensor:
    """Dropout; on a CPU each 64 random bits decide over four elements.

    Deviation: `p` is rounded to n / 65536.
    """
    if not training or p <= 0 or is_traced() or not suits_drop(x, p):
        return nn.functional.dropout(x, p, training)
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None)
    numbers = bits.view(torch.int16)[: x.numel()].view(x.shape)  # from -32768 to 32767
    dropped = round(p * 65536)
    kept = torch.ge(numbers, dropped - 32768, out=torch.empty_like(x))  # 1 where kept, else 0
    return x * kept.mul_(65536 / (65536 - dropped))


def suits_drop(x: torch.Tensor, p: float) -> bool:
    """Whether `drop` may draw its own mask."""
    if type(x) is not torch.Tensor or not x.is_cpu or not x.is_floating_point():
        return False
    return 1e-3 < p < 1 - 1e-3 and not torch._C._are_functorch_transforms_active()


def linear_forward(module: nn.Linear, input: torch.Tensor) -> torch.Tensor:
    """`nn.Linear.forward` by `linear`."""
    return linear(input, module.weight, module.bias)


def dropout_forward(module: nn.Dropout, input: torch.Tensor) -> torch.Tensor:
    """`nn.Dropout.forward` by `drop`."""
    if module.inplace:
        return nn.functional.dropout(input, module.p, module.training, inplace=True)
    return drop(input, module.p, module.training)


def gelu_forward(module: GELUActivation, input: torch.Tensor) -> torch.Tensor:
    """GELU; in place where no gradient needs its input and nobody sees it, to save a wide copy."""
    if is_traced() or torch.is_grad_enabled() or not IN_PLACE.get():
        return module.act(input)
    return torch.ops.aten.gelu_(input)


# Whether what goes into an activation may be overwritten: within `encode` of a backend, which has
# seen to it that no hook watches.
IN_PLACE: ContextVar[bool] = ContextVar("in_place", default=False)
FORWARDS: dict[type, Any] = {
    nn.Linear: linear_forward,
    nn.Dropout: dropout_forward,
    GELUActivation: gelu_forward,
}


@contextlib.contextmanager
def activations_in_place() -> Iterator[None]:
    """Within it, activations overwrite their input where no gradient needs it."""
    token = IN_PLACE.set(True)
    try:
        yield
    finally:
        IN_PLACE.reset(token)


def attach(model: nn.Module) -> None:
    """Give the model's plain linear and dropout layers a faster `forward`."""
    for module in walk(model):
        forward = FORWARDS.get(type(module))
        if forward is not None and "forward" not in module.__dict__:
            # A partial, not a closure: copies and pickles of the layer point at the copy.
            module.forward = functools.partial(forward, module)


def detach(model: nn.Module) -> None:
    """Take the faster `forward` away; one that somebody else has put there stays."""
    for module in walk(model):
        if "forward" in module.__dict__ and own_forward(module) is None:
            del module.__dict__["forward"]


def own_forward(module: nn.Module) -> Any:
    """The `forward` that somebody else has given to this one module; None where nobody has."""
    forward = module.__dict__.get("forward")
    attached = isinstance(forward, functools.partial) and forward.func in FORWARDS.values()
    return None if attached else forward
