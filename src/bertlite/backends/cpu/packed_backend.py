"""`bertlite.optimize` on a CPU: an encoder's weights packed once, for frozen inference.

Shapes: `B` batch, `T` length, `N` real tokens, `K` vectors that are read, `E` hidden size.
"""

from operator import attrgetter
from typing import Any

import torch
from torch import nn
from transformers.utils import logging

from ...models.inputs import TextBatch
from ...models.seam import walk
from ..flat_backend import is_plain_layer
from ..frozen import FrozenEncoder, check_frozen, encoders_of, undo_optimize
from ..unpadding import equal_length_groups
from .backend import CpuBackend
from .linear import own_forward
from .packed_encoder import (
    DTYPES,
    PackedLayer,
    Rotation,
    blocks,
    input_projections,
    keep_freed_memory,
    output_projection,
)
from .packed_linear import (
    has_fast_bf16,
    has_fast_int8,
    has_int8_products,
    has_prepacked_products,
)

logger = logging.get_logger(__name__)


class PackedBackend(FrozenEncoder, CpuBackend):
    """The CPU backend with packed weights, for one frozen encoder.

    Weights are packed at the first call, and again when they have changed: loaded, edited in place,
    exchanged or moved.
    """

    name = "packed"

    def __init__(self, encoder: Any, dtype: str | None):
        """`dtype` is one of `DTYPES`."""
        self.freeze(encoder)
        self.dtype = dtype
        self.weights: list[nn.Parameter] = []
        self.layers: list[PackedLayer] = []
        self.state: list[int] = []
        self.packed: tuple[list, ...] = ()

    def __getstate__(self) -> dict:
        """Copies and pickles pack for themselves: what is packed belongs to the processor."""
        return {**vars(self), "weights": [], "layers": [], "state": [], "packed": ()}

    def unsupported(self, work: str, model: nn.Module, **wanted: Any) -> list[str]:
        if work == "encode":
            if reasons := self.against_caller(**wanted):
                return reasons
            if why := self.against_layers():
                return [why]
        return super().unsupported(work, model, **wanted)

    def against_layers(self) -> str | None:
        """Why the layers cannot be packed as they stand, or None."""
        layers = list(self.encoder.stack.layers)
        if not layers:
            return "there are no layers"
        weight = getattr(layers[0].inner, "weight", None)
        if weight is None or weight.device.type != "cpu" or weight.dtype != torch.float32:
            return "the layers are not in fp32 on the CPU"
        if self.is_fresh():
            return None
        self.layers = []
        if not all(is_packable(layer) for layer in layers):
            return "a layer has been exchanged"
        return None

    def is_fresh(self) -> bool:
        """Whether what is packed is what stands in the layers now."""
        return (
            bool(self.layers)
            and self.state == state_of(self.weights)
            and self.packed == parts_of(self.encoder.stack.layers)
        )

    def packed_layers(self) -> list[PackedLayer]:
        """The packed layers, made anew where `against_layers` found others in their place."""
        if not self.layers:
            layers = self.encoder.stack.layers
            self.weights = list(layers.parameters())
            with torch.inference_mode(False), torch.no_grad():
                # Each once, though its turn may come several times.
                packed = {layer: PackedLayer(layer, self.dtype) for layer in layers}
                self.layers = [packed[layer] for layer in layers]
            self.state, self.packed = state_of(self.weights), parts_of(layers)
        return self.layers

    def encode(
        self, encoder: Any, batch: TextBatch, positions: torch.Tensor | None, **kwargs: Any
    ) -> torch.Tensor:
        with torch.no_grad():
            layout = self.layout_of(batch)
            flat = batch if layout is None else layout.take_batch(batch)
            lengths = [batch.shape[1]] * batch.shape[0] if layout is None else layout.lengths
            hidden_states = encoder.embed_batch(flat).flatten(0, 1)  # (N, E)
            places = None
            if positions is not None:
                places = positions.flatten().nonzero().squeeze(-1)
                places = places if layout is None else layout.places(positions)
            told = self.told_of_places(encoder, flat, lengths, hidden_states)
            bias = encoder.position_bias(max(lengths, default=0))
            groups = equal_length_groups(lengths)
            hidden_states = self.run(hidden_states, groups, places, bias, told)
            hidden_states = encoder.finish(hidden_states)
            if positions is not None:
                return hidden_states
            if layout is not None:
                return layout.put_back(hidden_states[None])
            return hidden_states.view(*batch.shape, -1)

    def run(
        self,
        hidden_states: torch.Tensor,
        groups: list[tuple[int, int]],
        places: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        told: dict[str, Any] | None = None,
    ) -> torch.Tensor:
        """`(N, E)` to `(N, E)`, or to the vectors at `places` `(K,)`, block by block.

        `bias` is that of `FlatAttention`, and `told` is from `told_of_places`.
        """
        masks = {"bias": bias, "local_mask": (told or {}).pop("local_mask", None)}
        if self.dtype == "bf16":
            masks = {name: one if one is None else one.bfloat16() for name, one in masks.items()}
        layers, done, start = self.packed_layers(), [], 0
        order = None
        if places is not None:  # blocks give them in the order in which they stand
            places, order = places.sort()
        for part in blocks(groups) if len(hidden_states) else ():
            end = start + sum(count * length for count, length in part)
            block = hidden_states[start:end]
            block = block.bfloat16() if self.dtype == "bf16" else block
            beside: dict[str, Any] = {**masks, **rows_of(told or {}, start, end)}
            for layer in layers[:-1]:
                block = layer(block, part, **beside)
            own = None
            if places is not None:
                own = places[(places >= start) & (places < end)] - start
            if own is None or len(own) > 1:
                block = layers[-1](block, part, own, **beside)
            elif len(own):  # a product of one row adds up in another order than all others
                block = layers[-1](block, part, own.expand(2), **beside)[:1]
            else:
                block = block[:0]
            done.append(block.float())
            start = end
        made = done[0] if len(done) == 1 else torch.cat(done) if done else hidden_states
        return made if order is None else torch.empty_like(made).index_copy_(0, order, made)


def rows_of(rotations: dict[str, Rotation], start: int, end: int) -> dict[str, Rotation]:
    """The rotations of some tokens, `(1, end - start, D)` each."""
    return {name: (one[:, start:end], two[:, start:end]) for name, (one, two) in rotations.items()}


def state_of(weights: list[nn.Parameter]) -> list[int]:
    """Where each weight lies and how often it was written to; a hundred a call, so by `map`."""
    return [*map(torch.Tensor.data_ptr, weights), *map(attrgetter("_version"), weights)]


def parts_of(layers: nn.Module) -> tuple[list, ...]:
    """Which modules stand in the layers, of which class, with which `forward` of their own.

    Modules are held, so that none takes the place of another in memory. A hundred a call, so lists.
    """
    modules = walk(layers)
    return modules, [*map(type, modules)], [each.__dict__.get("forward") for each in modules]


def products_of(layer: Any) -> list[nn.Module]:
    """The linear layers of a layer, by role."""
    return [*input_projections(layer), output_projection(layer), layer.inner, layer.outer]


def is_packable(layer: Any) -> bool:
    """Whether a layer is as it was built: its products, norms and dropouts are plain ones."""
    if not is_plain_layer(layer) or not all(type(each) is nn.Linear for each in products_of(layer)):
        return False
    norms = [layer.attention_norm, layer.feed_forward_norm]
    if type(norms[0]) is nn.Identity:  # of ModernBERT's first layer
        norms.pop(0)
    dropouts = (layer.attention_dropout, layer.activation_dropout, layer.feed_forward_dropout)
    known = all(type(norm) is nn.LayerNorm for norm in norms)
    known = known and all(type(each) in (nn.Dropout, type(None)) for each in dropouts)
    return known and all(own_forward(module) is None for module in walk(layer))


def optimize_on_cpu(model: nn.Module, dtype: str | None) -> nn.Module:
    """As `backends.frozen.optimize`, for a model on a CPU."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {DTYPES}, got {dtype!r}")
    encoders = list(encoders_of(model))
    check_frozen(model, encoders)
    if dtype == "int8" and not has_int8_products():
        raise ValueError(
            "dtype 'int8' must have torch's oneDNN products, which this torch was built without"
        )
    if dtype == "bf16" and not (has_fast_bf16() and has_prepacked_products()):
        dtype = "fp32"
    undo_optimize(model)
    keep_freed_memory()
    for encoder in encoders:
        packed = PackedBackend(encoder, dtype)
        packed.prepare(encoder)  # before it notes which modules it has packed
        if packed.against_layers() is None:
            packed.packed_layers()
        encoder.requires_grad_(False)
        encoder.backend_choice = packed
    logger.info(f"Optimised {len(encoders)} encoder(s) for inference: {description(dtype)}")
    return model


def description(dtype: str | None) -> str:
    """What the packed products are, in words."""
    bits = {"int8": f", {8 if has_fast_int8() else 7} bits a weight"}.get(dtype or "", "")
    kind = "prepacked by oneDNN"
    if not has_prepacked_products():
        kind = "plain, since this torch has no oneDNN"
    return f"{dtype or 'fp32'} products {kind}{bits}"
