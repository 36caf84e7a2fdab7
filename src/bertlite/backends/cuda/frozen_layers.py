"""An encoder's layers for frozen inference on a GPU: copies in one precision, fewer launches.

Query, key and value are one product, and there is no autograd and no output capture around the
layers. The parameters of the model stay as they are.

Shapes: `N` real tokens, `H` heads, `D` head size, `E` hidden size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .kernels import KERNELS, Ends
from .varlen import filled_up


@dataclass(frozen=True)
class FrozenLinear:
    """A product with weights of its own: copies of one layer's, or of several side by side."""

    weight: torch.Tensor
    bias: torch.Tensor | None

    @classmethod
    def of(cls, *linears: nn.Linear, dtype: torch.dtype) -> "FrozenLinear":
        """Copies of layers that read the same input."""
        weight = torch.cat([each.weight.detach().to(dtype) for each in linears])
        biases = [each.bias for each in linears]
        if any(each is None for each in biases):
            return cls(weight, None)
        return cls(weight, torch.cat([each.detach().to(dtype) for each in biases]))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """`(N, in)` to `(N, out)`."""
        return nn.functional.linear(x, self.weight, self.bias)


@dataclass(frozen=True)
class FrozenNorm:
    """A layer norm with weights of its own."""

    weight: torch.Tensor
    bias: torch.Tensor
    eps: float

    @classmethod
    def of(cls, norm: nn.LayerNorm, dtype: torch.dtype) -> "FrozenNorm":
        """A copy."""
        return cls(norm.weight.detach().to(dtype), norm.bias.detach().to(dtype), norm.eps)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """`(N, E)` to `(N, E)`."""
        return nn.functional.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class FrozenLayer:
    """One `EncoderLayer` on tokens laid end to end, `(N, E)` to `(N, E)`."""

    def __init__(self, layer: Any, dtype: torch.dtype):
        """Copy the layer's weights in `dtype`."""
        attention = layer.self_attention
        self.heads, self.scaling = attention.num_heads, attention.scaling
        self.norm_first, self.activation = layer.norm_first, layer.activation
        parts = (attention.query, attention.key, attention.value)
        self.projections = FrozenLinear.of(*parts, dtype=dtype)
        own = attention.projection
        output = layer.attention_projection if own is None else own
        self.output = FrozenLinear.of(output, dtype=dtype)
        self.inner = FrozenLinear.of(layer.inner, dtype=dtype)
        self.outer = FrozenLinear.of(layer.outer, dtype=dtype)
        self.attention_norm = FrozenNorm.of(layer.attention_norm, dtype)
        self.norm = FrozenNorm.of(layer.feed_forward_norm, dtype)

    def __call__(self, hidden_states: torch.Tensor, attend: Callable) -> torch.Tensor:
        """`attend` takes queries, keys and values `(N, H, D)`, and the scaling."""
        inputs = self.attention_norm(hidden_states) if self.norm_first else hidden_states
        heads = self.projections(inputs).unflatten(-1, (3, self.heads, -1))  # (N, 3, H, D)
        context = attend(*heads.unbind(1), self.scaling).flatten(1)  # (N, E)
        hidden_states = self.output(context) + hidden_states
        if not self.norm_first:
            hidden_states = self.attention_norm(hidden_states)
        inputs = self.norm(hidden_states) if self.norm_first else hidden_states
        hidden_states = self.outer(self.activation(self.inner(inputs))) + hidden_states
        return hidden_states if self.norm_first else self.norm(hidden_states)


class FrozenLayers:
    """All layers of an encoder, in one precision.

    Args:
        layers: the encoder's.
        dtype: of the copies.
    """

    def __init__(self, layers: nn.ModuleList, dtype: torch.dtype):
        self.dtype = dtype
        self.layers = [FrozenLayer(layer, dtype) for layer in layers]

    def __call__(self, hidden_states: torch.Tensor, ends: Ends, kernel: str) -> torch.Tensor:
        """`(N, E)` to `(N, E)` by attention kernel `kernel`."""

        def attend(query, key, value, scaling):
            size = query.shape[-1]
            rows = [filled_up(each) for each in (query, key, value)]
            return KERNELS[kernel](*rows, ends, scaling, 0.0, False)[..., :size]

        for layer in self.layers:
            hidden_states = layer(hidden_states, attend)
        return hidden_states
