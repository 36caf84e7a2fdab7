"""Attention, written once.

It serves the encoder, the causal decoder and the decoder's look at the encoder.

    Attention(Q, K, V) = softmax(Q Kᵀ / √d_k) V                                   (Vaswani et al.
    2017, section 3.2.1)

Shapes: `B` batch, `H` heads, `T` queries, `S` keys, `D` head size (d_k), `E` = H·D hidden size, `N`
real tokens.
"""

import torch
from torch import nn
from transformers import EncoderDecoderCache, PreTrainedConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .linear import Linear, drop
from .masking import Ids, Vectors, equal_length_groups


def scaled_dot_product_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Ids = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The formula, step by step; implementation "eager" and the reference for every faster one.

    Args:
        module: the calling `Attention`; its `is_causal` says what a missing mask means.
        query: `(B, H, T, D)`; `key` and `value`: `(B, H, S, D)`.
        attention_mask: `(B, 1, T, S)`, boolean (True: may attend) or additive; None: every allowed
            key is real.
        scaling: 1 / √d_k unless given; `dropout`: probability of dropping an attention weight
            (training only).

    Returns the context `(B, T, H, D)` and the weights `(B, H, T, S)`.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = query @ key.transpose(2, 3) * scaling  # (B, H, T, S)
    if attention_mask is None and module.is_causal and query.shape[2] > 1:
        attention_mask = torch.ones(
            scores.shape[-2:], dtype=torch.bool, device=scores.device
        ).tril()
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(dim=-1)  # (B, H, T, S)
    weights = drop(weights, dropout, module.training)
    return (weights @ value).transpose(1, 2), weights  # (B, T, H, D)


def attend_each_sequence(attend, module, query, key, value, cu_seq_lens, **kwargs) -> torch.Tensor:
    """Attention of sequences laid end to end.

    One call, without a mask, for each run of sequences of equal length.

    `query`, `key`, `value`: `(1, H, N, D)`; `attend`: the function to call for a run. Returns `(1,
    N, H, D)`.
    """
    if not (groups := equal_length_groups(cu_seq_lens)):
        return query.transpose(1, 2)
    sizes, context = [count * length for count, length in groups], []
    # One split of each tensor: its gradient is one concatenation, where slices would each fill a
    # tensor with zeros.
    pieces = zip(
        groups,
        *(tensor.squeeze(0).split(sizes, dim=1) for tensor in (query, key, value)),
        strict=True,
    )
    for (count, length), *block in pieces:
        block = [
            piece.unflatten(1, (count, length)).transpose(0, 1) for piece in block
        ]  # (count, H, length, D)
        context.append(
            attend(module, *block, None, **kwargs)[0].flatten(0, 1)
        )  # (count * length, H, D)
    return torch.cat(context).unsqueeze(0)


class Attention(nn.Module):
    """Multi-head attention (section 3.2.2).

    H heads of size E / H side by side, then one output projection.

    `config` is read on every call for the implementation, which can be switched on a live model.
    With `is_causal` no query sees later positions, with `is_cross_attention` it sees the encoder;
    the cache needs the place, `layer_idx`.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        *,
        num_heads: int,
        is_causal: bool = False,
        is_cross_attention: bool = False,
        layer_idx: int | None = None,
    ):
        super().__init__()
        self.config, self.num_heads, self.layer_idx = config, num_heads, layer_idx
        self.head_dim = config.hidden_size // num_heads
        self.scaling = self.head_dim**-0.5
        self.attention_dropout = config.attention_probs_dropout_prob
        self.is_causal = is_causal  # sdpa takes a module without it as causal
        self.is_cross_attention = is_cross_attention
        size = config.hidden_size
        self.query, self.key, self.value, self.output = (Linear(size, size) for _ in range(4))

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: Ids = None,
        key_value_states: Vectors = None,
        past_key_values=None,
        rows: Ids = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend from `(B, T, E)` to themselves or to `key_value_states` `(B, S, E)`.

        Returns `(B, T, E)`, or its `rows` `(K,)` as `(1, K, E)`, and weights `(B, H, T, S)`; None
        where none are made.
        """
        query = self._heads(self.query(hidden_states))  # (B, H, T, D)
        key, value = self._keys_and_values(
            hidden_states, key_value_states, past_key_values
        )  # (B, H, S, D)
        name, attend = self.config._attn_implementation or "", scaled_dot_product_attention
        options = {
            "scaling": self.scaling,
            "dropout": self.attention_dropout if self.training else 0.0,
        }
        slow = name == "sdpa" and attention_mask is None and query.is_cpu and options["dropout"] > 0
        if not (slow or kwargs.get("output_attentions")):  # sdpa has no dropout on a CPU
            attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, attend)
        cu_seq_lens, weights = kwargs.get("cu_seq_lens_q"), None
        flash = "flash" in name and attend is not scaled_dot_product_attention
        if cu_seq_lens is not None and not flash:
            run = ALL_ATTENTION_FUNCTIONS.get(
                "bertlite_dropping" if slow else "", attend_each_sequence
            )  # or its like
            context = run(attend, self, query, key, value, cu_seq_lens, **options)
        else:
            if flash and self.is_cross_attention and attention_mask is not None:
                # A padded source, whose mask (B, S) the library's flash wrapper would lay on the
                # queries too.
                attend, attention_mask = (
                    ALL_ATTENTION_FUNCTIONS["sdpa"],
                    attention_mask[:, None, None].bool(),
                )
            context, weights = attend(self, query, key, value, attention_mask, **options, **kwargs)
        context = (
            context.flatten(-2)
            if rows is None
            else context.flatten(-2).flatten(0, 1).index_select(0, rows)[None]
        )
        return self.output(context), weights  # (B, T, E) or (1, K, E)

    def _heads(self, projected: torch.Tensor) -> torch.Tensor:
        return projected.unflatten(-1, (self.num_heads, self.head_dim)).transpose(
            1, 2
        )  # (B, H, S, D)

    def _keys_and_values(self, hidden_states, key_value_states, past_key_values):
        """Project keys and values, or take them from the cache.

        Those of the encoder are projected once a source.
        """
        cache = past_key_values
        if isinstance(past_key_values, EncoderDecoderCache):
            if self.is_cross_attention and past_key_values.is_updated.get(self.layer_idx):
                layer = past_key_values.cross_attention_cache.layers[self.layer_idx]
                return layer.keys, layer.values
            cache = past_key_values.self_attention_cache
            if self.is_cross_attention:
                cache = past_key_values.cross_attention_cache
                past_key_values.is_updated[self.layer_idx] = True
        source = key_value_states if self.is_cross_attention else hidden_states
        key, value = self._heads(self.key(source)), self._heads(self.value(source))
        return (key, value) if cache is None else cache.update(key, value, self.layer_idx)
