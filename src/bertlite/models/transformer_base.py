"""The Transformer without its output layer (Vaswani et al. 2017): an encoder and a decoder.

Shapes: `B` batch, `S` source length, `T` target length, `E` hidden size, `V` vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqModelOutput
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .attention import Attention
from .checkpoint import LitePreTrainedModel
from .configuration import TransformerLiteConfig
from .decoder import TransformerDecoder, shifted_right
from .embeddings import BART_EMBEDDINGS, MARIAN_EMBEDDINGS, EmbeddingSteps, embedding_parts
from .encoder import LayerStack, TextEncoder, final_norm_part
from .inputs import BatchLengths, TextBatch
from .layers import EncoderLayer
from .names import MARIAN_ATTENTION, MARIAN_LAYER
from .parts import Grown, Part


class TransformerLitePreTrainedModel(LitePreTrainedModel):
    """Base of the encoder-decoder family."""

    config: TransformerLiteConfig
    base_model_prefix = "model"
    auto_map = {
        "AutoConfig": "configuration.TransformerLiteConfig",
        "AutoModel": "modeling_transformerlite.TransformerLiteModel",
        "AutoModelForSeq2SeqLM": "modeling_transformerlite.TransformerLiteForConditionalGeneration",
        "AutoModelForSequenceClassification": (
            "modeling_transformerlite.TransformerLiteForSequenceClassification"
        ),
        "AutoModelForQuestionAnswering": (
            "modeling_transformerlite.TransformerLiteForQuestionAnswering"
        ),
    }
    _keys_to_ignore_on_load_missing = ["final_logits_bias"]  # some files lack it where it is zero

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        bias = getattr(module, "final_logits_bias", None)
        if isinstance(bias, torch.Tensor):
            init.zeros_(bias)


class TransformerEncoder(LayerStack, EmbeddingSteps, Grown, TextEncoder):
    """The Transformer's encoder: embeddings and layers of `(B, S)` ids (section 3.1)."""

    config: TransformerLiteConfig
    _can_record_outputs = {"hidden_states": EncoderLayer, "attentions": Attention}
    _input_embed_layer = "embed_tokens"
    final_norm = Part()

    def __init__(self, config: TransformerLiteConfig):
        super().__init__(config)
        self.num_heads = config.encoder_attention_heads
        self.layerdrop = config.encoder_layerdrop
        self.embedding_scale = config.d_model**0.5 if config.scale_embedding else 1.0
        heads = config.sizes_of("encoder_heads_per_layer")
        inner_sizes = config.sizes_of("encoder_ffn_dims")
        layers = [
            EncoderLayer(
                config,
                MARIAN_LAYER,
                MARIAN_ATTENTION,
                num_heads=heads[index],
                head_size=config.d_model // config.encoder_attention_heads,
                intermediate_size=inner_sizes[index],
                layer_idx=index,
            )
            for index in range(config.encoder_layers)
        ]
        self.set_names(MARIAN_EMBEDDINGS if config.family == "marian" else BART_EMBEDDINGS)
        parts = embedding_parts(config, config.vocab_size, config.type_vocab_size)
        self.grow({**parts, "layers": nn.ModuleList(layers), **final_norm_part(config)})
        self.post_init()

    @property
    def stack(self) -> LayerStack:
        return self

    def embed_batch(self, batch: TextBatch) -> torch.Tensor:
        """The batch as vectors `(B, S, E)`."""
        return self.embed(
            batch.input_ids, batch.token_type_ids, batch.position_ids, batch.inputs_embeds
        )

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        zero_padding: bool | None = None,
        packed: bool | None = None,
        lengths: BatchLengths | Sequence[int] | None = None,
        counted: tuple[torch.Tensor, ...] = (),
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutput:
        """Encode `(B, S)` ids; arguments, result and errors as of `BertLiteModel`.

        `counted` are boolean tensors whose True ones will be asked for, by `count_of`.
        """
        batch = self.make_batch(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            packed,
            kwargs.get("cu_seq_lens_q"),
            lengths,
            counted,
        )
        return BaseModelOutput(last_hidden_state=self.encode(batch, None, zero_padding, **kwargs))


class TransformerLiteModel(TransformerLitePreTrainedModel):
    """Encoder and decoder without the output layer."""

    def __init__(self, config: TransformerLiteConfig):
        super().__init__(config)
        self._tied_weights_keys = {}
        if config.share_encoder_decoder_embeddings:
            self.shared = nn.Embedding(config.vocab_size, config.d_model, config.pad_token_id)
            self._tied_weights_keys = {
                "encoder.embed_tokens.weight": "shared.weight",
                "decoder.embed_tokens.weight": "shared.weight",
            }
        self.encoder = TransformerEncoder(config)
        self.decoder = TransformerDecoder(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, value: Any) -> None:
        self.encoder.set_input_embeddings(value)
        if self.config.share_encoder_decoder_embeddings:
            self.shared = value
            self.decoder.set_input_embeddings(value)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: Any = None,
        past_key_values=None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        position_ids: torch.Tensor | None = None,
        decoder_position_ids: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        zero_padding: bool | None = None,
        packed: bool | None = None,
        counted: tuple[torch.Tensor, ...] = (),
        target_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> Seq2SeqModelOutput:
        """Encode `(B, S)` ids and decode `(B, T)` ids against them.

        Arguments and errors are those of `TransformerEncoder` and `TransformerDecoder`. In packed
        rows, where `position_ids` and `decoder_position_ids` start again and no mask is given,
        target k sees source k only. BART's and mBART's decoder reads the source, moved on by one,
        where it is given nothing.
        """
        given = decoder_input_ids is not None or decoder_inputs_embeds is not None
        if self.config.traits.reads_source and not given and input_ids is not None:
            decoder_input_ids = shifted_right(self.config, input_ids)
        if encoder_outputs is None:
            encoder_outputs = self.encoder(
                input_ids,
                attention_mask=attention_mask,
                token_type_ids=token_type_ids,
                position_ids=position_ids,
                inputs_embeds=inputs_embeds,
                zero_padding=zero_padding,
                packed=packed,
                counted=counted,
                return_dict=True,
                **kwargs,
            )
        elif not isinstance(encoder_outputs, BaseModelOutput):
            # A tuple: last states, then hidden states and attentions where they were asked for.
            encoder_outputs = BaseModelOutput(*encoder_outputs)
        decoder_outputs = self.decoder(
            decoder_input_ids,
            attention_mask=decoder_attention_mask,
            position_ids=decoder_position_ids,
            encoder_hidden_states=encoder_outputs[0],
            encoder_attention_mask=attention_mask,
            encoder_position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            packed=packed,
            target_mask=target_mask,
            return_dict=True,
            **kwargs,
        )
        return Seq2SeqModelOutput(
            last_hidden_state=decoder_outputs.last_hidden_state,
            past_key_values=decoder_outputs.past_key_values,
            decoder_hidden_states=decoder_outputs.hidden_states,
            decoder_attentions=decoder_outputs.attentions,
            cross_attentions=decoder_outputs.cross_attentions,
            encoder_last_hidden_state=encoder_outputs.last_hidden_state,
            encoder_hidden_states=encoder_outputs.hidden_states,
            encoder_attentions=encoder_outputs.attentions,
        )
