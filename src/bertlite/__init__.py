"""bertlite: BERT and the Transformer, small, exact and fast, with transformers' own conventions.

>>> import bertlite
>>> model = bertlite.BertLiteForMaskedLM(bertlite.preset("bert-tiny"))
"""

from .auto import register
from .models.configuration import BertLiteConfig, TransformerLiteConfig
from .models.modeling_bertlite import (
    BertLiteForMaskedLM,
    BertLiteForMultipleChoice,
    BertLiteForNextSentencePrediction,
    BertLiteForPreTraining,
    BertLiteForQuestionAnswering,
    BertLiteForSequenceClassification,
    BertLiteForTokenClassification,
    BertLiteModel,
)
from .models.modeling_transformerlite import TransformerLiteForConditionalGeneration, TransformerLiteModel
from .presets import PRESETS, preset
from .version import VERSION
from .warm_start import warm_start_from_bert

__version__ = VERSION

__all__ = [
    "PRESETS",
    "BertLiteConfig",
    "BertLiteForMaskedLM",
    "BertLiteForMultipleChoice",
    "BertLiteForNextSentencePrediction",
    "BertLiteForPreTraining",
    "BertLiteForQuestionAnswering",
    "BertLiteForSequenceClassification",
    "BertLiteForTokenClassification",
    "BertLiteModel",
    "TransformerLiteConfig",
    "TransformerLiteForConditionalGeneration",
    "TransformerLiteModel",
    "preset",
    "warm_start_from_bert",
]

register()
