"""Attention, written once: for the encoder, the causal decoder, and its look at the encoder.

    Attention(Q, K, V) = softmax(Q Kᵀ / √d_k) V           (Vaswani et al. 2017, section 3.2.1)

Shapes: `B` batch, `H` heads, `T` queries, `S` keys, `D` head size (d_k), `E` = H · D hidden size.
"""

from collections.abc import Callable

import torch
from torch import nn
from transformers import EncoderDecoderCache, PreTrainedConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .parts import Names, Part, Tree


def eager_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The formula, step by step: implementation "eager", and the reference for every faster one.

    Args:
        module: the calling `Attention`; its `is_causal` says what a missing mask means.
        query: `(B, H, T, D)`.
        key: `(B, H, S, D)`, and so is `value`.
        attention_mask: `(B, 1, T, S)`, boolean (True: may attend) or additive; None: every key that
            causality allows is real.
        scaling: what scores are multiplied by; None: 1 / √d_k.
        dropout: the probability with which an attention weight is dropped; 0 outside training.

    Returns:
        The context `(B, T, H, D)` and the weights `(B, H, T, S)`.
    """
    if scaling is None:
        scaling = query.shape[-1] ** -0.5
    scores = query @ key.transpose(2, 3) * scaling  # (B, H, T, S)
    if attention_mask is None and module.is_causal and query.shape[2] > 1:
        attention_mask = scores.new_ones(scores.shape[-2:], dtype=torch.bool).tril()  # (T, S)
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(dim=-1)
    weights = nn.functional.dropout(weights, dropout, module.training)
    context = weights @ value  # (B, H, T, D)
    return context.transpose(1, 2).contiguous(), weights


def rotate(states: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Turn each pair of channels, i and i + D / 2, by an angle that grows with the position.

    The product of a query and a key then depends on their distance alone. Source: Su et al. 2021
    (https://arxiv.org/abs/2104.09864), section 3.2.

    Args:
        states: queries or keys, `(B, H, T, D)`.
        rotation: the cosines and sines of the angles, `(1 or B, T, D)` each, at least in fp32.
    """
    cosine, sine = (each[:, None] for each in rotation)  # (1 or B, 1, T, D)
    first, second = states.chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return (states * cosine + turned * sine).to(states.dtype)


class Attention(Tree):
    """Multi-head attention (section 3.2.2): H heads side by side, each of size E / H.

    A layer whose heads were pruned has fewer, of the size that they had: H · D is below E then.

    The output projection W^O belongs to it where the family keeps it there (Marian's `out_proj`);
    BERT keeps it with the residual, in `attention.output.dense`. ModernBERT has one product for
    queries, keys and values, and layers that see no farther than a window.
    """

    query, key, value = Part(), Part(), Part()
    query_key_value = Part()
    projection, dropout = Part(), Part()

    def __init__(
        self,
        config: PreTrainedConfig,
        names: Names,
        *,
        num_heads: int,
        head_size: int | None = None,
        is_causal: bool = False,
        is_cross_attention: bool = False,
        layer_idx: int | None = None,
        window: int | None = None,
    ):
        """`config` is read at each call for the implementation, which may change on a live model.

        Args:
            config: of the model.
            names: roles "query", "key", "value" or, as one, "query_key_value", and "projection"
                where the family has it here.
            num_heads: H.
            head_size: D; None: E / H.
            is_causal: no query sees a later position.
            is_cross_attention: keys and values come from the encoder.
            layer_idx: the layer's place, by which a cache keeps its keys and values.
            window: the largest distance of two tokens that see each other; None: none is too large.
        """
        super().__init__(names)
        self.config, self.num_heads, self.layer_idx = config, num_heads, layer_idx
        self.head_dim = config.hidden_size // num_heads if head_size is None else head_size
        self.scaling = self.head_dim**-0.5
        self.is_causal = is_causal  # torch's fused attention takes a module without it as causal
        self.is_cross_attention, self.window = is_cross_attention, window
        size, width = config.hidden_size, num_heads * self.head_dim  # equal unless pruned
        sizes = {"projection": (width, size), "query_key_value": (size, 3 * width)}
        parts: dict[str, nn.Module] = {
            role: nn.Linear(
                *sizes.get(role, (size, width)),
                bias=config.attention_bias if role == "projection" else config.qkv_bias,
            )
            for role in names
        }
        self.grow({**parts, "dropout": nn.Dropout(config.attention_probs_dropout_prob)})

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        key_value_states: torch.Tensor | None = None,
        past_key_values=None,
        attention_interface: Callable | None = None,
        rotation: tuple[torch.Tensor, torch.Tensor] | None = None,
        local_mask: torch.Tensor | None = None,
        local_rotation: tuple[torch.Tensor, torch.Tensor] | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend from `(B, T, E)` to themselves or to `key_value_states` `(B, S, E)`.

        Args:
            hidden_states: where queries come from.
            attention_mask: as the implementation takes it; `masks.py` makes it.
            key_value_states: the encoder's vectors, for cross-attention.
            past_key_values: a cache, to which new keys and values are added.
            attention_interface: the function that attends, with the arguments of `eager_attention`;
                None: the one that `config._attn_implementation` names.
            rotation: as `rotate` takes it, where positions are rotary; else None.
            local_mask: in place of `attention_mask` where this attention has a window.
            local_rotation: in place of `rotation` there.
            kwargs: for that function, such as `cu_seq_lens_q` of sequences laid end to end.

        Returns:
            `(B, T, E)`, and the weights `(B, H, T, S)` where the function gives them, else None.
        """
        if self.window is not None:
            attention_mask, rotation = local_mask, local_rotation
            kwargs["sliding_window"] = self.window + 1  # as the library's functions count it
        if self.is_cross_attention:
            query = self.split_heads(self.query(hidden_states))  # (B, H, T, D)
            key, value = self.encoder_keys_and_values(key_value_states, past_key_values)
        else:
            query, key, value = self.own_heads(hidden_states)  # (B, H, T, D) each
            if rotation is not None:
                query, key = rotate(query, rotation), rotate(key, rotation)
            key, value = self.keys_and_values(key, value, past_key_values)
        if attention_interface is None:
            attention_interface = ALL_ATTENTION_FUNCTIONS.get_interface(
                self.config._attn_implementation, eager_attention
            )
        context, weights = attention_interface(
            self,
            query,
            key,
            value,
            attention_mask,
            scaling=self.scaling,
            dropout=self.dropout.p if self.training else 0.0,
            **kwargs,
        )  # (B, T, H, D)
        context = context.flatten(-2)  # (B, T, H * D)
        if self.projection is not None:
            context = self.projection(context)
        return context, weights

    def split_heads(self, projected: torch.Tensor) -> torch.Tensor:
        """`(B, S, H * D)` to `(B, H, S, D)`."""
        # Not `unflatten`: torch's old ONNX exporter takes what comes out of it as of fixed length.
        heads = projected.shape[-1] // self.head_dim  # not num_heads: some may have been cut out
        split = projected.reshape(*projected.shape[:-1], heads, self.head_dim)  # (B, S, H, D)
        return split.transpose(1, 2)

    def own_heads(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Queries, keys and values of `(B, T, E)`, `(B, H, T, D)` each."""
        if self.query_key_value is None:
            parts = [part(hidden_states) for part in (self.query, self.key, self.value)]
        else:
            parts = self.query_key_value(hidden_states).chunk(3, dim=-1)
        return tuple(self.split_heads(part) for part in parts)

    def keys_and_values(
        self, key: torch.Tensor, value: torch.Tensor, past_key_values
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values `(B, H, S, D)`: those before the batch, in the cache, and the given."""
        if past_key_values is None:
            return key, value
        cache = past_key_values
        if isinstance(cache, EncoderDecoderCache):
            cache = cache.self_attention_cache
        return cache.update(key, value, self.layer_idx)

    def encoder_keys_and_values(
        self, key_value_states: torch.Tensor | None, past_key_values
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of the source `(B, H, S, D)`.

        They are projected once a source, at the first step of generation.
        """
        is_cached = isinstance(past_key_values, EncoderDecoderCache)
        if is_cached and past_key_values.is_updated.get(self.layer_idx):
            layer = past_key_values.cross_attention_cache.layers[self.layer_idx]
            return layer.keys, layer.values
        key = self.split_heads(self.key(key_value_states))
        value = self.split_heads(self.value(key_value_states))
        if past_key_values is None:
            return key, value
        if not is_cached:
            return past_key_values.update(key, value, self.layer_idx)
        past_key_values.is_updated[self.layer_idx] = True
        return past_key_values.cross_attention_cache.update(key, value, self.layer_idx)
