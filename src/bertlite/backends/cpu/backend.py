"""The CPU backend: real tokens end to end, products by oneDNN, dropout and attention in one pass.

Shapes: `B` batch, `T` length, `N` real tokens, `K` vectors that are read, `E` hidden size.
"""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ...models.encoder import FLAT_INPUTS
from ...models.inputs import TextBatch, is_traced
from ..base import is_plain_linear
from ..flat_backend import FlatBackend
from ..linear_cross_entropy import linear_cross_entropy
from ..unpadding import (
    TokenLayout,
    equal_length_groups,
    few_sizes,
    flash_arguments,
    flat_positions,
    has_holes,
    lengths_of_ends,
    reads_padding,
)
from .attention import FlatAttention, window_mask
from .compiled import encode_in_graph
from .flat_targets import against_flat_targets, decode_flat
from .generation import against, fast_generate
from .linear import activations_in_place, attach, detach, linear

KEPT_SIZES = "256"


class CpuBackend(FlatBackend):
    """Training and inference on a CPU, in any precision; the weights stay as they are."""

    name = "cpu"
    special_attention = ("a position bias", "rotary positions", "a window")

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
        device: Any = model.device
        if not self.serves(device):
            return [f"the weights are on {device.type}"]
        if is_traced():
            return self.against_recording(work, model, **wanted)
        if work == "vocabulary_loss":
            plain = is_plain_linear(wanted["linear"])
            return [] if plain else ["the output layer has been exchanged"]
        if work == "encode":
            return self.against_encoding(model, **wanted)
        if work == "generate":
            return self.against_generating(model, wanted["arguments"])
        if work == "decode":
            return self.against_watching(model) or against_flat_targets(model, **wanted)
        return [f"it does not {work}"]

    def against_recording(self, work: str, encoder: Any, **wanted: Any) -> list[str]:
        """Reasons not to lay a batch end to end inside a graph that is recorded."""
        if not torch.compiler.is_compiling() or torch.compiler.is_exporting():
            return ["a graph is recorded that others will run"]
        if work != "encode" or wanted["positions"] is not None:
            return [f"it does not {work} in a graph"]
        if encoder.special_attention:
            special = " and ".join(encoder.special_attention)
            return [f"attention has {special}, which it does not do in a graph"]
        batch = wanted.pop("batch")
        if batch.attention_mask is None and batch.segments is None:
            return ["no mask is given"]
        if not wanted["zero_padding"]:
            return ["in training the vectors of padding are asked for"]
        if encoder.config._attn_implementation not in ("sdpa", "eager"):
            return ["attention has another implementation"]
        reasons = self.against_flat(encoder, batch, **wanted)
        return [*reasons, "a hook watches"] if has_hooks(encoder) else reasons

    def against_encoding(
        self,
        encoder: Any,
        batch: TextBatch,
        positions: torch.Tensor | None,
        zero_padding: bool,
        with_first: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """Reasons not to lay this batch end to end."""
        if reasons := self.against_flat(encoder, batch, **kwargs):
            return reasons
        mask = batch.attention_mask
        has_padding = mask is not None and not bool(mask.all())
        if has_padding and not zero_padding:
            return ["in training the vectors of padding are asked for"]
        reads_first = encoder.reads_first_position if positions is None else with_first
        if has_padding and reads_padding(mask, positions, reads_first):
            return ["a vector of padding is read"]
        if has_padding and encoder.window is not None and has_holes(mask):
            return ["a window counts the padding between real tokens"]
        return self.against_watching(encoder)

    def few_places(self, places: torch.Tensor) -> torch.Tensor:
        return few_sizes(places)

    def against_generating(self, model: Any, arguments: dict[str, Any]) -> list[str]:
        """Reasons to leave decoding to the library's loop."""
        config = arguments.get("generation_config") or model.generation_config
        if arguments.get("return_dict_in_generate", config.return_dict_in_generate):
            return ["return_dict_in_generate asks for the library's cache"]
        reason = against(model, arguments)
        return [] if reason is None else [reason]

    def decoding_method(self) -> Callable:
        return fast_generate

    def vocabulary_loss(self, hidden_states, linear_layer, labels, **options: Any) -> torch.Tensor:
        return linear_cross_entropy(hidden_states, linear_layer, labels, product=linear, **options)

    def encode(
        self, encoder: Any, batch: TextBatch, positions: torch.Tensor | None, **kwargs: Any
    ) -> torch.Tensor:
        ends = kwargs.get("cu_seq_lens_q")
        kwargs = {name: each for name, each in kwargs.items() if name not in FLAT_INPUTS}
        if is_traced():
            return encode_in_graph(encoder, batch, **kwargs)
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
        kwargs |= self.told_of_places(encoder, flat, lengths, hidden_states)
        bias = encoder.position_bias(max(lengths, default=0))
        if positions is not None:
            places = positions.flatten().nonzero().squeeze(-1)
            places = places if layout is None else layout.places(positions)
            with activations_in_place():
                return self.run_to(encoder, hidden_states, places, bias, **kwargs)
        with activations_in_place():
            hidden_states = encoder.run_layers(hidden_states, bias, **kwargs)
        hidden_states = encoder.finish(hidden_states)
        if layout is not None:
            return layout.put_back(hidden_states)
        return hidden_states.view(*batch.shape, -1)

    def decode(
        self,
        decoder: Any,
        targets: TextBatch,
        source: tuple[torch.Tensor, torch.Tensor | None],
        target_mask: torch.Tensor | None,
        lengths: Any,
        **kwargs: Any,
    ) -> torch.Tensor:
        assert target_mask is not None  # else something was against it
        return decode_flat(decoder, targets, source, target_mask, **kwargs)

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

    def told_of_places(
        self, encoder: Any, batch: TextBatch, lengths: list[int], hidden_states: torch.Tensor
    ) -> dict[str, Any]:
        """What each layer's attention is told of the places of tokens, where it does not know."""
        told: dict[str, Any] = dict(encoder.rotations(flat_positions(batch), hidden_states))
        window, longest = encoder.window, max(lengths, default=0)
        if window is not None and longest > window + 1:
            told["local_mask"] = window_mask(longest, window, hidden_states)
        return told


def has_hooks(model: nn.Module) -> bool:
    """Whether any module of `model` has a hook, in a form that a compiler can follow."""
    return any(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
        for module in model.modules()
    )
