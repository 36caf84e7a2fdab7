"""The layers of an encoder for frozen inference on a CPU: same outputs, less work.

Weights are packed once, query, key and value are one product, residuals are added inside the
products, the activation works in place, and there is no autograd and no output capture around the
layers. The parameters stay as they are.

Shapes: `B` batch, `T` length, `N` real tokens, `K` vectors that are read, `H` heads, `D` head size,
`E` hidden size.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers.activations import GELUActivation

from ...models.layers import EncoderLayer
from .attention import attend_by_products
from .packed_linear import inner_bound, normalized_sizes, pack

Rotation = tuple[torch.Tensor, torch.Tensor]  # cosines and sines, (1, N, D) each
DTYPES = (None, "fp32", "bf16", "int8")
BLOCK_TOKENS = (
    1024  # tokens that go through all layers together: what they need at a time stays in the cache
)
# tokens up to which attention is faster as two plain batched products than by torch's fused kernel
SHORT = 128
KEPT_BYTES = 31 << 20  # just below the largest size for which glibc still moves its threshold


def input_projections(layer: Any) -> tuple[Any, ...]:
    """Those of a layer's queries, keys and values: three products, or one."""
    attention = layer.self_attention
    if attention.query_key_value is not None:
        return (attention.query_key_value,)
    return attention.query, attention.key, attention.value


def output_projection(layer: Any) -> Any:
    """W^O of a layer's self-attention, wherever its family keeps it."""
    own = layer.self_attention.projection
    return layer.attention_projection if own is None else own


class PackedLayer:
    """One encoder layer on real tokens laid end to end, `(N, E)` to `(N, E)`.

    The plain one is `EncoderLayer`.
    """

    def __init__(self, layer: EncoderLayer, dtype: str | None):
        """Pack the layer's weights in `dtype`."""
        attention, norm = layer.self_attention, layer.attention_norm
        self.layer, self.heads, self.scaling = layer, attention.num_heads, attention.scaling
        self.window = attention.window
        is_gelu = type(layer.activation) is GELUActivation
        self.activation = torch.ops.aten.gelu_ if is_gelu else layer.activation
        # In int8 it helps to know what comes out of the norm before a product.
        sizes = normalized_sizes(norm) if layer.norm_first else None
        parts = input_projections(layer)
        self.projections = pack(*parts, dtype=dtype, channel_sizes=sizes)
        self.output = pack(output_projection(layer), dtype=dtype)
        sizes = normalized_sizes(layer.feed_forward_norm if layer.norm_first else norm)
        self.inner = pack(layer.inner, dtype=dtype, channel_sizes=sizes)
        lowest = None if layer.gated else inner_bound(attention.config.hidden_act)
        self.outer = pack(layer.outer, dtype=dtype, lowest=lowest)

    def __call__(
        self,
        hidden_states: torch.Tensor,
        groups: list[tuple[int, int]],
        places: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        rotation: Rotation | None = None,
        local_mask: torch.Tensor | None = None,
        local_rotation: Rotation | None = None,
    ) -> torch.Tensor:
        """`(N, E)` to `(N, E)`, or to the vectors at `places` `(K,)` alone.

        `groups` are runs of sequences of equal length, as in `equal_length_groups`; `bias` is that
        of `FlatAttention`, and what follows it is as in `Attention`, with rotations `(1, N, D)`.
        """
        attention_norm, norm = self.layer.attention_norm, self.layer.feed_forward_norm
        pre_norm = self.layer.norm_first
        inputs = normalized(attention_norm, hidden_states) if pre_norm else hidden_states
        if self.window is not None:
            bias, rotation = local_mask, local_rotation
        context = self.attend(self.projections(inputs), groups, bias, rotation)
        hidden_states = self.output(context, hidden_states)
        if places is not None:
            hidden_states = hidden_states[places]
        if pre_norm:
            inner = self.activated(self.inner(normalized(norm, hidden_states)))
            return self.outer(inner, hidden_states)
        hidden_states = normalized(attention_norm, hidden_states)
        inner = self.activated(self.inner(hidden_states))
        return normalized(norm, self.outer(inner, hidden_states))

    def activated(self, inner: torch.Tensor) -> torch.Tensor:
        """What comes after the inner product, with a gate where the layer has one."""
        if not self.layer.gated:
            return self.activation(inner)
        inner, gate = inner.chunk(2, dim=-1)
        return self.activation(inner.contiguous()).mul_(gate)

    def attend(
        self,
        projected: torch.Tensor,
        groups: list[tuple[int, int]],
        bias: torch.Tensor | None = None,
        rotation: Rotation | None = None,
    ) -> torch.Tensor:
        """Queries, keys and values side by side, `(N, 3 E)`, to the context `(N, E)`."""
        if rotation is not None:
            turn(projected, self.heads, rotation)
        context, start = projected.new_empty(len(projected), projected.shape[1] // 3), 0
        for count, length in groups:
            rows = slice(start, start := start + count * length)
            heads = (
                projected[rows].view(count, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            )  # (3, count, H, T, D)
            mask = None if bias is None else bias[..., :length, :length]
            if self.window is not None and length <= self.window + 1:
                mask = None  # a window hides nothing of these
            if length <= SHORT:
                query, key, value = heads if count == 1 else heads.contiguous()
                attended = attend_by_products(query, key, value, self.scaling, mask)
            else:
                query, key, value = heads
                attended = nn.functional.scaled_dot_product_attention(
                    query, key, value, attn_mask=mask, scale=self.scaling
                )  # (count, H, T, D)
            context[rows].view(count, length, self.heads, -1).copy_(attended.transpose(1, 2))
        return context


def turn(projected: torch.Tensor, heads: int, rotation: Rotation) -> None:
    """Rotary positions of the queries and keys in `(N, 3 E)`, in place: as `attention.rotate`."""
    sides = projected.view(len(projected), 3, heads, -1)[:, :2]  # (N, 2, H, D)
    cosine, sine = (each[0, :, None, None] for each in rotation)  # (N, 1, 1, D)
    first, second = sides.chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1).mul(sine)
    sides.copy_(torch.addcmul(turned, sides, cosine))


def normalized(norm: nn.Module, hidden_states: torch.Tensor) -> torch.Tensor:
    """The layer norm, without the module call around it; there may be none."""
    if not isinstance(norm, nn.LayerNorm):
        return hidden_states
    return torch.layer_norm(hidden_states, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def blocks(
    groups: list[tuple[int, int]], most: int = BLOCK_TOKENS
) -> Iterator[list[tuple[int, int]]]:
    """Runs of sequences cut so that each part holds at most `most` tokens, or one sequence that is
    longer.
    """
    part: list[tuple[int, int]] = []
    room = most
    for count, length in groups:
        while count:
            fits = min(count, max(room, 0) // length)
            if not fits and part:
                yield part
                part, room = [], most
                continue
            fits = fits or 1
            part.append((fits, length))
            count, room = count - fits, room - fits * length
    if part:
        yield part


def keep_freed_memory() -> None:
    """Let glibc keep what is freed.

    Without it each large result costs thousands of page faults, every time anew.

    Blocks that are as large as one that was freed before come from the heap, and twice as much may
    stay free at its end (mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD). Other allocators do
    not mind.
    """
    torch.empty(KEPT_BYTES, dtype=torch.uint8, device="cpu")
