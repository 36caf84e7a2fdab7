"""ALBERT (Lan et al. 2020, https://arxiv.org/abs/1909.11942): BERT with narrow embeddings, whose
layers share their weights.

Deviation: `attention` is the attention alone, where transformers' module adds and normalises too;
a hook on it sees the heads' vectors.
"""

from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers.models.albert import configuration_albert as original
from transformers.models.albert import modeling_albert as their
from transformers.utils import can_return_tuple

from .encoder import BertEncoder
from .family_configuration import FamilyConfig, NarrowConfig
from .family_heads import FamilyModel
from .inputs import TextBatch
from .modeling_bertlite import (
    BertLiteForMaskedLM,
    BertLiteForMultipleChoice,
    BertLiteForPreTraining,
    BertLiteForQuestionAnswering,
    BertLiteForSequenceClassification,
    BertLiteForTokenClassification,
    BertLiteModel,
    BertLitePreTrainedModel,
)
from .names import ALBERT_ATTENTION, ALBERT_LAYER
from .outputs import deferred


@strict
class AlbertConfig(original.AlbertConfig, NarrowConfig, FamilyConfig):
    """Configuration of an ALBERT."""

    attribute_map = {"classifier_dropout": "classifier_dropout_prob"}


class AlbertTransformer(BertEncoder):
    """ALBERT's `encoder`: groups of layers, each group several times in turn."""

    layer_names, attention_names = ALBERT_LAYER, ALBERT_ATTENTION

    def __init__(self, config: AlbertConfig):
        nn.Module.__init__(self)
        self.count, groups = config.num_hidden_layers, range(config.num_hidden_groups)
        size = config.embedding_size
        self.embedding_hidden_mapping_in = nn.Linear(size, config.hidden_size)
        self.albert_layer_groups = nn.ModuleList(nn.Module() for _ in groups)
        for group in self.albert_layer_groups:
            inner = range(config.inner_group_num)
            group.albert_layers = nn.ModuleList(self.make_layer(config, i) for i in inner)

    @property
    def layers(self) -> nn.ModuleList:  # type: ignore[override]
        """The layers in the order of their work, those of a group several times."""
        groups, count = self.albert_layer_groups, self.count
        turns: Any = (groups[int(turn / (count / len(groups)))] for turn in range(count))
        found = [layer for group in turns for layer in group.albert_layers]
        kept = self.__dict__.get("in_order")  # no child: a layer has one name
        if kept is None or list(kept) != found:
            kept = self.__dict__["in_order"] = nn.ModuleList(found)
        return kept


class AlbertPreTrainedModel(FamilyModel, BertLitePreTrainedModel):
    """Base of the family."""

    config: AlbertConfig  # type: ignore[assignment]
    base_model_prefix = "albert"
    encoder_class, pooler_class = AlbertTransformer, nn.Linear


class AlbertModel(AlbertPreTrainedModel, BertLiteModel):
    """ALBERT without a head."""

    def make_pooler(self, config: Any) -> nn.Module:
        self.pooler_activation = nn.Tanh()
        return nn.Linear(config.hidden_size, config.hidden_size)

    def pool(self, vectors: torch.Tensor) -> torch.Tensor:
        return self.pooler_activation(self.pooler(vectors[:, 0]))

    def embed_batch(self, batch: TextBatch) -> torch.Tensor:
        return self.encoder.embedding_hidden_mapping_in(super().embed_batch(batch))


AlbertPreTrainedModel.base_class = AlbertModel


class WordHead:
    """What the two models with a vocabulary share."""

    predictions: Any
    _tied_weights_keys = {
        "predictions.decoder.weight": "albert.embeddings.word_embeddings.weight",
        "predictions.decoder.bias": "predictions.bias",
    }
    output_name = "predictions.decoder"

    def add_head(self, config: Any) -> None:
        self.predictions = their.AlbertMLMHead(config)

    def transform(self, vectors: torch.Tensor) -> torch.Tensor:
        head = self.predictions
        return head.LayerNorm(head.activation(head.dense(vectors)))


class AlbertForMaskedLM(WordHead, AlbertPreTrainedModel, BertLiteForMaskedLM):
    """Masked language model."""

    def score(self, vectors: torch.Tensor) -> torch.Tensor:
        return self.predictions(vectors)


class AlbertForPreTraining(WordHead, AlbertPreTrainedModel, BertLiteForPreTraining):
    """Masked words, and the order of two sentences."""

    def add_head(self, config: Any) -> None:
        super().add_head(config)
        self.sop_classifier = their.AlbertSOPHead(config)

    def score(
        self, vectors: torch.Tensor, pooled: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self.predictions(vectors), self.relate(pooled)

    def relate(self, pooled: torch.Tensor) -> torch.Tensor:
        return self.sop_classifier(pooled)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        sentence_order_label: torch.Tensor | None = None,
        **kwargs,
    ) -> their.AlbertForPreTrainingOutput:
        """As of `BertLiteForPreTraining`; `sentence_order_label` `(B,)`: 1 where they are swapped.

        Deviation: the loss is of whichever labels are given, where theirs wants both.
        """
        made = super().forward(
            input_ids,
            attention_mask,
            labels=labels,
            next_sentence_label=sentence_order_label,
            **{**kwargs, "return_dict": True},
        )
        known = {"loss": made.loss, "sop_logits": made.seq_relationship_logits}
        known |= {"hidden_states": made.hidden_states, "attentions": made.attentions}
        return deferred(
            their.AlbertForPreTrainingOutput,
            {"prediction_logits": lambda: made.prediction_logits},
            **known,
        )


class AlbertForSequenceClassification(AlbertPreTrainedModel, BertLiteForSequenceClassification):
    """Classes or scores of a sequence, or of a pair."""


class AlbertForTokenClassification(AlbertPreTrainedModel, BertLiteForTokenClassification):
    """A class for each token."""


class AlbertForQuestionAnswering(AlbertPreTrainedModel, BertLiteForQuestionAnswering):
    """Where the answer begins and ends in the row."""


class AlbertForMultipleChoice(AlbertPreTrainedModel, BertLiteForMultipleChoice):
    """Scores of C choices."""
