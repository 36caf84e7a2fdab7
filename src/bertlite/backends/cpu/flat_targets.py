"""A decoder in training on a CPU, without targets that nobody reads and without a padded source.

All products of the layers are on real tokens laid end to end. Attention alone is to padded rows: it
is a small part of the work, and rows of pairs of lengths would be a call each.

Shapes: `B` batch, `T` targets, `S` source length, `N` tokens that are kept, `H` heads, `D` head
size, `E` hidden size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ...models.attention import eager_attention
from ...models.encoder import FLAT_INPUTS
from ...models.inputs import TextBatch
from ..unpadding import Places, few_sizes
from .attention import dropping_attention
from .linear import activations_in_place

Source = tuple[torch.Tensor, torch.Tensor | None]  # vectors (B, S, E), and their mask (B, S)


@dataclass(frozen=True)
class PaddedAttention:
    """An attention function for `Attention`, for tokens laid end to end.

    Args:
        queries: where they stand in their rows.
        keys: likewise; None: they come in rows, `(B, H, S, D)`.
        mask: boolean, True where a query may attend, `(B, 1, 1, S)`; None: to every key that
            causality allows.
    """

    queries: Places
    keys: Places | None
    mask: torch.Tensor | None = None

    def __call__(
        self,
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float,
        dropout: float = 0.0,
        **kwargs,
    ) -> tuple[torch.Tensor, None]:
        """`(1, H, N, D)` each to the context `(1, N, H, D)`; the weights are not given."""
        query = in_rows(query, self.queries)  # (B, H, T, D)
        if self.keys is not None:
            key, value = in_rows(key, self.keys), in_rows(value, self.keys)
        attend, mask = self.function_of(module, dropout), self.mask
        if attend is dropping_attention:
            mask = self.added(query, bool(module.is_causal))
        context, _ = attend(module, query, key, value, mask, scaling=scaling, dropout=dropout)
        return context.flatten(0, 1).index_select(0, self.queries.indices)[None], None

    def function_of(self, module: Any, dropout: float) -> Callable:
        """The function that attends to rows."""
        name = module.config._attn_implementation
        if name == "sdpa" and dropout > 0:  # torch's fused attention has no dropout on a CPU
            return dropping_attention
        return ALL_ATTENTION_FUNCTIONS.get_interface(name, eager_attention)

    def added(self, query: torch.Tensor, is_causal: bool) -> torch.Tensor | None:
        """What is added to the scores: nothing where a query may attend, else the lowest number."""
        allowed, length = self.mask, query.shape[2]
        if is_causal:
            allowed = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
        if allowed is None:
            return None
        lowest = torch.finfo(query.dtype).min
        return torch.zeros_like(allowed, dtype=query.dtype).masked_fill(~allowed, lowest)


def in_rows(heads: torch.Tensor, places: Places) -> torch.Tensor:
    """`(1, H, N, D)` to `(B, H, T, D)`, zero where no token stands."""
    batch, length = places.shape
    tokens = heads[0].transpose(0, 1)[: places.count]  # (N, H, D)
    rows = tokens.new_zeros(batch * length, *tokens.shape[1:])
    rows = rows.index_copy(0, places.indices[: places.count], tokens)
    return rows.unflatten(0, (batch, length)).transpose(1, 2)


def places_in(mask: torch.Tensor) -> Places:
    """Where the True ones of `(B, T)` stand."""
    indices = mask.flatten().nonzero().squeeze(-1)
    return Places(few_sizes(indices), len(indices), (mask.shape[0], mask.shape[1]))


def against_flat_targets(
    decoder: Any,
    encoder_attention_mask: torch.Tensor | None,
    is_packed: bool,
    past_key_values: Any,
    attention_mask: torch.Tensor | None,
    target_mask: torch.Tensor | None,
    **kwargs: Any,
) -> list[str]:
    """Reasons to leave a decoder to the plain core."""
    if target_mask is None:
        return ["every target is read"]
    if past_key_values is not None:
        return ["a cache holds the keys of the source"]
    if is_packed:
        return ["rows are packed"]
    if attention_mask is not None:
        return ["a mask of the targets is given"]
    for name in ("output_attentions", "output_hidden_states"):
        if kwargs.get(name) or getattr(decoder.config, name):
            return [f"{name} was asked for"]
    if decoder.config._attn_implementation not in ("sdpa", "eager"):
        return ["attention has another implementation"]
    return against_values(encoder_attention_mask, target_mask)


def against_values(mask: torch.Tensor | None, target_mask: torch.Tensor) -> list[str]:
    """Reasons that lie in the masks: of the source `(B, S)`, and of the targets `(B, T)`."""
    if mask is not None and mask.ndim != 2:
        return ["the mask of the source is prepared"]
    if mask is not None and not bool((mask != 0).any(-1).all()):
        return ["a source has no token"]
    if bool(target_mask.all()) and (mask is None or bool(mask.all())):
        return ["nothing is padding"]
    return [] if bool(target_mask.any()) else ["no target is read"]


def decode_flat(
    decoder: Any, targets: TextBatch, source: Source, target_mask: torch.Tensor, **kwargs: Any
) -> torch.Tensor:
    """As `Backend.decode`, `(B, T, E)`: zero where `target_mask` is not True."""
    kwargs = {name: each for name, each in kwargs.items() if name not in FLAT_INPUTS}
    places = places_in(target_mask)
    states, mask = source
    keys, allowed = None, None
    if mask is not None and not bool(mask.all()):
        real = mask != 0
        keys, allowed = places_in(real), real[:, None, None]
        states = states.flatten(0, 1).index_select(0, keys.indices)[None]  # (1, N, E)
    flat = places.take_batch(targets)
    hidden_states = decoder.embed(flat.input_ids, None, flat.position_ids, flat.inputs_embeds)
    with activations_in_place():
        hidden_states = decoder.run_layers(
            hidden_states,
            None,
            states,
            attention_interface=PaddedAttention(places, places),
            cross_attention_interface=PaddedAttention(places, keys, allowed),
            **kwargs,
        )
    return places.put_back(decoder.finish(hidden_states))
