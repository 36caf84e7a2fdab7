"""BERT with a vocabulary: masked LM, alone and with next-sentence prediction.

In training with labels most of the logits are read by nobody; `positions` then names the vectors
that the loss reads, a backend leaves out the others, and the output computes `logits` if somebody
asks for them.

Shapes: `B` batch, `T` length, `M` vectors that are read, `E` hidden size, `V` vocabulary.
"""

from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.modeling_outputs import MaskedLMOutput
from transformers.models.bert.modeling_bert import BertForPreTrainingOutput
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs, can_return_tuple

from .bert_base import BertLitePreTrainedModel
from .configuration import BertLiteConfig
from .heads import BertMaskedLMHead, BertPreTrainingHeads
from .inputs import IGNORED, labelled_count, select
from .losses import Count, cross_entropy
from .outputs import deferred


class VocabularyModel(BertLitePreTrainedModel):
    """What the two models with a vocabulary head share: the tie of its weight, and its loss."""

    cls: Any
    output_name = "cls.predictions.decoder"  # of the layer that gives the scores
    _tied_weights_keys = {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if "decoder" in module._modules and "bias" in module._parameters:  # a head, in any family
            init.zeros_(module.get_parameter("bias"))

    def get_output_embeddings(self) -> nn.Module:
        return self.get_submodule(self.output_name)

    def set_output_embeddings(self, value: nn.Linear) -> None:
        above, _, name = self.output_name.rpartition(".")
        parent = self.get_submodule(above)
        setattr(parent, name, value)
        if "bias" in parent._parameters:
            parent.bias = value.bias

    def transform(self, vectors: torch.Tensor) -> torch.Tensor:
        """What comes before the vocabulary: `(M, E)` to `(M, E)`."""
        return self.cls.predictions.transform(vectors)

    def score_transformed(self, vectors: torch.Tensor) -> torch.Tensor:
        """`(..., E)` to `(..., V)`, where the head is no module."""
        return self.get_output_embeddings()(self.transform(vectors))

    def loss_of_read(
        self, vectors: torch.Tensor, labels: torch.Tensor, num_items_in_batch: Count
    ) -> torch.Tensor:
        """Masked-LM loss of the vectors `(M, E)` that carry a label `(M,)`."""
        return self.vocabulary_loss(
            self.transform(vectors),
            self.get_output_embeddings(),
            labels,
            num_items_in_batch=num_items_in_batch,
        )


class BertLiteForMaskedLM(VocabularyModel):
    """Masked language model."""

    def __init__(self, config: BertLiteConfig):
        super().__init__(config)
        self.add_base(config, add_pooling_layer=False)
        self.add_head(config)
        self.post_init()

    def add_head(self, config: BertLiteConfig) -> None:
        """What stands on the base; a family may have another, and its `score` goes with it."""
        self.cls = BertMaskedLMHead(config)

    def score(self, vectors: torch.Tensor) -> torch.Tensor:
        """`(B, T, E)` to `(B, T, V)`."""
        return self.cls(vectors) if "cls" in self._modules else self.score_transformed(vectors)

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
    ) -> MaskedLMOutput:
        """Scores of the words at each position.

        Args:
            input_ids: as in `BertLiteModel`, and so are the next four.
            attention_mask: `(B, T)`.
            token_type_ids: `(B, T)`.
            position_ids: `(B, T)`.
            inputs_embeds: `(B, T, E)`.
            labels: `(B, T)`, the words that are masked, -100 where nothing is predicted.
            num_items_in_batch: labels in all the pieces whose gradients are accumulated, which
                `Trainer` gives.
            kwargs: as in `BertLiteModel`.

        Returns:
            `logits` `(B, T, V)`, and `loss` where labels are given. In training with labels, only
            labelled positions meet the vocabulary, and `logits` are computed when they are asked
            for, by a second pass with dropout masks of its own.

        Raises:
            ValueError: inputs or labels that do not fit.
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
        if read is not None:
            vectors = outputs.last_hidden_state  # (M, E)
            targets = select(labels, read, len(vectors))
            word_loss = self.loss_of_read(vectors, targets, num_items_in_batch)

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

            return deferred(MaskedLMOutput, {"logits": logits}, loss=word_loss)
        prediction_scores = self.score(outputs.last_hidden_state)  # (B, T, V)
        loss: torch.Tensor | None = None
        if labels is not None:
            loss = cross_entropy("labels", prediction_scores, labels, num_items_in_batch)
        return MaskedLMOutput(
            loss=loss,
            logits=prediction_scores,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class BertLiteForPreTraining(VocabularyModel):
    """Both pretraining tasks (section 3.1): the loss is the sum of their means."""

    def __init__(self, config: BertLiteConfig):
        super().__init__(config)
        self.add_base(config, add_pooling_layer=True)
        self.add_head(config)
        self.post_init()

    def add_head(self, config: BertLiteConfig) -> None:
        """As of `BertLiteForMaskedLM`."""
        self.cls = BertPreTrainingHeads(config)

    def score(
        self, vectors: torch.Tensor, pooled: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`(B, T, E)` and `(B, E)` to `(B, T, V)` and `(B, 2)`."""
        return self.cls(vectors, pooled)

    def relate(self, pooled: torch.Tensor) -> torch.Tensor:
        """`(B, E)` to `(B, 2)`."""
        return self.cls.seq_relationship(pooled)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        next_sentence_label: torch.Tensor | None = None,
        num_items_in_batch: Count = None,
        num_sequences_in_batch: Count = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BertForPreTrainingOutput:
        """Scores of the words at each position, and of the second sentence following the first.

        Args:
            input_ids: as in `BertLiteModel`, and so are the next four.
            attention_mask: `(B, T)`.
            token_type_ids: `(B, T)`.
            position_ids: `(B, T)`.
            inputs_embeds: `(B, T, E)`.
            labels: `(B, T)`, as for masked LM.
            next_sentence_label: `(B,)`: 0 it follows, 1 it is a random one.
            num_items_in_batch: as for masked LM.
            num_sequences_in_batch: sentence pairs in all the accumulated pieces. `Trainer` counts
                masked words only: without this, a piece weighs by its share of them, which is exact
                where every row has as many.
            kwargs: as in `BertLiteModel`.

        Returns:
            `prediction_logits` `(B, T, V)`, `seq_relationship_logits` `(B, 2)`, and `loss` of
            whichever labels are given; `prediction_logits` as `logits` of `BertLiteForMaskedLM`.

        Raises:
            ValueError: inputs or labels that do not fit.
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
        if read is None:
            scores, relationship = self.score(outputs.last_hidden_state, outputs.pooler_output)
        else:
            relationship = self.relate(outputs.pooler_output)  # (B, 2)
        loss: torch.Tensor | None = None
        if next_sentence_label is not None:
            count = num_sequences_in_batch
            if count is None and num_items_in_batch is not None and labels is not None:
                count = sequences_by_share(labels, next_sentence_label, num_items_in_batch)
            loss = cross_entropy("next_sentence_label", relationship, next_sentence_label, count)
        if read is not None:
            vectors = outputs.last_hidden_state  # (M, E)
            targets = select(labels, read, len(vectors))
            word_loss = self.loss_of_read(vectors, targets, num_items_in_batch)

            def prediction_logits() -> torch.Tensor:
                return self(
                    input_ids,
                    attention_mask=attention_mask,
                    token_type_ids=token_type_ids,
                    position_ids=position_ids,
                    inputs_embeds=inputs_embeds,
                    return_dict=True,
                    **kwargs,
                ).prediction_logits

            return deferred(
                BertForPreTrainingOutput,
                {"prediction_logits": prediction_logits},
                loss=word_loss if loss is None else word_loss + loss,
                seq_relationship_logits=relationship,
            )
        if labels is not None:
            word_loss = cross_entropy("labels", scores, labels, num_items_in_batch)
            loss = word_loss if loss is None else word_loss + loss
        return BertForPreTrainingOutput(
            loss=loss,
            prediction_logits=scores,
            seq_relationship_logits=relationship,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def sequences_by_share(
    labels: torch.Tensor, next_sentence_label: torch.Tensor, num_items_in_batch: Count
) -> torch.Tensor:
    """Sentence pairs of the full batch, as the words of this piece are a share of all words."""
    all_words = torch.as_tensor(num_items_in_batch, device=labels.device).clamp(min=1)
    share = (labels != IGNORED).sum() / all_words
    return (next_sentence_label != IGNORED).sum() / share.clamp(min=1e-9)
