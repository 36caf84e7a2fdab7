"""The graphs of an encoder-decoder: the source once, then a few target tokens at a time.

The first graph gives the keys and values by which each layer of the decoder looks at the source, so
that no step computes them again. The second takes them, and those of the targets so far.

Shapes: `B` batch, `S` source length, `T` new targets, `P` targets before them, `H` heads, `D` head
size, `E` hidden size, `V` vocabulary.
"""

from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import DynamicCache, EncoderDecoderCache

from ..backends.engines.onnx_graph import additive_mask, fusable_attention
from ..backends.engines.sessions import Session
from .checking import Compute
from .plans import Plan, make_batch
from .sources import Source

PIECES = (1, 2)  # target tokens of the first steps of a check; the rest comes at once


class SourceGraph(nn.Module):
    """The encoder, and each decoder layer's keys and values of the source."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """`(B, S)` to a key and a value `(B, H, S, D)` for each layer."""
        states = self.model.get_encoder()(
            input_ids,
            attention_mask=additive_mask(attention_mask),
            attention_interface=fusable_attention,
            return_dict=True,
        ).last_hidden_state
        found: list[torch.Tensor] = []
        for layer in self.model.get_decoder().layers:
            attention = layer.cross_attention
            found += [
                attention.split_heads(part(states)) for part in (attention.key, attention.value)
            ]
        return tuple(found)


class TargetGraph(nn.Module):
    """The decoder with its cache, and the output layer."""

    def __init__(self, model: Any):
        super().__init__()
        self.model, self.count = model, len(model.get_decoder().layers)

    def forward(
        self, decoder_input_ids: torch.Tensor, attention_mask: torch.Tensor, *tensors: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """The next tokens' scores, and keys and values of all targets.

        Args:
            decoder_input_ids: `(B, T)`.
            attention_mask: `(B, S)`, of the source.
            tensors: for each layer a key and a value `(B, H, S, D)` of the source, then for each a
                key and a value `(B, H, P, D)` of the targets before.

        Returns:
            Logits `(B, T, V)`, then for each layer a key and a value `(B, H, P + T, D)`.
        """
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        for index in range(self.count):
            source, target = 2 * index, 2 * (self.count + index)
            cache.cross_attention_cache.update(tensors[source], tensors[source + 1], index)
            cache.self_attention_cache.update(tensors[target], tensors[target + 1], index)
            cache.is_updated[index] = True
        before, new = tensors[-1].shape[2], decoder_input_ids.shape[1]
        places = torch.arange(before + new)  # (P + T,)
        hidden = (places[None] > places[before:, None]).to(torch.float32)  # (T, P + T)
        rows, length = attention_mask.shape
        decoder = self.model.get_decoder()
        positions = decoder.default_positions(decoder_input_ids, new, before, places.device)
        states = decoder(
            decoder_input_ids,
            attention_mask=(hidden * torch.finfo(torch.float32).min)[None, None],
            position_ids=positions,
            # Nobody reads it: the cache holds what the layers want of it.
            encoder_hidden_states=tensors[0].new_zeros(rows, length, 1),
            encoder_attention_mask=additive_mask(attention_mask),
            past_key_values=cache,
            attention_interface=fusable_attention,
            return_dict=True,
        ).last_hidden_state
        layers: Any = cache.self_attention_cache.layers
        after = [each for layer in layers for each in (layer.keys, layer.values)]
        return (self.model.score(states), *after)


def names_of(count: int, kind: str) -> list[str]:
    """The names of keys and values, layer by layer, of "source", "before" or "after"."""
    return [f"{kind}.{index}.{part}" for index in range(count) for part in ("key", "value")]


def translation_plans(source: Source) -> tuple[Plan, Plan]:
    """The graphs `encoder` and `decoder`."""
    model = source.model
    count, encoder = len(model.get_decoder().layers), source.encoder
    sizes = encoder.config
    heads = {
        "num_heads": 0 if sizes.is_pruned else encoder.num_heads,
        "hidden_size": sizes.hidden_size,
    }
    batch = make_batch(source, (8, 5))
    target = batch.pop("decoder_input_ids")[:, :2]
    of_source, before, after = (names_of(count, each) for each in ("source", "before", "after"))
    sides = {0: "batch", 1: "length"}
    first = Plan(
        name="encoder",
        module=SourceGraph(model).eval(),
        example=batch,
        outputs=tuple(of_source),
        free={**dict.fromkeys(batch, sides), **dict.fromkeys(of_source, {0: "batch", 2: "length"})},
        **heads,
    )
    with torch.no_grad():
        made = first.module(*batch.values())
    size = model.get_decoder().num_heads, 3, made[0].shape[-1]
    example = {"decoder_input_ids": target, "attention_mask": batch["attention_mask"]}
    example |= dict(zip(of_source, made, strict=True))
    example |= {name: torch.randn(len(target), *size) for name in before}
    free: dict[str, dict[int, str]] = {
        "decoder_input_ids": {0: "batch", 1: "new"},
        "attention_mask": sides,
        "logits": {0: "batch", 1: "new"},
        **dict.fromkeys(of_source, {0: "batch", 2: "length"}),
        **dict.fromkeys(before, {0: "batch", 2: "before"}),
        **dict.fromkeys(after, {0: "batch", 2: "after"}),
    }
    outputs = ("logits", *after)
    second = Plan("decoder", TargetGraph(model).eval(), example, outputs, free, **heads)
    return first, second


def in_pieces(encoder: Session, decoder: Session) -> Compute:
    """Both graphs as one function, which decodes `decoder_input_ids` `(B, T)` in several steps."""

    def run(given: dict[str, np.ndarray]) -> list[np.ndarray]:
        targets, made = given["decoder_input_ids"], encoder.run(given)
        count = len(made) // 2
        inputs = {"attention_mask": given["attention_mask"]}
        inputs |= dict(zip(names_of(count, "source"), made, strict=True))
        rows, heads, _, size = made[0].shape
        kept = [np.zeros((rows, heads, 0, size), np.float32)] * (2 * count)
        logits, start = [], 0
        for new in (*PIECES, targets.shape[1] - sum(PIECES)):
            inputs["decoder_input_ids"] = targets[:, start : start + new]
            inputs |= dict(zip(names_of(count, "before"), kept, strict=True))
            found, *kept = decoder.run(inputs)
            logits.append(found)
            start += new
        return [np.concatenate(logits, 1)]

    return run
