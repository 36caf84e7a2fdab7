"""RoBERTa (Liu et al. 2019, https://arxiv.org/abs/1907.11692): BERT whose positions begin after
the number of the padding id.
"""

from huggingface_hub.dataclasses import strict
from transformers.models.roberta import configuration_roberta as original

from .embeddings import ROBERTA_EMBEDDINGS, BertEmbeddings
from .family_configuration import FamilyConfig
from .family_heads import FamilyModel, FirstVectorClassification, LMHeadForMaskedLM
from .modeling_bertlite import (
    BertLiteForMultipleChoice,
    BertLiteForQuestionAnswering,
    BertLiteForTokenClassification,
    BertLiteModel,
    BertLitePreTrainedModel,
)


@strict
class RobertaConfig(original.RobertaConfig, FamilyConfig):
    """Configuration of a RoBERTa."""

    positions_after_padding = True


class RobertaEmbeddings(BertEmbeddings):
    """RoBERTa's `embeddings`."""

    part_names = ROBERTA_EMBEDDINGS


class RobertaPreTrainedModel(FamilyModel, BertLitePreTrainedModel):
    """Base of the family."""

    config: RobertaConfig  # type: ignore[assignment]
    base_model_prefix = "roberta"
    embeddings_class = RobertaEmbeddings


class RobertaModel(RobertaPreTrainedModel, BertLiteModel):
    """RoBERTa without a head."""


RobertaPreTrainedModel.base_class = RobertaModel


class RobertaForMaskedLM(RobertaPreTrainedModel, LMHeadForMaskedLM):
    """Masked language model."""

    _tied_weights_keys = {
        "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    }


class RobertaForSequenceClassification(RobertaPreTrainedModel, FirstVectorClassification):
    """Classes or scores of a sequence, or of a pair."""


class RobertaForTokenClassification(RobertaPreTrainedModel, BertLiteForTokenClassification):
    """A class for each token."""


class RobertaForQuestionAnswering(RobertaPreTrainedModel, BertLiteForQuestionAnswering):
    """Where the answer begins and ends in the row."""


class RobertaForMultipleChoice(RobertaPreTrainedModel, BertLiteForMultipleChoice):
    """Scores of C choices."""
