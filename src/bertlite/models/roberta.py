"""RoBERTa (Liu et al. 2019, https://arxiv.org/abs/1907.11692): BERT whose positions begin after
the number of the padding id.

CamemBERT (Martin et al. 2020, https://arxiv.org/abs/1911.03894) is RoBERTa for French, and XLM-R
(Conneau et al. 2020, https://arxiv.org/abs/1911.02116) for 100 languages: other names, and no more.
"""

from huggingface_hub.dataclasses import strict
from transformers.models.camembert import configuration_camembert as camembert
from transformers.models.roberta import configuration_roberta as original
from transformers.models.xlm_roberta import configuration_xlm_roberta as xlm_roberta

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


def rename(base: type[RobertaPreTrainedModel], stem: str) -> dict[str, type]:
    """RoBERTa's models by the names of a family that differs in nothing else, on its `base`."""
    models = (
        RobertaModel,
        RobertaForMaskedLM,
        RobertaForSequenceClassification,
        RobertaForTokenClassification,
        RobertaForQuestionAnswering,
        RobertaForMultipleChoice,
    )
    made: dict[str, type] = {}
    for model in models:
        name = model.__name__.replace("Roberta", stem)
        made[name] = type(name, (base, model), {"__module__": __name__, "__doc__": model.__doc__})
    base.base_class = made[f"{stem}Model"]
    return made


@strict
class CamembertConfig(camembert.CamembertConfig, FamilyConfig):
    """Configuration of a CamemBERT."""

    positions_after_padding = True


class CamembertPreTrainedModel(RobertaPreTrainedModel):
    """Base of the family."""

    config: CamembertConfig  # type: ignore[assignment]


@strict
class XLMRobertaConfig(xlm_roberta.XLMRobertaConfig, FamilyConfig):
    """Configuration of an XLM-R."""

    positions_after_padding = True


class XLMRobertaPreTrainedModel(RobertaPreTrainedModel):
    """Base of the family."""

    config: XLMRobertaConfig  # type: ignore[assignment]


# CamembertModel, CamembertForMaskedLM and so on: names of this file like those above.
globals().update(rename(CamembertPreTrainedModel, "Camembert"))
globals().update(rename(XLMRobertaPreTrainedModel, "XLMRoberta"))
