"""The decoder of the Transformer.

Shapes: `B` batch, `T` target length, `S` source length, `E` hidden size.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .attention import Attention, eager_attention
from .checkpoint import LitePreTrainedModel
from .configuration import TransformerLiteConfig
from .embeddings import BART_EMBEDDINGS, MARIAN_EMBEDDINGS, EmbeddingSteps, embedding_parts
from .encoder import FLAT_INPUTS, LayerStack, final_norm_part
from .inputs import (
    IGNORED,
    BatchLengths,
    TextBatch,
    check_ids,
    check_length,
    check_lengths,
    check_mask,
    check_tokens,
)
from .layers import DecoderLayer
from .masks import decoder_mask, segment_ids, source_mask
from .names import MARIAN_ATTENTION, MARIAN_LAYER
from .parts import Grown, Part


class TransformerDecoder(LayerStack, EmbeddingSteps, Grown, LitePreTrainedModel):
    """Causal layers that also attend to the encoder (Vaswani et al. 2017, section 3.1)."""

    config: TransformerLiteConfig
    _can_record_outputs = {
        "hidden_states": DecoderLayer,
        "attentions": OutputRecorder(Attention, index=1, layer_name="self_attn"),
        "cross_attentions": OutputRecorder(Attention, index=1, layer_name="encoder_attn"),
    }
    _input_embed_layer = "embed_tokens"
    final_norm = Part()
    argument_prefix = "decoder_"

    def __init__(self, config: TransformerLiteConfig):
        super().__init__(config)
        self.num_heads = config.decoder_attention_heads
        self.layerdrop = config.decoder_layerdrop
        self.adds_positions_last = config.traits.adds_positions_last
        is_scaled = config.scale_embedding and not self.adds_positions_last
        self.embedding_scale = config.d_model**0.5 if is_scaled else 1.0
        heads = config.sizes_of("decoder_heads_per_layer")
        cross_heads = config.sizes_of("cross_heads_per_layer")
        inner_sizes = config.sizes_of("decoder_ffn_dims")
        layers = [
            DecoderLayer(
                config,
                MARIAN_LAYER,
                MARIAN_ATTENTION,
                num_heads=heads[index],
                head_size=config.d_model // config.decoder_attention_heads,
                intermediate_size=inner_sizes[index],
                layer_idx=index,
                cross_heads=cross_heads[index],
            )
            for index in range(config.decoder_layers)
        ]
        self.set_names(MARIAN_EMBEDDINGS if config.family == "marian" else BART_EMBEDDINGS)
        parts = embedding_parts(config, config.target_vocab_size, 0)
        self.grow({**parts, "layers": nn.ModuleList(layers), **final_norm_part(config)})
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        encoder_position_ids: torch.Tensor | None = None,
        past_key_values=None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        packed: bool | None = None,
        lengths: BatchLengths | Sequence[int] | None = None,
        target_mask: torch.Tensor | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """Decode `(B, T)` ids against encoder states `(B, S, E)`.

        Args:
            input_ids: `(B, T)`.
            attention_mask: `(B, past + T)`, or a prepared 4D mask.
            position_ids: `(B, T)`; in packed rows target k sees source k.
            encoder_hidden_states: `(B, S, E)`.
            encoder_attention_mask: `(B, S)`.
            encoder_position_ids: `(B, S)`, the source's, for packed rows.
            past_key_values: keys and values of earlier positions, and of the encoder.
            inputs_embeds: `(B, T, E)`, instead of `input_ids`.
            use_cache: whether to begin a cache.
            packed: as in `segment_ids`; None: where no mask is given and positions start again.
            lengths: of the source's sequences, as the encoder takes them.
            target_mask: `(B, T)` boolean, True from the start of each row to the last vector that
                is read; the others may come back as zeros. None: all are read.
            kwargs: for the attention function.

        Raises:
            ValueError: as `inputs.py` says.
        """
        if use_cache and past_key_values is None:
            past_key_values = EncoderDecoderCache(
                DynamicCache(config=self.config), DynamicCache(config=self.config)
            )
        start = past_key_values.get_seq_length() if past_key_values is not None else 0
        shape = self.check_targets(input_ids, inputs_embeds, position_ids, start)
        # A cache that has seen nothing and grows as it is used hides nothing.
        is_fresh = past_key_values is None or (not past_key_values.is_compileable and start == 0)
        source_length = encoder_hidden_states.shape[1]  # type: ignore[union-attr]
        check_mask(
            "encoder_attention_mask",
            encoder_attention_mask,
            shape[0],
            self.num_heads,
            shape[1],
            source_length,
        )
        if is_fresh:  # else the cache may hold more keys than it has seen
            check_mask(
                "decoder_attention_mask",
                attention_mask,
                shape[0],
                self.num_heads,
                shape[1],
                shape[1],
            )
        segments = segment_ids(position_ids, attention_mask, packed, shape[0])
        source_segments = segment_ids(
            encoder_position_ids, encoder_attention_mask, packed, shape[0]
        )
        backend, known = self.ask_backend(
            {"decoder_input_ids": input_ids, "decoder_position_ids": position_ids},
            encoder_hidden_states,
            encoder_attention_mask,
            lengths,
            segments is not None or source_segments is not None,
            past_key_values,
            attention_mask=attention_mask,
            target_mask=target_mask,
            **kwargs,
        )
        if position_ids is None:
            given: Any = input_ids if inputs_embeds is None else inputs_embeds
            position_ids = self.default_positions(input_ids, shape[1], start, given.device)
        if backend is not None:
            targets = TextBatch(input_ids, None, position_ids, inputs_embeds, attention_mask, None)
            source = (encoder_hidden_states, encoder_attention_mask)
            vectors = backend.decode(self, targets, source, target_mask, known, **kwargs)
            return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=vectors)
        hidden_states = self.embed(input_ids, None, position_ids, inputs_embeds)  # (B, T, E)

        output_attentions = bool(kwargs.get("output_attentions"))
        mask = decoder_mask(
            self.config,
            hidden_states,
            attention_mask,
            segments,
            None if is_fresh else past_key_values,
            output_attentions,
        )
        mask_of_source, attend_to_source = self.see_source(
            hidden_states,
            encoder_hidden_states,
            encoder_attention_mask,
            segments,
            source_segments,
            output_attentions,
        )
        if output_attentions:
            kwargs["attention_interface"] = eager_attention  # the others give no weights
        hidden_states = self.run_layers(
            hidden_states,
            mask,
            encoder_hidden_states,  # type: ignore[arg-type]
            encoder_attention_mask=mask_of_source,
            past_key_values=past_key_values,
            cross_attention_interface=attend_to_source,
            **{name: each for name, each in kwargs.items() if name not in FLAT_INPUTS},
        )
        hidden_states = self.finish(hidden_states)
        return BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=hidden_states, past_key_values=past_key_values
        )

    def finish(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """What comes after the last layer: a pre-norm stack's own norm."""
        return hidden_states if self.final_norm is None else self.final_norm(hidden_states)

    def ask_backend(
        self,
        ids: dict[str, torch.Tensor | None],
        encoder_hidden_states: torch.Tensor | None,
        encoder_attention_mask: torch.Tensor | None,
        lengths: BatchLengths | Sequence[int] | None,
        is_packed: bool,
        past_key_values: Any,
        **kwargs,
    ) -> tuple[Any, BatchLengths | None]:
        """The backend that decodes, None: the core; and what is known of lengths.

        It comes before the look-up of `ids`, which a backend checks.
        """
        # Packed rows and those of a cache are left to the core, which needs no lengths.
        no_use = is_packed or past_key_values is not None or self.sees_a_part()
        known = check_lengths(
            None if no_use else lengths,
            tuple(encoder_hidden_states.shape[:2]),  # type: ignore[union-attr, arg-type]
            is_masked=encoder_attention_mask is not None,
            is_packed=False,
        )
        backend = self.take_backend(
            "decode",
            ids=ids,
            encoder_hidden_states=encoder_hidden_states,
            encoder_attention_mask=encoder_attention_mask,
            lengths=known,
            is_packed=is_packed,
            past_key_values=past_key_values,
            **kwargs,
        )
        return backend, known

    def see_source(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None,
        encoder_attention_mask: torch.Tensor | None,
        segments: torch.Tensor | None,
        source_segments: torch.Tensor | None,
        output_attentions: bool,
    ) -> tuple[Any, Callable | None]:
        """How layers see the source: the mask of its vectors, and the function that attends."""
        mask = source_mask(
            self.config,
            hidden_states,
            encoder_hidden_states,  # type: ignore[arg-type]
            encoder_attention_mask,
            segments,
            source_segments,
            output_attentions,
        )
        return mask, self.source_attention(mask, output_attentions)

    def check_targets(
        self,
        input_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None,
        position_ids: torch.Tensor | None,
        start: int,
    ) -> tuple[int, int]:
        """The shape `(B, T)` of the targets, checked; `start`: tokens in the cache."""
        shape = check_tokens(input_ids, inputs_embeds, self.config.hidden_size)
        if position_ids is None:
            limit = self.config.max_position_embeddings
            check_length("decoder_input_ids", shape[1], start, limit)
        check_ids("decoder_input_ids", input_ids, shape)
        check_ids("decoder_position_ids", position_ids, shape)
        return shape

    def source_attention(self, mask, output_attentions: bool) -> Callable | None:
        """The function that attends to the source; None: the same as to the targets.

        The library's flash attention would lay the source's mask `(B, S)` on the targets too, so
        that a padded source is attended to by torch's fused attention.
        """
        is_flash = "flash" in self.config._attn_implementation
        if not is_flash or output_attentions or mask is None:
            return None
        fused = ALL_ATTENTION_FUNCTIONS["sdpa"]

        def attend(module: nn.Module, query, key, value, attention_mask, **kwargs):
            allowed = attention_mask[:, None, None].bool()  # (B, 1, 1, S)
            return fused(module, query, key, value, allowed, **kwargs)

        return attend


def shifted_right(config: TransformerLiteConfig, ids: torch.Tensor) -> torch.Tensor:
    """`(B, T)` moved on by one: the start, then all but the last, with -100 as padding.

    mBART starts with the last token of each row, its language.

    Raises:
        ValueError: the configuration names no start.
    """
    padding = config.pad_token_id or 0
    ids = ids.masked_fill(ids == IGNORED, padding)
    shifted = ids.roll(1, dims=-1)
    if config.traits.starts_with_last_label:
        last = (ids != padding).sum(-1, keepdim=True) - 1  # (B, 1)
        shifted[:, :1] = ids.gather(1, last.clamp(min=0))
    else:
        start = config.decoder_start_token_id
        if start is None:
            raise ValueError("config: decoder_start_token_id must be a token, got None")
        shifted[:, 0] = start
    return shifted
