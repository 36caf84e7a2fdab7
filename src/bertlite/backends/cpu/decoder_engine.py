"""The decoder's weights laid out for decoding: joined where they read the same input, and packed.

Shapes: `B` batch, `E` hidden size, `S` source length, `H` heads, `D` head size, `V` vocabulary, `N`
rows.
"""

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from ...models.embeddings import PaddedSinusoidalEmbedding, position_table
from ...models.seam import hooked_module
from .few_rows_linear import FewRowsInt8Linear
from .packed_linear import inner_bound, pack

BLOCK = 128  # the vocabulary is filled up to whole blocks, for the search of its largest scores
DTYPES = ("fp32", "int8")
IN_PLACE = {"relu": torch.relu_, "gelu": torch.ops.aten.gelu_, "silu": torch.ops.aten.silu_}
IN_PLACE["swish"] = IN_PLACE["silu"]


def packed(*linears: nn.Linear, dtype: str, lowest: float | None = None) -> Any:
    """Layers that read the same few rows, side by side as one product.

    `lowest` as in `FewRowsInt8Linear`.
    """
    return (
        FewRowsInt8Linear(*linears, lowest=lowest)
        if dtype == "int8"
        else pack(*linears, dtype="fp32")
    )


@dataclass(frozen=True)
class LayerWeights:
    """One decoder layer: its products, and the weight, bias and epsilon of its norms."""

    query_key_value: Any
    self_output: Any
    cross_query: Any
    cross_output: Any
    inner: Any
    outer: Any
    norms: tuple[Any, ...]  # of self-attention, cross-attention, feed-forward
    heads: int  # of self-attention
    cross_heads: int

    @classmethod
    def of(cls, layer: Any, dtype: str) -> "LayerWeights":
        """Those of a `DecoderLayer`, copied."""
        own, cross = layer.self_attention, layer.cross_attention
        norms = (layer.attention_norm, layer.cross_attention_norm, layer.feed_forward_norm)
        return cls(
            query_key_value=packed(own.query, own.key, own.value, dtype=dtype),
            self_output=packed(own.projection, dtype=dtype),
            cross_query=packed(cross.query, dtype=dtype),
            cross_output=packed(cross.projection, dtype=dtype),
            inner=packed(layer.inner, dtype=dtype),
            outer=packed(layer.outer, dtype=dtype, lowest=inner_bound(own.config.hidden_act)),
            norms=tuple(norm_of(norm) for norm in norms),
            heads=own.num_heads,
            cross_heads=cross.num_heads,
        )


def norm_of(norm: nn.LayerNorm | None) -> tuple | None:
    """The arguments of `torch.layer_norm` after the input."""
    return (
        None
        if norm is None
        else (norm.normalized_shape, norm.weight.detach(), norm.bias.detach(), norm.eps)
    )


def weights_state(model: nn.Module) -> tuple:
    """What changes when a weight is replaced or written to.

    Where each lies, and the sum of its bits as integers.

    Torch's own count of writes (`_version`) would not do: fused optimizers leave it as it was, and
    so do writes to `.data`. Two weights are added up as one number of 64 bits, which torch does as
    fast as memory gives them.
    """
    tensors = [*model.parameters(), *model.buffers()]
    return tuple((each.data_ptr(), sum_of_bits(each.detach())) for each in tensors)


def sum_of_bits(tensor: torch.Tensor) -> tuple[int, ...]:
    """The bits of an fp32 tensor as integers.

    Pairs added up modulo 2^64, and the last one where it is alone.
    """
    flat = tensor.reshape(-1)  # of a weight: itself
    even = len(flat) // 2 * 2
    pairs = (
        flat[:even] if flat.storage_offset() % 2 == 0 else flat[:even].clone()
    )  # a view needs whole 8 bytes
    return int(pairs.view(torch.int64).sum()), int(flat[even:].view(torch.int32).sum())


class DecoderEngine:
    """A frozen copy of a model's decoder, for `DecodingState`.

    Linear weights are copied when it is made; `is_current` tells whether the model's weights are
    still those. `engine_of` makes a new one where they are not.

    Args:
        model: a `TransformerLiteForConditionalGeneration` in fp32 on the CPU.
        dtype: "fp32", or "int8": decoder and vocabulary products with weights and activations in 8
            bits.

    Raises:
        ValueError: another dtype, or a model that cannot be packed (see `why_not`).
    """

    def __init__(self, model: Any, dtype: str = "fp32"):
        if dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
        if reason := why_not(model):
            raise ValueError(
                f"model must be a frozen TransformerLite in fp32 on the CPU, but {reason}"
            )
        config, decoder = model.config, model.model.decoder
        self.dtype, self.state = dtype, weights_state(model)
        self.head_size = config.d_model // config.decoder_attention_heads
        self.norm_first = config.norm_first
        self.layers = [LayerWeights.of(layer, dtype) for layer in decoder.layers]
        self.activation: Any = IN_PLACE.get(config.hidden_act, decoder.layers[0].activation)
        self.final_norm = norm_of(decoder.final_norm)
        self.scale = decoder.embedding_scale
        self.words = decoder.word_embeddings.weight.detach()  # (V, E)
        self.positions = position_table(decoder.position_embeddings).detach()  # (positions, E)
        self.padding = padding_without_position(decoder)
        self.embedding_norm = norm_of(decoder.embedding_norm)
        self.adds_positions_last = decoder.adds_positions_last
        crosses = [layer.cross_attention for layer in decoder.layers]
        # Of many rows, and once a source: 8 bits would save little and be felt in every step.
        self.source = pack(
            *(part for cross in crosses for part in (cross.key, cross.value)), dtype="fp32"
        )
        self.vocab_size = model.lm_head.out_features
        self.vocabulary = packed(padded_vocabulary(model), dtype=dtype)
        # The words that decide are scored again in fp32 where all are scored in int8.
        self.output = (model.lm_head.weight.detach(), output_bias(model))  # (V, E), (V,)

    def is_current(self, model: nn.Module) -> bool:
        """Whether `model`'s weights are still those that were copied."""
        return self.state == weights_state(model)


def padding_without_position(decoder: Any) -> int | None:
    """The padding token where the family gives it no position, else None."""
    positions = decoder.position_embeddings
    return positions.first - 1 if isinstance(positions, PaddedSinusoidalEmbedding) else None


def output_bias(model: Any) -> torch.Tensor:
    """The output layer's bias `(V,)`, zero where the family has none."""
    bias = model.final_logits_bias
    return model.lm_head.weight.new_zeros(model.lm_head.out_features) if bias is None else bias[0]


def padded_vocabulary(model: Any) -> nn.Linear:
    """The output layer with its bias, and with outputs of -inf up to a whole number of blocks."""
    weight, bias = model.lm_head.weight.detach(), output_bias(model)
    missing = -len(weight) % BLOCK
    linear = nn.Linear(weight.shape[1], len(weight) + missing, device="meta")
    linear.weight = nn.Parameter(nn.functional.pad(weight, (0, 0, 0, missing)), requires_grad=False)
    filled = nn.functional.pad(bias, (0, missing), value=-torch.inf)
    linear.bias = nn.Parameter(filled, requires_grad=False)
    return linear


def why_not(model: Any) -> str | None:
    """Why the fast loop cannot decode with `model`, or None where it can."""
    from ...models.modeling_transformerlite import TransformerLiteForConditionalGeneration

    if type(model) is not TransformerLiteForConditionalGeneration:
        return f"it is a {type(model).__name__}"
    if model.training:
        return "it is in training mode"
    if any(each.device.type != "cpu" or each.dtype != torch.float32 for each in model.parameters()):
        return "a weight is not fp32 on the CPU"
    for part in (model.model.decoder, model.lm_head):
        if watched := hooked_module(part):
            return f"a hook watches {watched}"
    exchanged = [part for part in linears_of(model) if type(part) is not nn.Linear]
    return f"a linear layer is a {type(exchanged[0]).__name__}" if exchanged else None


def linears_of(model: Any) -> list[nn.Module]:
    """The decoder's linear layers and the output layer."""
    found = [model.lm_head]
    for layer in model.model.decoder.layers:
        for attention in (layer.self_attention, layer.cross_attention):
            found += [attention.query, attention.key, attention.value, attention.projection]
        found += [layer.inner, layer.outer]
    return found


ENGINES: WeakKeyDictionary = WeakKeyDictionary()  # model to {dtype: engine}; it dies with the model


def engine_of(model: Any, dtype: str = "fp32") -> DecoderEngine:
    """The model's engine, made when it is first asked for and again when weights have changed.

    Raises:
        ValueError: as `DecoderEngine`.
    """
    engines = ENGINES.setdefault(model, {})
    if dtype not in engines or not engines[dtype].is_current(model):
        engines[dtype] = DecoderEngine(model, dtype)
    return engines[dtype]
