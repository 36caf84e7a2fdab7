"""BERT and its heads (Devlin et al. 2018) on the shared encoder: the way in.

The model without a head stands in `bert_base.py`, those with a vocabulary in `bert_vocabulary.py`.

Each head's `forward` is written out: run BERT, compute logits, compute the loss. In training with
labels most of the logits are read by nobody; `positions` then names the vectors that the loss
reads, a backend leaves out the others, and the output computes `logits` if somebody asks for them.

Shapes: `B` batch, `T` length, `C` choices, `M` vectors that are read, `E` hidden size, `V`
vocabulary, `L` labels.
"""

import functools
from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import (
    BaseModelOutputWithPooling,
    MultipleChoiceModelOutput,
    NextSentencePredictorOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple

from .bert_base import BertLiteModel, BertLitePreTrainedModel
from .bert_vocabulary import BertLiteForMaskedLM, BertLiteForPreTraining, VocabularyModel
from .configuration import BertLiteConfig
from .heads import BertNextSentenceHead, head_dropout
from .inputs import labelled_count, select
from .losses import Count, cross_entropy, problem_type, sequence_loss, span_loss
from .outputs import deferred

__all__ = [
    "BertLiteForMaskedLM",
    "BertLiteForMultipleChoice",
    "BertLiteForNextSentencePrediction",
    "BertLiteForPreTraining",
    "BertLiteForQuestionAnswering",
    "BertLiteForSequenceClassification",
    "BertLiteForTokenClassification",
    "BertLiteModel",
    "BertLitePreTrainedModel",
    "VocabularyModel",
]


class BertLiteForNextSentencePrediction(BertLitePreTrainedModel):
    """Does sentence B follow sentence A?"""

    def __init__(self, config: BertLiteConfig):
        super().__init__(config)
        self.add_base(config, add_pooling_layer=True)
        self.cls = BertNextSentenceHead(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: Count = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> NextSentencePredictorOutput:
        """Scores `(B, 2)`; `labels` `(B,)`: 0 it follows, 1 it is a random one.

        The other arguments are those of `BertLiteModel`; `num_items_in_batch`: labelled rows in all
        the pieces whose gradients are accumulated.
        """
        first = self.first_vectors(input_ids, inputs_embeds, **kwargs)
        outputs = self.base_model(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            positions=first,
            num_positions=None if first is None else len(first),
            return_dict=True,
            **kwargs,
        )
        scores = self.cls(outputs.pooler_output)  # (B, 2)
        loss: torch.Tensor | None = None
        if labels is not None:
            loss = cross_entropy("labels", scores, labels, num_items_in_batch)
        return NextSentencePredictorOutput(
            loss=loss,
            logits=scores,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class BertLiteForSequenceClassification(BertLitePreTrainedModel):
    """Classes or scores of a sequence, or of a pair."""

    classifier: Any
    reads_pooler = True  # else the first vector of each row

    def __init__(self, config: BertLiteConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.add_base(config, add_pooling_layer=self.reads_pooler, reads_first=True)
        self.add_head(config)
        self.post_init()

    def add_head(self, config: BertLiteConfig) -> None:
        """As of `BertLiteForMaskedLM`."""
        self.dropout = head_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels or 2)

    def score(
        self, outputs: BaseModelOutputWithPooling, attention_mask: torch.Tensor | None
    ) -> torch.Tensor:
        """What the base gives to `(B, L)`."""
        return self.classifier(self.dropout(outputs.pooler_output))

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: Count = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SequenceClassifierOutput:
        """Scores `(B, L)`; `labels` as in `sequence_loss`, by `config.problem_type`.

        The other arguments are those of `BertLiteModel`; `num_items_in_batch`: labelled rows in all
        the pieces whose gradients are accumulated.
        """
        first = self.first_vectors(input_ids, inputs_embeds, **kwargs)
        outputs = self.base_model(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            positions=first,
            num_positions=None if first is None else len(first),
            return_dict=True,
            **kwargs,
        )
        logits = self.score(outputs, attention_mask)  # (B, L)
        loss: torch.Tensor | None = None
        if labels is not None:
            kind = problem_type(self.config, labels)
            loss = sequence_loss(kind, logits, labels, num_items_in_batch)
            self.config.problem_type = kind  # as in transformers: the first labels decide
        return SequenceClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class BertLiteForTokenClassification(BertLitePreTrainedModel):
    """A class for each token."""

    def __init__(self, config: BertLiteConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.add_base(config, add_pooling_layer=False)
        self.add_head(config)
        self.post_init()

    def add_head(self, config: BertLiteConfig) -> None:
        """As of `BertLiteForMaskedLM`."""
        self.dropout = head_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels or 2)

    def score(self, vectors: torch.Tensor) -> torch.Tensor:
        """`(..., E)` to `(..., L)`."""
        return self.classifier(self.dropout(vectors))

    def token_loss(self, scores: torch.Tensor, labels: torch.Tensor, count: Count) -> torch.Tensor:
        """Of `(..., L)` against `(...)`; `count` is `num_items_in_batch`."""
        return cross_entropy("labels", scores, labels, count)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: Count = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> TokenClassifierOutput:
        """Scores `(B, T, L)`; `labels` `(B, T)`, -100 for tokens without one.

        In training with labels, only labelled tokens meet the classifier, and `logits` are computed
        when they are asked for, by a second pass with dropout masks of its own. The other arguments
        are those of `BertLiteModel`; `num_items_in_batch`: labelled tokens in all the pieces whose
        gradients are accumulated.
        """
        read = self.vectors_read(labels, input_ids, inputs_embeds, **kwargs)
        outputs = self.base_model(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            positions=read,
            num_positions=labelled_count(kwargs.get("lengths")),
            return_dict=True,
            **kwargs,
        )
        scores = self.score(outputs.last_hidden_state)  # (B, T, L) or (M, L)
        if read is not None:
            targets = select(labels, read, len(scores))
            token_loss = self.token_loss(scores, targets, num_items_in_batch)

            def logits() -> torch.Tensor:
                return self(
                    input_ids,
                    attention_mask=attention_mask,
                    token_type_ids=token_type_ids,
                    position_ids=position_ids,
                    inputs_embeds=inputs_embeds,
                    return_dict=True,
                    **kwargs,
                ).logits

            return deferred(TokenClassifierOutput, {"logits": logits}, loss=token_loss)
        loss: torch.Tensor | None = None
        if labels is not None:
            loss = self.token_loss(scores, labels, num_items_in_batch)
        return TokenClassifierOutput(
            loss=loss,
            logits=scores,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class BertLiteForQuestionAnswering(BertLitePreTrainedModel):
    """Where the answer begins and ends in the row."""

    def __init__(self, config: BertLiteConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.add_base(config, add_pooling_layer=False)
        self.add_head(config)
        self.post_init()

    def add_head(self, config: BertLiteConfig) -> None:
        """As of `BertLiteForMaskedLM`."""
        self.qa_outputs = nn.Linear(config.hidden_size, 2)

    def score(self, vectors: torch.Tensor) -> torch.Tensor:
        """`(B, T, E)` to `(B, T, 2)`."""
        return self.qa_outputs(vectors)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        start_positions: torch.Tensor | None = None,
        end_positions: torch.Tensor | None = None,
        num_items_in_batch: Count = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> QuestionAnsweringModelOutput:
        """Scores `(B, T)` of the answer's start and of its end.

        The labels are `start_positions` and `end_positions`, `(B,)` each, as in `span_loss`; the
        loss is given where both are. The other arguments are those of `BertLiteModel`;
        `num_items_in_batch`: labelled rows in all the pieces whose gradients are accumulated.
        """
        has_labels = start_positions is not None and end_positions is not None
        # The loss leaves padding out.
        masks_padding = attention_mask is not None and attention_mask.ndim == 2
        leaves_out = has_labels and self.training and masks_padding and self.skips_unread(**kwargs)
        outputs = self.base_model(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            zero_padding=leaves_out or None,
            return_dict=True,
            **kwargs,
        )
        logits = self.score(outputs.last_hidden_state)  # (B, T, 2)
        start_logits, end_logits = (each.contiguous() for each in logits.unbind(-1))  # (B, T)
        loss = None
        if has_labels:
            loss = span_loss(
                start_logits,
                end_logits,
                start_positions,  # type: ignore[arg-type]
                end_positions,  # type: ignore[arg-type]
                attention_mask,
                num_items_in_batch,
            )
        if leaves_out:

            @functools.cache
            def second_pass() -> QuestionAnsweringModelOutput:
                return self(
                    input_ids,
                    attention_mask=attention_mask,
                    token_type_ids=token_type_ids,
                    position_ids=position_ids,
                    inputs_embeds=inputs_embeds,
                    return_dict=True,
                    **kwargs,
                )

            fields = {
                "start_logits": lambda: second_pass().start_logits,
                "end_logits": lambda: second_pass().end_logits,
            }
            return deferred(QuestionAnsweringModelOutput, fields, loss=loss)
        return QuestionAnsweringModelOutput(
            loss=loss,
            start_logits=start_logits,
            end_logits=end_logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class BertLiteForMultipleChoice(BertLitePreTrainedModel):
    """Scores of C choices, which are encoded as rows of their own."""

    reads_pooler = True  # else the first vector of each row

    def __init__(self, config: BertLiteConfig):
        super().__init__(config)
        self.add_base(config, add_pooling_layer=self.reads_pooler, reads_first=True)
        self.add_head(config)
        self.post_init()

    def add_head(self, config: BertLiteConfig) -> None:
        """As of `BertLiteForMaskedLM`."""
        self.dropout = head_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, 1)

    def score(
        self, outputs: BaseModelOutputWithPooling, attention_mask: torch.Tensor | None
    ) -> torch.Tensor:
        """What the base gives to `(B * C, 1)`."""
        return self.classifier(self.dropout(outputs.pooler_output))

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: Count = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> MultipleChoiceModelOutput:
        """Scores `(B, C)` of inputs `(B, C, T)`; `labels` `(B,)` in `[0, C)`.

        The other arguments are those of `BertLiteModel` with C after B; `num_items_in_batch`:
        labelled rows in all the pieces whose gradients are accumulated.

        Raises:
            ValueError: inputs that are not `(B, C, T)`, or that do not fit.
        """
        choices = count_choices(input_ids, inputs_embeds)
        input_ids, inputs_embeds = join_choices(input_ids), join_choices(inputs_embeds)
        attention_mask = join_choices(attention_mask)
        first = self.first_vectors(input_ids, inputs_embeds, **kwargs)
        outputs = self.base_model(
            input_ids,
            attention_mask=attention_mask,
            token_type_ids=join_choices(token_type_ids),
            position_ids=join_choices(position_ids),
            inputs_embeds=inputs_embeds,
            positions=first,
            num_positions=None if first is None else len(first),
            return_dict=True,
            **kwargs,
        )
        scores = self.score(outputs, attention_mask).view(-1, choices)  # (B, C)
        loss: torch.Tensor | None = None
        if labels is not None:
            loss = cross_entropy("labels", scores, labels, num_items_in_batch)
        return MultipleChoiceModelOutput(
            loss=loss,
            logits=scores,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def count_choices(input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None) -> int:
    """C of inputs `(B, C, T)`; a ValueError where they are not."""
    given, sides = (input_ids, 3) if inputs_embeds is None else (inputs_embeds, 4)
    if given is None or given.ndim != sides or 0 in given.shape:
        came = None if given is None else tuple(given.shape)
        raise ValueError(
            f"input_ids must have shape (batch, choices, length) with no empty side, got {came}"
        )
    return given.shape[1]


def join_choices(tensor: torch.Tensor | None) -> torch.Tensor | None:
    """`(B, C, ...)` to `(B * C, ...)`."""
    return None if tensor is None else tensor.flatten(0, 1)
