"""bertlite: BERT and the Transformer, small, exact and fast, with transformers' own conventions.

>>> import bertlite
>>> model = bertlite.BertLiteForMaskedLM(bertlite.preset("bert-tiny"))

Names are imported when they are first used, as in transformers: `import bertlite` itself costs next
to nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .models.auto import register
from .version import VERSION

if TYPE_CHECKING:  # for type checkers and editors; `NAMES` below does the work
    from .backends.choice import use_backend
    from .backends.cpu.generation import fast_generate
    from .backends.frozen import optimize, undo_optimize
    from .backends.generation import generate
    from .inference import answer, classify, summarize, tag, translate
    from .inference.encode import encode
    from .models.configuration import BertLiteConfig, TransformerLiteConfig
    from .models.families import load
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
    from .models.modeling_transformerlite import (
        TransformerLiteForConditionalGeneration,
        TransformerLiteForQuestionAnswering,
        TransformerLiteForSequenceClassification,
        TransformerLiteModel,
    )
    from .models.presets import PRESETS, preset
    from .models.warm_start import warm_start_from_bert
    from .training.evaluation import evaluate, predict
    from .training.finetuning import finetune
    from .training.label_errors import check_labels

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
    "TransformerLiteForQuestionAnswering",
    "TransformerLiteForSequenceClassification",
    "TransformerLiteModel",
    "answer",
    "check_labels",
    "classify",
    "encode",
    "evaluate",
    "fast_generate",
    "finetune",
    "generate",
    "load",
    "optimize",
    "predict",
    "preset",
    "summarize",
    "tag",
    "translate",
    "undo_optimize",
    "use_backend",
    "warm_start_from_bert",
]

# Where each public name lives.
NAMES = {
    ".models.configuration": ["BertLiteConfig", "TransformerLiteConfig"],
    ".backends.choice": ["use_backend"],
    ".backends.cpu.generation": ["fast_generate"],
    ".backends.generation": ["generate"],
    ".backends.frozen": ["optimize", "undo_optimize"],
    ".inference.encode": ["encode"],
    ".models.families": ["load"],
    ".models.presets": ["PRESETS", "preset"],
    ".training.evaluation": ["evaluate", "predict"],
    ".training.finetuning": ["finetune"],
    ".training.label_errors": ["check_labels"],
    ".models.warm_start": ["warm_start_from_bert"],
    ".inference": ["answer", "classify", "summarize", "tag", "translate"],
    ".models.modeling_transformerlite": [
        "TransformerLiteForConditionalGeneration",
        "TransformerLiteForQuestionAnswering",
        "TransformerLiteForSequenceClassification",
        "TransformerLiteModel",
    ],
    ".models.modeling_bertlite": [
        "BertLiteForMaskedLM",
        "BertLiteForMultipleChoice",
        "BertLiteForNextSentencePrediction",
        "BertLiteForPreTraining",
        "BertLiteForQuestionAnswering",
        "BertLiteForSequenceClassification",
        "BertLiteForTokenClassification",
        "BertLiteModel",
    ],
}
MODULES = {name: module for module, names in NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module 'bertlite' has no attribute {name!r}")
    value = getattr(importlib.import_module(MODULES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register()
