"""The CPU backend: real tokens end to end, products by oneDNN, dropout and attention in one pass.

Shapes: `B` batch, `T` length, `N` real tokens, `K` vectors that are read, `E` hidden size.
"""

import os
from typing import Any

import torch
from torch import nn

from ...models.attention import Attention
from ...models.encoder import FLAT_INPUTS
from ...models.inputs import TextBatch
from ...models.layers import EncoderLayer, LayerNode
from ...models.seam import HOOKS, hooked_module
from ..base import Backend, is_plain_linear, recorded_graph
from ..linear_cross_entropy import linear_cross_entropy
from ..unpadding import (
    TokenLayout,
    equal_length_groups,
    few_sizes,
    flash_arguments,
    lengths_of_ends,
    reads_padding,
)
from .attention import FlatAttention
from .linear import attach, detach, linear

KEPT_SIZES = "256"


class CpuBackend(Backend):
    """Training and inference on a CPU, in any precision; the weights stay as they are."""

    name = "cpu"

    def serves(self, device: torch.device) -> bool:
        return device.type == "cpu"

    def prepare(self, model: nn.Module) -> None:
        # oneDNN and torch keep code for each size of a product, 1,024 of them: gigabytes where
        # every batch has its own size. They read this at the first product of the process, and
        # what the user has set stays.
        os.environ.setdefault("LRU_CACHE_CAPACITY", KEPT_SIZES)
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KEPT_SIZES)
        attach(model)

    def restore(self, model: nn.Module) -> None:
        detach(model)

    def unsupported(self, work: str, model: nn.Module, **wanted: Any) -> list[str]:
        device = model.device
        if not self.serves(device):
            return [f"the weights are on {device.type}"]
        if reasons := recorded_graph():
            return reasons
        if work == "vocabulary_loss":
            plain = is_plain_linear(wanted["linear"])
            return [] if plain else ["the output layer has been exchanged"]
        if work == "encode":
            return self.against_encoding(model, **wanted)
        return [f"it does not {work}"]

    def against_encoding(
        self,
        encoder: Any,
        batch: TextBatch,
        positions: torch.Tensor | None,
        zero_padding: bool,
        **kwargs: Any,
    ) -> list[str]:
        """Reasons not to lay this batch end to end."""
        for name in ("output_attentions", "output_hidden_states"):
            wanted = kwargs.get(name)
            if wanted if wanted is not None else getattr(encoder.config, name):
                return [f"{name} was asked for"]
        if reason := against_form(encoder, batch, kwargs.get("past_key_values")):
            return [reason]
        mask = batch.attention_mask
        has_padding = mask is not None and not bool(mask.all())
        if has_padding and not zero_padding:
            return ["in training the vectors of padding are asked for"]
        if has_padding and reads_padding(mask, positions, encoder.reads_first_position):
            return ["a vector of padding is read"]
        if watched := hooked_module(encoder):
            return [f"a hook watches {watched}"]
        return []

    def vocabulary_loss(self, hidden_states, linear_layer, labels, **options: Any) -> torch.Tensor:
        return linear_cross_entropy(hidden_states, linear_layer, labels, product=linear, **options)

    def encode(
        self, encoder: Any, batch: TextBatch, positions: torch.Tensor | None, **kwargs: Any
    ) -> torch.Tensor:
        ends = kwargs.get("cu_seq_lens_q")
        kwargs = {name: each for name, each in kwargs.items() if name not in FLAT_INPUTS}
        layout = None if ends is not None else self.layout_of(batch)
        if layout is not None:
            flat = layout.take_batch(batch)
            lengths = layout.lengths
        else:
            flat = batch
            lengths = [batch.shape[1]] * batch.shape[0] if ends is None else lengths_of_ends(ends)
        # (1, N, E): the batch that is without padding is end to end as it stands.
        hidden_states = encoder.embed_batch(flat).flatten(0, 1)[None]
        kwargs |= self.attention_arguments(encoder, lengths, hidden_states.device)
        if positions is not None:
            places = positions.flatten().nonzero().squeeze(-1)
            places = places if layout is None else layout.places(positions)
            return self.run_to(encoder, hidden_states, places, **kwargs)
        hidden_states = encoder.finish(encoder.run_layers(hidden_states, None, **kwargs))
        if layout is not None:
            return layout.put_back(hidden_states)
        return hidden_states.view(*batch.shape, -1)

    def layout_of(self, batch: TextBatch) -> TokenLayout | None:
        """Where the real tokens stand; None where all are real and rows hold one sequence each."""
        mask = batch.attention_mask
        if batch.segments is None and (mask is None or bool(mask.all())):
            return None
        return TokenLayout.of(mask, batch.segments, batch.shape, batch.device, round_sizes=True)

    def attention_arguments(
        self, encoder: Any, lengths: list[int], device: torch.device
    ) -> dict[str, Any]:
        """What each layer's attention is told of the sequences."""
        if "flash" in encoder.config._attn_implementation:
            return flash_arguments(lengths, device)
        return {"attention_interface": FlatAttention(equal_length_groups(lengths))}

    def run_to(
        self, encoder: Any, hidden_states: torch.Tensor, places: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        """`(1, N, E)` through all layers, to the vectors at `places` `(K,)` alone, `(K, E)`.

        What comes after the last layer's attention is computed for those only.
        """
        layers = list(encoder.stack.layers)
        if not layers or encoder.stack.layerdrop or not is_plain_layer(layers[-1]):
            hidden_states = encoder.run_layers(hidden_states, None, **kwargs)
            return encoder.finish(hidden_states)[0, places]
        for layer in layers[:-1]:
            hidden_states = layer(hidden_states, None, **kwargs)
        hidden_states = end_at(layers[-1], hidden_states, few_sizes(places), **kwargs)
        return encoder.finish(hidden_states)[0, : len(places)]


def against_form(encoder: Any, batch: TextBatch, past_key_values: Any) -> str | None:
    """Why a batch of this form can only be computed padded, or None."""
    if encoder.config._attn_implementation == "flex_attention":
        return "flex_attention takes padded batches"
    if batch.is_prepared:
        return "the attention mask is prepared"
    return None if past_key_values is None else "keys and values stand before the batch"


def end_at(
    layer: EncoderLayer, hidden_states: torch.Tensor, places: torch.Tensor, **kwargs: Any
) -> torch.Tensor:
    """The steps of an `EncoderLayer`, from `(1, N, E)` to the vectors at `places`, `(1, K, E)`."""
    inputs = layer.attention_norm(hidden_states) if layer.norm_first else hidden_states
    context, _ = layer.self_attention(inputs, attention_mask=None, **kwargs)  # (1, N, E)
    context = context.index_select(1, places)
    residual = hidden_states.index_select(1, places)
    return layer.feed_forward_sublayer(layer.step("end_attention", context, residual))


def is_plain_layer(layer: nn.Module) -> bool:
    """Whether a layer's steps may be taken one by one: none was exchanged, and none is hooked."""
    if type(layer) is not EncoderLayer:
        return False
    nodes = [node for node in layer.modules() if node._modules]
    known = all(type(node) in (EncoderLayer, LayerNode, Attention) for node in nodes)
    return known and not any(vars(node)[name] for node in nodes for name in HOOKS)
