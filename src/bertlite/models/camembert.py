"""CamemBERT (Martin et al. 2020, https://arxiv.org/abs/1911.03894): RoBERTa for French."""

from huggingface_hub.dataclasses import strict
from transformers.models.camembert import configuration_camembert as original

from .family_configuration import FamilyConfig
from .roberta import (
    RobertaForMaskedLM,
    RobertaForMultipleChoice,
    RobertaForQuestionAnswering,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
    RobertaModel,
    RobertaPreTrainedModel,
)


@strict
class CamembertConfig(original.CamembertConfig, FamilyConfig):
    """Configuration of a CamemBERT."""

    positions_after_padding = True


class CamembertPreTrainedModel(RobertaPreTrainedModel):
    """Base of the family."""

    config: CamembertConfig  # type: ignore[assignment]


class CamembertModel(CamembertPreTrainedModel, RobertaModel):
    """CamemBERT without a head."""


CamembertPreTrainedModel.base_class = CamembertModel


class CamembertForMaskedLM(CamembertPreTrainedModel, RobertaForMaskedLM):
    """Masked language model."""


class CamembertForSequenceClassification(
    CamembertPreTrainedModel, RobertaForSequenceClassification
):
    """Classes or scores of a sequence, or of a pair."""


class CamembertForTokenClassification(CamembertPreTrainedModel, RobertaForTokenClassification):
    """A class for each token."""


class CamembertForQuestionAnswering(CamembertPreTrainedModel, RobertaForQuestionAnswering):
    """Where the answer begins and ends in the row."""


class CamembertForMultipleChoice(CamembertPreTrainedModel, RobertaForMultipleChoice):
    """Scores of C choices."""
