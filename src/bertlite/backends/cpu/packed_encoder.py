"""`optimize`.

A loaded model's encoder for frozen inference. Same class, same `forward`, same outputs, less work.

What it does: weights packed once, query, key and value in one product, residuals added inside the
products, the activation in place, and no autograd or output capture around the layers. The
parameters stay as they are, so that saving writes the standard file and `undo_optimize` only has to
step aside.

Shapes: `B` batch, `T` length, `N` real tokens, `H` heads, `D` head size, `E` hidden size.
"""

from collections.abc import Iterator
from operator import attrgetter
from typing import Any, cast

import torch
from torch import nn
from transformers.utils import logging

from ...models.layers import Encoder, EncoderLayer
from ...models.masking import FlatLayout, equal_length_groups, is_traced, segment_ids
from .attention import attend_by_products
from .packed_linear import (
    has_fast_bf16,
    has_fast_int8,
    has_int8_products,
    has_prepacked_products,
    inner_bound,
    normalized_sizes,
    pack,
)

logger = logging.get_logger(__name__)
DTYPES = (None, "fp32", "bf16", "int8")
BLOCK_TOKENS = (
    1024  # tokens that go through all layers together: what they need at a time stays in the cache
)
# tokens up to which attention is faster as two plain batched products than by torch's fused kernel
SHORT = 128
KEPT_BYTES = 31 << 20  # just below the largest size for which glibc still moves its threshold


class PackedLayer:
    """One encoder layer on real tokens laid end to end, `(N, E)` to `(N, E)`.

    The plain one is `EncoderLayer`.
    """

    def __init__(self, layer: EncoderLayer, dtype: str | None, before: nn.LayerNorm | None = None):
        """`before` is the norm that the layer's input comes out of, if it does."""
        attention, feed_forward = layer.self_attention, layer.feed_forward
        norms = (layer.self_attention_norm, layer.feed_forward_norm)
        of_attention, of_feed_forward = (
            norms if layer.norm_first else (before, layer.self_attention_norm)
        )
        self.layer, self.heads, self.scaling = layer, attention.num_heads, attention.scaling
        self.activation = torch.ops.aten.gelu_ if feed_forward.is_gelu else feed_forward.activation
        sizes = normalized_sizes(of_attention)
        self.projections = pack(
            attention.query, attention.key, attention.value, dtype=dtype, channel_sizes=sizes
        )
        self.output = pack(attention.output, dtype=dtype)
        self.fc1 = pack(
            feed_forward.fc1, dtype=dtype, channel_sizes=normalized_sizes(of_feed_forward)
        )
        self.fc2 = pack(
            feed_forward.fc2, dtype=dtype, lowest=inner_bound(attention.config.hidden_act)
        )

    def __call__(
        self,
        hidden_states: torch.Tensor,
        groups: list[tuple[int, int]],
        rows: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """`groups` are runs of sequences of equal length, as in `equal_length_groups`.

        `rows` `(K,)`: to give alone.
        """
        layer, pre_norm = self.layer, self.layer.norm_first
        inputs: Any = (
            normalized(layer.self_attention_norm, hidden_states) if pre_norm else hidden_states
        )
        context = self.attend(self.projections(inputs), groups)
        hidden_states = self.output(context, hidden_states)
        hidden_states = hidden_states if rows is None else hidden_states[rows]
        inputs = normalized(layer.self_attention_norm, hidden_states) if not pre_norm else None
        if inputs is None:
            inputs = normalized(layer.feed_forward_norm, hidden_states)
            return self.fc2(self.activation(self.fc1(inputs)), hidden_states)
        return normalized(
            layer.feed_forward_norm, self.fc2(self.activation(self.fc1(inputs)), inputs)
        )

    def attend(self, projected: torch.Tensor, groups: list[tuple[int, int]]) -> torch.Tensor:
        """Queries, keys and values side by side, `(N, 3 E)`, to the context `(N, E)`."""
        context, start = projected.new_empty(len(projected), projected.shape[1] // 3), 0
        for count, length in groups:
            rows = slice(start, start := start + count * length)
            heads = (
                projected[rows].view(count, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            )  # (3, count, H, T, D)
            if length <= SHORT:
                query, key, value = heads if count == 1 else heads.contiguous()
                attended = attend_by_products(query, key, value, self.scaling)  # (count, H, T, D)
            else:
                query, key, value = heads
                attended = nn.functional.scaled_dot_product_attention(
                    query, key, value, scale=self.scaling
                )
            context[rows].view(count, length, self.heads, -1).copy_(attended.transpose(1, 2))
        return context


def normalized(norm: nn.LayerNorm, hidden_states: torch.Tensor) -> torch.Tensor:
    """The layer norm, without the module call around it."""
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


class PackedForward:
    """What stands in for an encoder's `forward`.

    What it does not cover runs through the class's own, which is exact.

    Weights are packed at the first call, and again when they have changed: loaded, edited in place,
    or moved.

    Args:
        encoder: whose layers to run.
        dtype: one of `DTYPES`.
    """

    def __init__(self, encoder: Encoder, dtype: str | None):
        self.encoder, self.dtype = encoder, dtype
        self.weights: list[nn.Parameter] = []
        self.layers: list[PackedLayer] = []
        self.state: list[int] = []
        self.trainable = [
            name for name, weight in encoder.named_parameters() if weight.requires_grad
        ]

    def __getstate__(self) -> dict:
        """Copies and pickles pack for themselves: what is packed belongs to the processor."""
        return {**vars(self), "weights": [], "layers": [], "state": []}

    def __call__(
        self,
        input_ids=None,
        attention_mask=None,
        token_type_ids=None,
        position_ids=None,
        inputs_embeds=None,
        **kwargs,
    ):
        """As `Encoder.forward`.

        Raises:
            ValueError: in training mode, or where a gradient is asked for; and as
                `Encoder.forward`.
        """
        encoder = self.encoder
        self.refuse_training(inputs_embeds)
        rows = (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds)
        if self.covers(attention_mask, kwargs):
            with torch.no_grad():
                hidden_states = self.run(*rows, needed=kwargs.get("needed"))
                if hidden_states is not None:
                    outputs = encoder.make_output(hidden_states)
                    wanted = kwargs.get("return_dict")
                    return (
                        outputs
                        if (encoder.config.return_dict if wanted is None else wanted)
                        else outputs.to_tuple()
                    )
        return type(encoder).forward(encoder, *rows, **kwargs)

    def refuse_training(self, inputs_embeds: torch.Tensor | None) -> None:
        """Nothing here knows a gradient, and to lose one in silence would be worse than to stop."""
        way_out = "call bertlite.undo_optimize(model) to train it"
        if self.encoder.training:
            raise ValueError(
                "model must be in evaluation mode while it is optimised, got training mode; "
                f"{way_out}"
            )
        if torch.is_grad_enabled():
            asking = any(weight.requires_grad for weight in self.encoder.parameters())
            if asking or (inputs_embeds is not None and inputs_embeds.requires_grad):
                raise ValueError(
                    "an optimised model must run without gradients, got requires_grad=True; "
                    f"{way_out}"
                )

    def covers(self, attention_mask: torch.Tensor | None, kwargs: dict) -> bool:
        """Whether the packed layers give what is asked for."""
        config = self.encoder.config
        for name in ("output_attentions", "output_hidden_states"):
            wanted = kwargs.get(name)
            if getattr(config, name) if wanted is None else wanted:
                return False
        strange = (
            kwargs.get("cu_seq_lens_q") is not None
            or is_traced()
            or torch.is_autocast_enabled("cpu")
        )
        usual = config._attn_implementation in (None, "sdpa", "eager")
        return (
            usual
            and not strange
            and (attention_mask is None or attention_mask.ndim == 2)
            and self.layers_on_cpu()
        )

    def layers_on_cpu(self) -> bool:
        layers: Any = self.encoder.layers
        weight = layers[0].feed_forward.fc1.weight if len(layers) else None
        return weight is not None and weight.device.type == "cpu" and weight.dtype == torch.float32

    def packed_layers(self) -> list[PackedLayer]:
        """The packed layers, made anew where a weight is no longer the one that was packed."""
        if not self.layers or state_of(self.weights) != self.state:
            self.weights = list(self.encoder.layers.parameters())
            with torch.inference_mode(False), torch.no_grad():
                self.layers = [
                    PackedLayer(cast(EncoderLayer, layer), self.dtype)
                    for layer in self.encoder.layers
                ]
            self.state = state_of(self.weights)
        return self.layers

    def run(
        self, input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, needed=None
    ):
        """`(B, T)` to `(B, T, E)`, zero at padding.

        None where the plain path has to compute the padding as well.

        `needed`: as in `Encoder.forward`.
        """
        encoder = self.encoder
        given = encoder.embeddings.check(input_ids, token_type_ids, position_ids, inputs_embeds)
        batch, length = given.shape[:2]
        if attention_mask is not None and attention_mask.shape != (batch, length):
            return None  # the plain path names what is wrong
        segments = segment_ids(position_ids, batch)
        if position_ids is None:
            position_ids = torch.arange(length, device=given.device)[None]  # (1, T)
        whole = segments is None and (attention_mask is None or bool(attention_mask.all()))
        layout = None if whole else encoder._layout(attention_mask, segments, given, False, {})
        if layout is None and not whole:
            return None
        tokens = (input_ids, token_type_ids, position_ids, inputs_embeds)
        groups = [(batch, length)]
        if layout is not None:
            tokens = tuple(layout.take(tensor) for tensor in tokens)
            groups = equal_length_groups(layout.kwargs["cu_seq_lens_q"])
        hidden_states, rows = encoder.embeddings(*tokens), None  # (B, T, E) or (1, N, E)
        if needed is not None:
            layout, rows = FlatLayout.of_needed(needed, layout, (batch, length))
            rows = (
                None if rows is None or layout is None else rows[: layout.count]
            )  # (K,), in order
        hidden_states = self.run_layers(
            hidden_states.flatten(0, 1), groups, rows
        )  # (N, E) or (K, E)
        if encoder.final_norm is not None:
            hidden_states = encoder.final_norm(hidden_states)
        return (
            hidden_states.view(batch, length, -1)
            if layout is None
            else layout.put_back(hidden_states[None])
        )

    def run_layers(
        self,
        hidden_states: torch.Tensor,
        groups: list[tuple[int, int]],
        rows: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """`(N, E)` to `(N, E)`, or to `(K, E)`, its `rows`, through all layers, block by block."""
        layers, done, start = self.packed_layers(), [], 0
        for part in blocks(groups) if len(hidden_states) else ():
            end = start + sum(count * length for count, length in part)
            block = hidden_states[start:end]
            block = block.bfloat16() if self.dtype == "bf16" else block
            for layer in layers[:-1]:
                block = layer(block, part)
            own = None if rows is None else rows[(rows >= start) & (rows < end)] - start
            block = layers[-1](block, part, own) if own is None or len(own) else block[:0]
            done.append(block.float())
            start = end
        return done[0] if len(done) == 1 else torch.cat(done) if done else hidden_states


def state_of(weights: list[nn.Parameter]) -> list[int]:
    """Where each weight lies and how often it was written to.

    A hundred of them a call, so by `map`.
    """
    return [*map(torch.Tensor.data_ptr, weights), *map(attrgetter("_version"), weights)]


def encoders_of(model: nn.Module) -> Iterator[Encoder]:
    """The encoders in a model.

    BertLite's own, that of a head, of a TransformerLite or of a wrapper around them.
    """
    return (module for module in model.modules() if isinstance(module, Encoder))


def optimize(model: nn.Module, *, dtype: str | None = None) -> nn.Module:
    """Make a model's encoder fast for frozen inference on a CPU, in place.

    `undo_optimize` takes it back.

    The model keeps its class, its `forward`, its parameters and its tensor names. Until it is
    undone the encoder's parameters do not require gradients, while a head on top of it may still be
    trained. What the fast path does not cover (attention weights, hidden states, 4D masks, other
    devices) runs through the plain one. Forward hooks on modules within the layers do not fire on
    the fast path. Packed weights take as much memory again as the layers' own in fp32, half of it
    in bf16, a quarter in int8.

    Args:
        model: a BertLite or TransformerLite model in evaluation mode, or a module that holds one.
        dtype: None or "fp32": outputs within 1e-5; "bf16": fp32 stays where the processor cannot
            multiply bf16; "int8": activations quantised row by row on the fly.

    Returns:
        The same model.

    Raises:
        ValueError: another dtype, a model in training mode, with gradients or without our encoder,
            int8 without oneDNN.

    >>> import bertlite
    >>> from bertlite.backends.cpu.packed_encoder import optimize
    >>> model = optimize(bertlite.BertLiteModel(bertlite.preset("bert-tiny")).eval())
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {DTYPES}, got {dtype!r}")
    encoders = list(encoders_of(model))
    if not encoders:
        raise ValueError(
            f"model must hold a BertLite or TransformerLite encoder, got {type(model).__name__}"
        )
    if any(encoder.training for encoder in encoders):
        raise ValueError(
            "model must be in evaluation mode, got training mode; call model.eval() first"
        )
    if any(weight.grad is not None for encoder in encoders for weight in encoder.parameters()):
        # A fused optimizer that steps on them would change weights in a way that torch does not
        # count.
        raise ValueError(
            "model must hold no gradients, got some of a training step; call model.zero_grad() "
            "first"
        )
    if dtype == "int8" and not has_int8_products():
        raise ValueError(
            "dtype 'int8' must have torch's oneDNN products, which this torch was built without"
        )
    if dtype == "bf16" and not (has_fast_bf16() and has_prepacked_products()):
        dtype = "fp32"
    undo_optimize(model)
    keep_freed_memory()
    for encoder in encoders:
        packed = PackedForward(encoder, dtype)
        with torch.no_grad():
            if packed.layers_on_cpu():
                packed.packed_layers()
        encoder.requires_grad_(False)
        encoder.forward = packed  # found before the class's own
    bits = {"int8": f", {8 if has_fast_int8() else 7} bits a weight"}.get(dtype or "", "")
    kind = (
        "prepacked by oneDNN"
        if has_prepacked_products()
        else "plain, since this torch has no oneDNN"
    )
    logger.info(
        f"Optimised {len(encoders)} encoder(s) for inference: {dtype or 'fp32'} products "
        f"{kind}{bits}"
    )
    return model


def undo_optimize(model: nn.Module) -> nn.Module:
    """Give back the plain, trainable model that `optimize` was called on.

    A model that was not is left alone.
    """
    for encoder in encoders_of(model):
        packed = vars(encoder).pop("forward", None)
        if isinstance(packed, PackedForward):
            for name, weight in encoder.named_parameters():
                weight.requires_grad_(name in packed.trainable)
    return model
