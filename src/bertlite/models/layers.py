"""The layers of the Transformer, once: BERT's encoder is the Transformer's encoder.

Shapes: `B` batch, `T` target length, `S` source length, `N` real tokens, `E` hidden size.
"""

import torch
from torch import nn
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPastAndCrossAttentions
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .attention import Attention
from .embeddings import Embeddings
from .linear import Dropout, Linear
from .masking import FlatLayout, Ids, Vectors, attention_masks, check_mask, is_traced, segment_ids
from .pretrained import LitePreTrainedModel


class FeedForward(nn.Module):
    """FFN(x) = act(x W₁ + b₁) W₂ + b₂, at each position alike (Vaswani et al.

    2017, section 3.3; BERT uses GELU).
    """

    def __init__(self, config: PreTrainedConfig, *, intermediate_size: int):
        super().__init__()
        self.fc1 = Linear(config.hidden_size, intermediate_size)
        self.fc2 = Linear(intermediate_size, config.hidden_size)
        self.activation = ACT2FN[config.hidden_act]
        self.is_gelu = config.hidden_act == "gelu"
        self.dropout = Dropout(config.activation_dropout)
        self.chunk_size = config.chunk_size_feed_forward

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(B, T, E)` to `(B, T, E)`.

        `chunk_size_feed_forward` positions at a time where it is set.
        """
        chunks = hidden_states.split(self.chunk_size, dim=1) if self.chunk_size else [hidden_states]
        chunks = [self.fc2(self.dropout(self.activate(self.fc1(chunk)))) for chunk in chunks]
        return chunks[0] if len(chunks) == 1 else torch.cat(chunks, dim=1)

    def activate(self, inner: torch.Tensor) -> torch.Tensor:
        """The activation.

        GELU in place where no gradient and no hook needs its input, which saves a wide copy.
        """
        if self.is_gelu and not (torch.is_grad_enabled() or self.fc1._forward_hooks or is_traced()):
            return torch.ops.aten.gelu_(inner)
        return self.activation(inner)


class EncoderLayer(GradientCheckpointingLayer):
    """Self-attention, then feed-forward (section 3.1).

    The layer of BERT and of the Transformer's encoder.
    """

    is_decoder = False

    def __init__(
        self, config: PreTrainedConfig, *, num_heads: int, intermediate_size: int, layer_idx: int
    ):
        super().__init__()
        self.norm_first = config.norm_first
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.self_attention = Attention(
            config, num_heads=num_heads, is_causal=self.is_decoder, layer_idx=layer_idx
        )
        self.self_attention_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        if self.is_decoder:
            self.cross_attention = Attention(
                config, num_heads=num_heads, is_cross_attention=True, layer_idx=layer_idx
            )
            self.cross_attention_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.feed_forward = FeedForward(config, intermediate_size=intermediate_size)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def residual(
        self, x: torch.Tensor, norm: nn.LayerNorm, sublayer, *args, **kwargs
    ) -> torch.Tensor:
        """The one place of the norm.

        LayerNorm(x + Sublayer(x)), as in the papers, or x + Sublayer(LayerNorm(x)).
        """
        made = sublayer(norm(x) if self.norm_first else x, *args, **kwargs)
        x = (
            x
            if kwargs.get("rows") is None
            else x.flatten(0, 1).index_select(0, kwargs["rows"])[None]
        )  # (1, K, E)
        x = x + self.dropout(
            made[0] if isinstance(made, tuple) else made
        )  # attention gives its weights too
        return x if self.norm_first else norm(x)

    def forward(self, hidden_states: torch.Tensor, attention_mask: Ids = None, **kwargs):
        """`(B, T, E)`, or `(1, N, E)` with `cu_seq_lens_q`, to the same, or to its `rows` `(K,)`
        alone, `(1, K, E)`.
        """
        x = self.residual(
            hidden_states, self.self_attention_norm, self.self_attention, attention_mask, **kwargs
        )
        return self.residual(x, self.feed_forward_norm, self.feed_forward)


class DecoderLayer(EncoderLayer):
    """Causal self-attention, attention to the encoder, feed-forward.

    The three sub-layers of section 3.1.
    """

    is_decoder = True

    def forward(
        self,
        hidden_states,
        attention_mask=None,
        encoder_hidden_states=None,
        encoder_attention_mask=None,
        **kwargs,
    ):
        """`(B, T, E)` targets and `(B, S, E)` encoder states to `(B, T, E)`.

        `past_key_values` in `kwargs`.
        """
        source = (encoder_attention_mask, encoder_hidden_states)
        x = self.residual(
            hidden_states, self.self_attention_norm, self.self_attention, attention_mask, **kwargs
        )
        x = self.residual(x, self.cross_attention_norm, self.cross_attention, *source, **kwargs)
        return self.residual(x, self.feed_forward_norm, self.feed_forward)


class Stack(LitePreTrainedModel):
    """Embeddings and a pile of layers; with pre-norm, a last norm, since no layer ends with one."""

    layer_class: type[EncoderLayer]

    def __init__(
        self,
        config: PreTrainedConfig,
        *,
        vocab_size: int,
        num_layers: int,
        num_heads: int,
        intermediate_size: int,
        type_vocab_size: int = 0,
        layerdrop: float = 0.0,
    ):
        super().__init__(config)
        self.layerdrop, self.num_heads = layerdrop, num_heads
        self.embeddings = Embeddings(config, vocab_size=vocab_size, type_vocab_size=type_vocab_size)
        sizes = {"num_heads": num_heads, "intermediate_size": intermediate_size}
        self.layers = nn.ModuleList(
            [self.layer_class(config, **sizes, layer_idx=i) for i in range(num_layers)]
        )
        self.final_norm = (
            nn.LayerNorm(config.hidden_size, config.layer_norm_eps) if config.norm_first else None
        )
        self.gradient_checkpointing = False
        self.post_init()

    def run_layers(
        self, hidden_states: torch.Tensor, *args, rows: Ids = None, **kwargs
    ) -> torch.Tensor:
        """All layers in turn.

        Each is left out in training with probability `layerdrop` (Fan et al. 2019).
        """
        for layer in self.layers:
            if not (self.training and self.layerdrop and torch.rand([]) < self.layerdrop):
                last = {} if rows is None or layer is not self.layers[-1] else {"rows": rows}
                hidden_states = layer(hidden_states, *args, **kwargs, **last)
        return hidden_states if self.final_norm is None else self.final_norm(hidden_states)


class Encoder(Stack):
    """The encoder of both families.

    Real tokens run through it end to end and come back as `(B, T, E)`, zero at padding. The padded
    batch is the plain path, taken where a caller looks inside or a graph is recorded, and for 4D
    masks. A test holds the two equal.
    """

    layer_class = EncoderLayer
    reads_first_position = (
        False  # whether the output depends on position 0 even where the mask hides it
    )
    _can_record_outputs = {"hidden_states": EncoderLayer, "attentions": Attention}

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: Ids = None,
        attention_mask: Ids = None,
        token_type_ids: Ids = None,
        position_ids: Ids = None,
        inputs_embeds: Vectors = None,
        needed: Ids = None,
        **kwargs,
    ) -> BaseModelOutput:
        """Encode `(B, T)` ids (or `(B, T, E)` word vectors).

        ValueErrors are those of `Embeddings.check`, `check_mask`.

        Args:
            attention_mask: `(B, T)`, non-zero at real tokens, or a prepared 4D mask.
            position_ids: `(B, T)`; where they start again in a row, another sequence begins, hidden
                from the first.
            needed: `(B, T)`, True where the output is read, or `(1, 1)`: first positions alone;
                elsewhere it may be 0.
        """
        given = self.embeddings.check(input_ids, token_type_ids, position_ids, inputs_embeds)
        batch_size, length = given.shape[:2]
        check_mask("attention_mask", attention_mask, batch_size, self.num_heads, length, length)
        segments = segment_ids(position_ids, batch_size)
        if (
            ends := kwargs.get("cu_seq_lens_q")
        ) is not None:  # sequences that the caller laid end to end
            places = torch.arange(length, device=ends.device, dtype=ends.dtype)
            segments = torch.searchsorted(ends[1:], places, right=True)[None]
        if position_ids is None:
            position_ids = torch.arange(length, device=given.device)[None]  # (1, T)
        kwargs["output_attentions"] = kwargs.get("output_attentions", self.config.output_attentions)
        tokens: tuple = (input_ids, token_type_ids, position_ids, inputs_embeds)
        watched = kwargs["output_attentions"] or kwargs.get(
            "output_hidden_states", self.config.output_hidden_states
        )
        layout, mask = self._layout(attention_mask, segments, given, watched, kwargs), None
        if layout is not None:
            tokens = tuple(layout.take(tensor) for tensor in tokens)
            kwargs = {**kwargs, **layout.kwargs}
        hidden_states = self.embeddings(*tokens)  # (B, T, E) or (1, N, E)
        if kwargs.get("cu_seq_lens_q") is None:
            mask = attention_masks(self.config, hidden_states, attention_mask, segments, **kwargs)
        if (
            needed is not None
            and len(self.layers)
            and not (is_traced() or watched or self.layerdrop)
        ):
            layout, kwargs["rows"] = FlatLayout.of_needed(needed, layout, (batch_size, length))
        hidden_states = self.run_layers(hidden_states, mask, **kwargs)
        return self.make_output(hidden_states if layout is None else layout.put_back(hidden_states))

    def make_output(self, hidden_states: torch.Tensor) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=hidden_states)

    def _layout(self, attention_mask, segments, given, watched, kwargs) -> FlatLayout | None:
        """The flat layout of the batch, or None where the padded path must, or may as well, be
        taken.
        """
        if watched:  # sequences that the caller laid end to end are masked apart instead
            for name in ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k"):
                kwargs.pop(name, None)
        padded_only = (
            not self.config.unpad_inputs or self.config._attn_implementation == "flex_attention"
        )
        if padded_only or is_traced() or watched or kwargs.get("cu_seq_lens_q") is not None:
            return None
        prepared = attention_mask is not None and attention_mask.ndim != 2
        full = (
            not prepared and segments is None and (attention_mask is None or attention_mask.all())
        )
        first = self.reads_first_position and not prepared and attention_mask is not None
        if prepared or full or (first and not attention_mask[:, 0].all()):
            return None
        return FlatLayout.of(attention_mask, segments, tuple(given.shape[:2]), given.device)


class Decoder(Stack):
    """The decoder of the Transformer."""

    layer_class = DecoderLayer
    _can_record_outputs = {
        "hidden_states": DecoderLayer,
        "attentions": OutputRecorder(Attention, index=1, layer_name="self_attention"),
        "cross_attentions": OutputRecorder(Attention, index=1, layer_name="cross_attention"),
    }

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: Ids = None,
        attention_mask: Ids = None,
        position_ids: Ids = None,
        *,
        encoder_hidden_states: torch.Tensor,
        encoder_attention_mask: Ids = None,
        encoder_position_ids: Ids = None,
        past_key_values=None,
        inputs_embeds: Vectors = None,
        use_cache: bool | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """Decode `(B, T)` ids against encoder states `(B, S, E)`.

        Args:
            attention_mask: `(B, past + T)`, or a prepared 4D mask; `encoder_attention_mask`: `(B,
                S)`.
            position_ids: `(B, T)`; in rows packed as in `Encoder` target k sees source k, by
                `encoder_position_ids`.
            past_key_values: keys and values of earlier positions, and of the encoder. Errors are
                those of `Encoder`.
        """
        if use_cache and past_key_values is None:
            past_key_values = EncoderDecoderCache(
                DynamicCache(config=self.config), DynamicCache(config=self.config)
            )
        start = past_key_values.get_seq_length() if past_key_values is not None else 0
        growing_and_empty = past_key_values is None or (
            not past_key_values.is_compileable and start == 0
        )
        own: dict = {
            "is_causal": True,
            "past_key_values": None if growing_and_empty else past_key_values,
        }
        given = self.embeddings.check(input_ids, None, position_ids, inputs_embeds, start)
        batch_size, length = given.shape[:2]
        sizes = (batch_size, self.num_heads, length)
        check_mask(
            "encoder_attention_mask", encoder_attention_mask, *sizes, encoder_hidden_states.shape[1]
        )
        if own["past_key_values"] is None:  # a cache may hold more keys than it has seen
            check_mask("decoder_attention_mask", attention_mask, *sizes, length)
        segments = segment_ids(position_ids, batch_size)
        if position_ids is None:
            position_ids = (torch.arange(length, device=given.device) + start)[None]  # (1, T)
        hidden_states = self.embeddings(input_ids, None, position_ids, inputs_embeds)
        kwargs["output_attentions"] = kwargs.get("output_attentions", self.config.output_attentions)
        source = {"encoder_hidden_states": encoder_hidden_states, **kwargs}
        source["key_segments"] = segment_ids(encoder_position_ids, batch_size)
        mask = attention_masks(
            self.config, hidden_states, attention_mask, segments, **own, **kwargs
        )
        source_mask = attention_masks(
            self.config, hidden_states, encoder_attention_mask, segments, **source
        )
        states = (hidden_states, mask, encoder_hidden_states, source_mask)
        hidden_states = self.run_layers(*states, past_key_values=past_key_values, **kwargs)
        return BaseModelOutputWithPastAndCrossAttentions(
            hidden_states, past_key_values=past_key_values
        )
