"""DistilBERT (Sanh et al. 2019, https://arxiv.org/abs/1910.01108): BERT of half the layers, without
segments and pooler.
"""

from typing import Any, ClassVar

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers.activations import ACT2FN
from transformers.models.distilbert import configuration_distilbert as original

from .encoder import BertEncoder
from .family_configuration import FamilyConfig
from .family_heads import FamilyModel, first_vectors
from .modeling_bertlite import (
    BertLiteForMaskedLM,
    BertLiteForMultipleChoice,
    BertLiteForQuestionAnswering,
    BertLiteForSequenceClassification,
    BertLiteForTokenClassification,
    BertLiteModel,
    BertLitePreTrainedModel,
)
from .names import DISTILBERT_ATTENTION, DISTILBERT_LAYER


@strict
class DistilBertConfig(original.DistilBertConfig, FamilyConfig):
    """Configuration of a DistilBERT."""

    layer_norm_eps: ClassVar[float] = 1e-12
    attribute_map = {
        **original.DistilBertConfig.attribute_map,
        "intermediate_size": "hidden_dim",
        "hidden_act": "activation",
        "hidden_dropout_prob": "dropout",
        "attention_probs_dropout_prob": "attention_dropout",
    }


class Transformer(BertEncoder):
    """DistilBERT's `transformer`."""

    layer_names, attention_names = DISTILBERT_LAYER, DISTILBERT_ATTENTION


class DistilBertPreTrainedModel(FamilyModel, BertLitePreTrainedModel):
    """Base of the family."""

    config: DistilBertConfig  # type: ignore[assignment]
    base_model_prefix = "distilbert"
    encoder_class, encoder_name, pooler_class = Transformer, "transformer", None


class DistilBertModel(DistilBertPreTrainedModel, BertLiteModel):
    """DistilBERT without a head."""


DistilBertPreTrainedModel.base_class = DistilBertModel


class DistilBertForMaskedLM(DistilBertPreTrainedModel, BertLiteForMaskedLM):
    """Masked language model."""

    _tied_weights_keys = {"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"}
    output_name = "vocab_projector"

    def add_head(self, config: Any) -> None:
        self.activation = ACT2FN[config.activation]
        self.vocab_transform = nn.Linear(config.dim, config.dim)
        self.vocab_layer_norm = nn.LayerNorm(config.dim, config.layer_norm_eps)
        self.vocab_projector = nn.Linear(config.dim, config.vocab_size)

    def transform(self, vectors: torch.Tensor) -> torch.Tensor:
        return self.vocab_layer_norm(self.activation(self.vocab_transform(vectors)))


class PreClassifier:
    """What two heads share: first vector, dense, ReLU, dropout, linear."""

    reads_pooler = False

    def add_head(self: Any, config: Any) -> None:
        count = 1 if isinstance(self, BertLiteForMultipleChoice) else config.num_labels
        self.pre_classifier = nn.Linear(config.dim, config.dim)
        self.dropout = nn.Dropout(config.seq_classif_dropout)
        self.classifier = nn.Linear(config.dim, count)

    def score(self: Any, outputs: Any, attention_mask: torch.Tensor | None) -> torch.Tensor:
        first = self.pre_classifier(first_vectors(outputs))
        return self.classifier(self.dropout(first.relu()))


class DistilBertForSequenceClassification(
    DistilBertPreTrainedModel, PreClassifier, BertLiteForSequenceClassification
):
    """Classes or scores of a sequence, or of a pair."""


class DistilBertForMultipleChoice(
    DistilBertPreTrainedModel, PreClassifier, BertLiteForMultipleChoice
):
    """Scores of C choices."""


class DistilBertForTokenClassification(DistilBertPreTrainedModel, BertLiteForTokenClassification):
    """A class for each token."""


class DistilBertForQuestionAnswering(DistilBertPreTrainedModel, BertLiteForQuestionAnswering):
    """Where the answer begins and ends in the row."""

    def add_head(self, config: Any) -> None:
        super().add_head(config)
        self.dropout = nn.Dropout(config.qa_dropout)

    def score(self, vectors: torch.Tensor) -> torch.Tensor:
        return super().score(self.dropout(vectors))
