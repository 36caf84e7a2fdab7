"""XLM-R (Conneau et al. 2020, https://arxiv.org/abs/1911.02116): RoBERTa for 100 languages."""

from huggingface_hub.dataclasses import strict
from transformers.models.xlm_roberta import configuration_xlm_roberta as original

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
class XLMRobertaConfig(original.XLMRobertaConfig, FamilyConfig):
    """Configuration of a XLM-R."""

    positions_after_padding = True


class XLMRobertaPreTrainedModel(RobertaPreTrainedModel):
    """Base of the family."""

    config: XLMRobertaConfig  # type: ignore[assignment]


class XLMRobertaModel(XLMRobertaPreTrainedModel, RobertaModel):
    """XLM-R without a head."""


XLMRobertaPreTrainedModel.base_class = XLMRobertaModel


class XLMRobertaForMaskedLM(XLMRobertaPreTrainedModel, RobertaForMaskedLM):
    """Masked language model."""


class XLMRobertaForSequenceClassification(
    XLMRobertaPreTrainedModel, RobertaForSequenceClassification
):
    """Classes or scores of a sequence, or of a pair."""


class XLMRobertaForTokenClassification(XLMRobertaPreTrainedModel, RobertaForTokenClassification):
    """A class for each token."""


class XLMRobertaForQuestionAnswering(XLMRobertaPreTrainedModel, RobertaForQuestionAnswering):
    """Where the answer begins and ends in the row."""


class XLMRobertaForMultipleChoice(XLMRobertaPreTrainedModel, RobertaForMultipleChoice):
    """Scores of C choices."""
