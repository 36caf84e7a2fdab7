"""The Transformer of 'Attention Is All You Need' (Vaswani et al. 2017).

For translation and summarisation, with Marian's tensor names: the heads, and the way in. The model
without a head stands in `transformer_base.py`.

Shapes: `B` batch, `S` source length, `T` target length, `M` labelled positions, `E` hidden size,
`V` vocabulary.
"""

import functools
from typing import Any

import torch
from torch import nn
from transformers import GenerationMixin
from transformers.modeling_outputs import (
    Seq2SeqLMOutput,
    Seq2SeqModelOutput,
    Seq2SeqQuestionAnsweringModelOutput,
    Seq2SeqSequenceClassifierOutput,
)
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple

from .configuration import TransformerLiteConfig
from .decoder import shifted_right
from .heads import BartClassificationHead, last_ends
from .inputs import IGNORED, check_labels, labelled_count, select, up_to_last
from .losses import Count, cross_entropy, problem_type, sequence_loss, span_loss
from .outputs import deferred
from .transformer_base import (
    TransformerEncoder,
    TransformerLiteModel,
    TransformerLitePreTrainedModel,
)

__all__ = [
    "TransformerEncoder",
    "TransformerLiteForConditionalGeneration",
    "TransformerLiteForQuestionAnswering",
    "TransformerLiteForSequenceClassification",
    "TransformerLiteModel",
    "TransformerLitePreTrainedModel",
]


def kept_positions(hidden_states: torch.Tensor, kept: int | torch.Tensor) -> torch.Tensor:
    """`(B, T, E)` at the last `kept` positions, at all for 0, or at those of a tensor."""
    return hidden_states[:, slice(-kept, None) if isinstance(kept, int) else kept]


class TransformerLiteForConditionalGeneration(TransformerLitePreTrainedModel, GenerationMixin):
    """The Transformer with its output layer, which shares the embedding's weight (section 3.4)."""

    _tied_weights_keys = {"lm_head.weight": "model.decoder.embed_tokens.weight"}

    def __init__(self, config: TransformerLiteConfig):
        super().__init__(config)
        self.model = TransformerLiteModel(config)
        if config.share_encoder_decoder_embeddings:
            self._tied_weights_keys = {
                "lm_head.weight": "model.shared.weight",
                "model.encoder.embed_tokens.weight": "model.shared.weight",
                "model.decoder.embed_tokens.weight": "model.shared.weight",
            }
        # Marian's, and that of most families.
        self.final_logits_bias = self.make_bias(torch.zeros(1, config.target_vocab_size))
        self.lm_head = nn.Linear(config.d_model, config.target_vocab_size, bias=False)
        self.post_init()

    def resize_token_embeddings(
        self,
        new_num_tokens: int | None = None,
        pad_to_multiple_of: int | None = None,
        mean_resizing: bool = True,
    ) -> nn.Module:
        """Of both sides where they share one vocabulary, else of the source alone, as in Marian."""
        arguments = (new_num_tokens, pad_to_multiple_of, mean_resizing)
        if not self.config.share_encoder_decoder_embeddings:
            return self.model.resize_token_embeddings(*arguments)
        return self.follow(super().resize_token_embeddings(*arguments))

    def resize_decoder_token_embeddings(self, new_num_tokens: int) -> nn.Module:
        """Of the target alone, with the output layer."""
        if self.config.share_encoder_decoder_embeddings:
            raise ValueError("source and target share one vocabulary: use resize_token_embeddings")
        source_size = self.config.vocab_size
        embeddings = self.model.decoder.resize_token_embeddings(new_num_tokens)
        self.config.vocab_size = source_size
        self.lm_head = self._get_resized_lm_head(self.lm_head, new_num_tokens)
        self.tie_weights()
        return self.follow(embeddings)

    def follow(self, embeddings: Any) -> nn.Module:
        """Give config and output bias the size of the target's embeddings."""
        size = embeddings.num_embeddings
        self.config.decoder_vocab_size = size
        if self.final_logits_bias is not None:
            missing = size - self.final_logits_bias.shape[1]
            bias = nn.functional.pad(self.final_logits_bias, (0, missing))
            self.final_logits_bias = self.make_bias(bias)
        return embeddings

    def make_bias(self, values: torch.Tensor) -> nn.Buffer | None:
        """The output layer's bias `(1, V)`; None where the family has none."""
        return nn.Buffer(values) if self.config.traits.has_logits_bias else None

    def generate(self, *args, **kwargs):
        """As the library's `generate`, which a backend's decoding loop enters by its own way in.

        The loop (`custom_generate`) writes the same tokens, and is left out where something is
        asked for that it does not do; `backend_report` says what.
        """
        # Positional arguments beyond inputs and config are rare, and a loop may not know them.
        backend = None
        if len(args) < 3 and "custom_generate" not in kwargs:
            arguments = {"generation_config": args[1], **kwargs} if len(args) == 2 else kwargs
            backend = self.take_backend("generate", arguments=arguments)
        if backend is not None:
            kwargs["custom_generate"] = backend.decoding_method()
        return super().generate(*args, **kwargs)

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """What the decoder reads to predict `labels` `(B, T)`: the start, then all but the last."""
        return shifted_right(self.config, labels)

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
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        num_items_in_batch: Count = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        zero_padding: bool | None = None,
        packed: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> Seq2SeqLMOutput:
        """Scores of the next token at each target position.

        Args:
            input_ids: as in `TransformerLiteModel`, and so are the others up to
                `decoder_inputs_embeds`, and `use_cache`.
            token_type_ids: as in `TransformerLiteModel`, and so are `position_ids`, `zero_padding`
                and `packed`.
            labels: `(B, T)`, what is to be written, not shifted, -100 where nothing is; the
                decoder's input is made from them where none is given.
            logits_to_keep: compute logits of the last so many positions only; 0: of all.
            num_items_in_batch: labels in all the pieces whose gradients are accumulated, which
                `Trainer` gives.
            kwargs: as in `TransformerLiteModel`.

        Returns:
            `logits` `(B, T, V)`, and `loss` where labels are given. In training with labels, only
            labelled positions meet the vocabulary, targets behind the last labelled one of their
            row are left out, and `logits` are computed when they are asked for, by a second pass
            with dropout masks of its own.

        Raises:
            ValueError: inputs or labels that do not fit.
        """
        read: torch.Tensor | None = None  # (B, T), True where the loss reads, if it alone is wanted
        if labels is not None:
            use_cache = False
            if decoder_input_ids is None and decoder_inputs_embeds is None:
                decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
            read = self.targets_read(labels, decoder_input_ids, **kwargs)
        needed = None if read is None else up_to_last(read)  # later targets are seen by nobody
        outputs = self.model(
            input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            encoder_outputs=encoder_outputs,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            # The decoder reads no padding of the source, and the output is made up below.
            zero_padding=True if read is not None and zero_padding is None else zero_padding,
            packed=packed,
            counted=() if read is None else (read, needed),
            target_mask=needed,
            return_dict=True,
            **kwargs,
        )
        hidden_states = outputs.last_hidden_state  # (B, T, E)
        if read is not None:
            count = labelled_count(kwargs.get("lengths"))
            loss = self.loss_of_labelled(hidden_states, labels, read, num_items_in_batch, count)

            @functools.cache
            def second_pass() -> Seq2SeqLMOutput:
                return self(
                    input_ids,
                    attention_mask=attention_mask,
                    decoder_input_ids=decoder_input_ids,
                    decoder_attention_mask=decoder_attention_mask,
                    encoder_outputs=encoder_outputs,
                    past_key_values=past_key_values,
                    inputs_embeds=inputs_embeds,
                    decoder_inputs_embeds=decoder_inputs_embeds,
                    use_cache=False,
                    token_type_ids=token_type_ids,
                    position_ids=position_ids,
                    packed=packed,
                    return_dict=True,
                    **kwargs,
                )

            fields: dict = {"logits": lambda: second_pass().logits}
            if encoder_outputs is None and zero_padding is None:
                name = "encoder_last_hidden_state"
                fields[name] = lambda: second_pass().encoder_last_hidden_state
            return self.make_output(outputs, fields, loss=loss)
        if labels is None:
            logits = self.score(kept_positions(hidden_states, logits_to_keep))
            return self.make_output(outputs, {}, logits=logits)
        logits = self.score(hidden_states)
        smoothing = self.config.label_smoothing
        loss = cross_entropy("labels", logits, labels, num_items_in_batch, smoothing)
        return self.make_output(outputs, {}, loss=loss, logits=logits)

    def targets_read(
        self, labels: torch.Tensor, decoder_input_ids: torch.Tensor | None, **kwargs
    ) -> torch.Tensor | None:
        """Which of the `(B, T)` targets the loss reads, where others may be left out.

        That is in training, unless somebody looks at more than the loss.

        Raises:
            ValueError: labels that do not fit.
        """
        if decoder_input_ids is not None:
            check_labels("labels", labels, tuple(decoder_input_ids.shape))
        if not self.training or self.config.loss_chunk_size == 0:
            return None
        return labels != IGNORED if self.skips_unread(**kwargs) else None

    def score(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(B, T, E)` to logits `(B, T, V)`."""
        logits = self.lm_head(hidden_states)
        return logits if self.final_logits_bias is None else logits + self.final_logits_bias

    def loss_of_labelled(
        self,
        hidden_states: torch.Tensor,
        labels: torch.Tensor | None,
        read: torch.Tensor | None,
        num_items_in_batch: Count,
        count: int | None,
    ) -> torch.Tensor:
        """The loss of the vectors that carry a label: at `read` `(B, T)`, `count` where known."""
        assert labels is not None
        assert read is not None
        if count is None:
            count = self.count_of(read)
        return self.vocabulary_loss(
            select(hidden_states, read, count),
            self.lm_head,
            select(labels, read, count),
            bias=None if self.final_logits_bias is None else self.final_logits_bias[0],
            num_items_in_batch=num_items_in_batch,
            label_smoothing=self.config.label_smoothing,
        )

    def make_output(self, outputs: Seq2SeqModelOutput, fields: dict, **known) -> Seq2SeqLMOutput:
        """The output: what is `known`, what `fields` compute on demand, the rest as it came."""
        names = (
            "past_key_values",
            "decoder_hidden_states",
            "decoder_attentions",
            "cross_attentions",
            "encoder_last_hidden_state",
            "encoder_hidden_states",
            "encoder_attentions",
        )
        rest = {name: outputs[name] for name in names if name in outputs and name not in fields}
        return deferred(Seq2SeqLMOutput, fields, **known, **rest)


class TransformerLiteForSequenceClassification(TransformerLitePreTrainedModel):
    """One or several classes a sequence, read from the decoder's vector at its last end token.

    The decoder reads the source, moved on by one (Lewis et al. 2019, section 3.1).
    """

    def __init__(self, config: TransformerLiteConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.model = TransformerLiteModel(config)
        self.classification_head = BartClassificationHead(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: Count = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> Seq2SeqSequenceClassifierOutput:
        """Scores `(B, L)`.

        Args:
            input_ids: `(B, S)`, with an end token in each row.
            attention_mask: as in `TransformerLiteModel`, and so are `decoder_input_ids`, by default
                the source moved on by one, and `kwargs`.
            labels: as in `sequence_loss`; classes `(B,)`, scores, or several classes `(B, L)`.
            num_items_in_batch: labelled rows in all the pieces whose gradients are accumulated.

        Raises:
            ValueError: a row without an end token, or labels that do not fit.
        """
        if input_ids is None:
            raise ValueError("input_ids must be given: their end tokens say what is read")
        outputs = read_source(self, input_ids, attention_mask, decoder_input_ids, **kwargs)
        last = last_ends(input_ids, self.config.eos_token_id)  # (B,)
        rows = torch.arange(len(input_ids), device=last.device)
        hidden_states: Any = outputs.last_hidden_state  # (B, S, E)
        logits = self.classification_head(hidden_states[rows, last])  # (B, L)
        loss = None
        if labels is not None:
            kind = problem_type(self.config, labels)
            loss = sequence_loss(kind, logits, labels, num_items_in_batch)
        return Seq2SeqSequenceClassifierOutput(loss=loss, logits=logits, **all_but_last(outputs))


class TransformerLiteForQuestionAnswering(TransformerLitePreTrainedModel):
    """Where the answer begins and ends in the row, which encoder and decoder both read."""

    def __init__(self, config: TransformerLiteConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.model = TransformerLiteModel(config)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        start_positions: torch.Tensor | None = None,
        end_positions: torch.Tensor | None = None,
        num_items_in_batch: Count = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> Seq2SeqQuestionAnsweringModelOutput:
        """Scores `(B, S)` of the answer's start and of its end.

        The labels are `start_positions` and `end_positions`, `(B,)` each, as in `span_loss`, and
        the other arguments as in `TransformerLiteForSequenceClassification`.
        """
        outputs = read_source(self, input_ids, attention_mask, decoder_input_ids, **kwargs)
        logits = self.qa_outputs(outputs.last_hidden_state)  # (B, S, 2)
        start_logits, end_logits = (each.contiguous() for each in logits.unbind(-1))  # (B, S)
        loss = None
        if start_positions is not None and end_positions is not None:
            positions = (start_positions, end_positions)
            loss = span_loss(
                start_logits, end_logits, *positions, attention_mask, num_items_in_batch
            )
        return Seq2SeqQuestionAnsweringModelOutput(
            loss=loss, start_logits=start_logits, end_logits=end_logits, **all_but_last(outputs)
        )


def read_source(
    model: Any,
    input_ids: torch.Tensor | None,
    attention_mask: torch.Tensor | None,
    decoder_input_ids: torch.Tensor | None,
    **kwargs,
) -> Seq2SeqModelOutput:
    """Encode the source, and decode it moved on by one where nothing else is given."""
    if decoder_input_ids is None and input_ids is not None:
        decoder_input_ids = shifted_right(model.config, input_ids)
    kwargs["return_dict"] = True
    return model.model(input_ids, attention_mask, decoder_input_ids, **kwargs)


def all_but_last(outputs: Seq2SeqModelOutput) -> dict[str, Any]:
    """What a head passes on of the model's output."""
    return {name: value for name, value in outputs.items() if name != "last_hidden_state"}
