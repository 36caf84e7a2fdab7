"""ELECTRA (Clark et al. 2020, https://arxiv.org/abs/2003.10555): BERT without a pooler, whose
embeddings may be narrower than its layers; a generator of words and a discriminator of them.
"""

from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers.models.electra import configuration_electra as original
from transformers.models.electra import modeling_electra as their

from .family_configuration import FamilyConfig, NarrowConfig
from .family_heads import FamilyModel, FirstVectorClassification, rows_of
from .inputs import IGNORED, TextBatch
from .losses import Count, replaced_loss
from .modeling_bertlite import (
    BertLiteForMaskedLM,
    BertLiteForMultipleChoice,
    BertLiteForQuestionAnswering,
    BertLiteForTokenClassification,
    BertLiteModel,
    BertLitePreTrainedModel,
)


@strict
class ElectraConfig(original.ElectraConfig, NarrowConfig, FamilyConfig):
    """Configuration of an ELECTRA."""

    def _check_choices(self) -> None:
        super()._check_choices()
        if self.summary_type != "first":
            self._refuse("summary_type", self.summary_type, "'first'")


class ElectraPreTrainedModel(FamilyModel, BertLitePreTrainedModel):
    """Base of the family."""

    config: ElectraConfig  # type: ignore[assignment]
    base_model_prefix = "electra"
    pooler_class = None


class ElectraModel(ElectraPreTrainedModel, BertLiteModel):
    """ELECTRA without a head."""

    def add_projection(self, config: Any) -> None:
        if config.embedding_size != config.hidden_size:
            self.embeddings_project = nn.Linear(config.embedding_size, config.hidden_size)

    def embed_batch(self, batch: TextBatch) -> torch.Tensor:
        vectors = super().embed_batch(batch)
        narrow = "embeddings_project" in self._modules
        return self.embeddings_project(vectors) if narrow else vectors


ElectraPreTrainedModel.base_class = ElectraModel


class ElectraForMaskedLM(ElectraPreTrainedModel, BertLiteForMaskedLM):
    """The generator."""

    _tied_weights_keys = {"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"}
    output_name = "generator_lm_head"

    def add_head(self, config: Any) -> None:
        self.generator_predictions = their.ElectraGeneratorPredictions(config)
        self.generator_lm_head = nn.Linear(config.embedding_size, config.vocab_size)

    def transform(self, vectors: torch.Tensor) -> torch.Tensor:
        return self.generator_predictions(vectors)


class ElectraForPreTraining(ElectraPreTrainedModel, BertLiteForTokenClassification):
    """The discriminator: was a token replaced?"""

    def add_head(self, config: Any) -> None:
        self.discriminator_predictions = their.ElectraDiscriminatorPredictions(config)

    def score(self, vectors: torch.Tensor) -> torch.Tensor:
        return self.discriminator_predictions(vectors)

    def token_loss(self, scores: torch.Tensor, labels: torch.Tensor, count: Count) -> torch.Tensor:
        return replaced_loss(scores, labels, count)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs,
    ) -> Any:
        """Scores `(B, T)`, above 0 where replaced; `labels` `(B, T)`, 1 there and else 0.

        Labels of padding do not count. The other arguments are those of `ElectraModel`.
        """
        if labels is not None and attention_mask is not None:
            labels = labels.masked_fill(attention_mask == 0, IGNORED)
        return super().forward(input_ids, attention_mask, labels=labels, **kwargs)


class ElectraForSequenceClassification(ElectraPreTrainedModel, FirstVectorClassification):
    """Classes or scores of a sequence, or of a pair."""

    head_activation = "gelu"


class ElectraForTokenClassification(ElectraPreTrainedModel, BertLiteForTokenClassification):
    """A class for each token."""


class ElectraForQuestionAnswering(ElectraPreTrainedModel, BertLiteForQuestionAnswering):
    """Where the answer begins and ends in the row."""


class ElectraForMultipleChoice(ElectraPreTrainedModel, BertLiteForMultipleChoice):
    """Scores of C choices."""

    reads_pooler = False

    def add_head(self, config: Any) -> None:
        self.sequence_summary = their.ElectraSequenceSummary(config)
        self.classifier = nn.Linear(config.hidden_size, 1)

    def score(self, outputs: Any, attention_mask: torch.Tensor | None) -> torch.Tensor:
        return self.classifier(self.sequence_summary(rows_of(outputs)))
