"""The Transformer of 'Attention Is All You Need' (Vaswani et al.

2017), for translation and summarisation.

Shapes: `B` batch, `S` source length, `T` target length, `E` hidden size, `V` vocabulary.
"""

import torch
from torch import nn
from transformers import GenerationMixin
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput, Seq2SeqModelOutput
from transformers.utils import can_return_tuple

from .configuration import TransformerLiteConfig
from .layers import Decoder, Encoder
from .linear import Linear
from .losses import cross_entropy, vocabulary_loss
from .masking import IGNORED, Count, Ids, Vectors, check_integers, is_traced
from .pretrained import LitePreTrainedModel


class TransformerLitePreTrainedModel(LitePreTrainedModel):
    """Base of the encoder-decoder family."""

    config: TransformerLiteConfig
    base_model_prefix = "model"
    auto_map = {
        "AutoConfig": "configuration.TransformerLiteConfig",
        "AutoModel": "modeling_transformerlite.TransformerLiteModel",
        "AutoModelForSeq2SeqLM": "modeling_transformerlite.TransformerLiteForConditionalGeneration",
    }
    _keys_to_ignore_on_load_missing = ["final_logits_bias"]


class TransformerLiteModel(TransformerLitePreTrainedModel):
    """Encoder and decoder without the output layer.

    One embedding for both where the config shares it.
    """

    def __init__(self, config: TransformerLiteConfig):
        super().__init__(config)
        self._tied_weights_keys = {}
        if config.share_encoder_decoder_embeddings:
            self.shared = nn.Embedding(config.vocab_size, config.d_model, config.pad_token_id)
            sides = ("encoder", "decoder")
            self._tied_weights_keys = {
                f"{s}.embeddings.word_embeddings.weight": "shared.weight" for s in sides
            }
        self.encoder = Encoder(
            config,
            vocab_size=config.vocab_size,
            num_layers=config.encoder_layers,
            num_heads=config.encoder_attention_heads,
            intermediate_size=config.encoder_ffn_dim,
            type_vocab_size=config.type_vocab_size,
            layerdrop=config.encoder_layerdrop,
        )
        self.decoder = Decoder(
            config,
            vocab_size=config.decoder_vocab_size or config.vocab_size,
            num_layers=config.decoder_layers,
            num_heads=config.decoder_attention_heads,
            intermediate_size=config.decoder_ffn_dim,
            layerdrop=config.decoder_layerdrop,
        )
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.encoder.set_input_embeddings(value)
        if self.config.share_encoder_decoder_embeddings:
            self.shared = value
            self.decoder.set_input_embeddings(value)

    @can_return_tuple
    def forward(
        self,
        input_ids: Ids = None,
        attention_mask: Ids = None,
        decoder_input_ids: Ids = None,
        decoder_attention_mask: Ids = None,
        encoder_outputs=None,
        past_key_values=None,
        inputs_embeds: Vectors = None,
        decoder_inputs_embeds: Vectors = None,
        use_cache: bool | None = None,
        position_ids: Ids = None,
        decoder_position_ids: Ids = None,
        token_type_ids: Ids = None,
        **kwargs,
    ) -> Seq2SeqModelOutput:
        """Encode `(B, S)` ids and decode `(B, T)` ids against them.

        Arguments and errors as in `Encoder`, `Decoder`.

        Packed rows: where `position_ids` and `decoder_position_ids` start again, target k sees
        source k only.
        """
        kwargs["return_dict"] = True
        if encoder_outputs is None:
            source = (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds)
            encoder_outputs = self.encoder(*source, **kwargs)
        elif not isinstance(encoder_outputs, BaseModelOutput):
            encoder_outputs = BaseModelOutput(
                *encoder_outputs
            )  # a tuple: states, then hidden states, attentions
        decoder_outputs = self.decoder(
            decoder_input_ids,
            decoder_attention_mask,
            decoder_position_ids,
            encoder_hidden_states=encoder_outputs[0],
            encoder_attention_mask=attention_mask,
            encoder_position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            **{
                name: value
                for name, value in kwargs.items()
                if "seq_len" not in name and "max_length" not in name
            },
        )
        sides = {"encoder": encoder_outputs, "decoder": decoder_outputs}
        seen = {
            f"{s}_{name}": out.get(name)
            for s, out in sides.items()
            for name in ("hidden_states", "attentions")
        }
        seen |= {
            n: decoder_outputs.get(n)
            for n in ("last_hidden_state", "past_key_values", "cross_attentions")
        }
        return Seq2SeqModelOutput(encoder_last_hidden_state=encoder_outputs[0], **seen)


class TransformerLiteForConditionalGeneration(TransformerLitePreTrainedModel, GenerationMixin):
    """The Transformer with its output layer, which shares the embedding's weight (section 3.4).

    `labels` `(B, T)` are what is to be written, -100 where nothing is; the decoder's input is made
    from them. In training with labels, `logits` is None, as in `BertLiteForMaskedLM`.
    """

    final_logits_bias: torch.Tensor
    _tied_weights_keys = {"lm_head.weight": "model.decoder.embeddings.word_embeddings.weight"}

    def __init__(self, config: TransformerLiteConfig):
        super().__init__(config)
        self.model = TransformerLiteModel(config)
        if config.share_encoder_decoder_embeddings:
            tied = (
                "lm_head",
                "model.encoder.embeddings.word_embeddings",
                "model.decoder.embeddings.word_embeddings",
            )
            self._tied_weights_keys = {f"{name}.weight": "model.shared.weight" for name in tied}
        self.lm_head = Linear(
            config.d_model, config.decoder_vocab_size or config.vocab_size, bias=False
        )
        self.register_buffer(
            "final_logits_bias", torch.zeros(1, self.lm_head.out_features)
        )  # Marian's
        self.post_init()

    def resize_token_embeddings(
        self, new_num_tokens=None, pad_to_multiple_of=None, mean_resizing=True
    ):
        """Of both sides where they share one vocabulary, else of the source alone, as in Marian."""
        shared = self.config.share_encoder_decoder_embeddings
        owner = super() if shared else self.model
        embeddings = owner.resize_token_embeddings(
            new_num_tokens, pad_to_multiple_of, mean_resizing
        )
        return self._follow(embeddings) if shared else embeddings

    def resize_decoder_token_embeddings(self, new_num_tokens: int) -> nn.Module:
        """Of the target alone, with the output layer."""
        if self.config.share_encoder_decoder_embeddings:
            raise ValueError("source and target share one vocabulary: use resize_token_embeddings")
        source_size = self.config.vocab_size
        embeddings = self.model.decoder.resize_token_embeddings(new_num_tokens)
        self.config.vocab_size = source_size
        self.lm_head = self._get_resized_lm_head(self.lm_head, new_num_tokens)
        self.tie_weights()
        return self._follow(embeddings)

    def _follow(self, embeddings: nn.Embedding) -> nn.Embedding:
        """Give config and output bias the size of the target's embeddings."""
        self.config.decoder_vocab_size = size = embeddings.num_embeddings
        self.final_logits_bias = nn.functional.pad(
            self.final_logits_bias, (0, size - self.final_logits_bias.shape[1])
        )
        return embeddings

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """What the decoder reads to predict `labels` `(B, T)`.

        The start token, then the labels but the last.
        """
        shifted = labels.roll(1, dims=-1)
        shifted[:, 0] = self.config.decoder_start_token_id
        return shifted.masked_fill(shifted == IGNORED, self.config.pad_token_id or 0)

    @can_return_tuple
    def forward(
        self,
        input_ids: Ids = None,
        attention_mask: Ids = None,
        decoder_input_ids: Ids = None,
        decoder_attention_mask: Ids = None,
        encoder_outputs=None,
        past_key_values=None,
        inputs_embeds: Vectors = None,
        decoder_inputs_embeds: Vectors = None,
        labels: Ids = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: Count = None,
        **kwargs,
    ) -> Seq2SeqLMOutput:
        """As `TransformerLiteModel`.

        Args:
            labels: `(B, T)`, not shifted; `num_items_in_batch`: those in all accumulated pieces,
                which `Trainer` gives.
            logits_to_keep: compute logits of the last so many positions only; 0: of all.
        """
        if labels is not None:
            shape = None if decoder_input_ids is None else tuple(decoder_input_ids.shape)
            check_integers("labels", labels, self.lm_head.out_features, shape)
            use_cache = False
            if decoder_input_ids is None and decoder_inputs_embeds is None:
                decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        inputs: tuple = (
            input_ids,
            attention_mask,
            decoder_input_ids,
            decoder_attention_mask,
            encoder_outputs,
        )
        inputs += (past_key_values, inputs_embeds, decoder_inputs_embeds, use_cache)
        outputs = self.model(*inputs, **{**kwargs, "return_dict": True})
        loss, logits = self._predict(
            outputs.last_hidden_state, labels, num_items_in_batch, logits_to_keep
        )
        rest = {name: value for name, value in outputs.items() if name != "last_hidden_state"}
        return Seq2SeqLMOutput(loss=loss, logits=logits, **rest)

    def _predict(self, hidden_states, labels, num_items_in_batch, logits_to_keep):
        smoothing, chunk_size = self.config.label_smoothing, self.config.loss_chunk_size
        if labels is not None and self.training and chunk_size and not is_traced():
            rows, bias = (
                hidden_states[labels != IGNORED],
                self.final_logits_bias[0],
            )  # (labelled, E), (V,)
            output = (self.lm_head.weight, bias, num_items_in_batch, chunk_size, smoothing)
            return vocabulary_loss(rows, labels[labels != IGNORED], *output), None
        if labels is None:
            kept = (
                slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            )
            hidden_states = hidden_states[:, kept]
        logits = self.lm_head(hidden_states) + self.final_logits_bias  # (B, T, V)
        return None if labels is None else cross_entropy(
            logits, labels, num_items_in_batch, smoothing
        ), logits


for _auto_class, _path in TransformerLitePreTrainedModel.auto_map.items():
    globals()[_path.split(".")[1]].register_for_auto_class(_auto_class)
