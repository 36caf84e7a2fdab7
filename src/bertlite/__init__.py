"""bertlite: BERT and the Transformer, small, exact and fast, with transformers' own conventions.

>>> import bertlite
>>> model = bertlite.BertLiteForMaskedLM(bertlite.preset("bert-tiny"))

Names are imported when they are first used, as in transformers: `import bertlite` itself costs next
to nothing.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from .models.auto import register
from .version import VERSION

# oneDNN and torch keep code for each size of a product, 1,024 of them: gigabytes where every batch
# has its own size. Read at the first product of the process; what the user has set stays.
os.environ.setdefault("LRU_CACHE_CAPACITY", "256")
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")

if TYPE_CHECKING:  # for type checkers and editors; `NAMES` below does the work
    from .backends.cpu.packed_encoder import optimize, undo_optimize
    from .inference import answer, classify, summarize, tag, translate
    from .inference.encode import encode
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
    from .models.modeling_transformerlite import (
        TransformerLiteForConditionalGeneration,
        TransformerLiteModel,
    )
    from .models.presets import PRESETS, preset
    from .models.warm_start import warm_start_from_bert
    from .training.evaluation import evaluate, predict
    from .training.finetuning import finetune

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
    "answer",
    "classify",
    "encode",
    "evaluate",
    "finetune",
    "optimize",
    "predict",
    "preset",
    "summarize",
    "tag",
    "translate",
    "undo_optimize",
    "warm_start_from_bert",
]

# Where each public name lives.
NAMES = {
    ".models.configuration": ["BertLiteConfig", "TransformerLiteConfig"],
    ".backends.cpu.packed_encoder": ["optimize", "undo_optimize"],
    ".inference.encode": ["encode"],
    ".models.presets": ["PRESETS", "preset"],
    ".training.evaluation": ["evaluate", "predict"],
    ".training.finetuning": ["finetune"],
    ".models.warm_start": ["warm_start_from_bert"],
    ".inference": ["answer", "classify", "summarize", "tag", "translate"],
    ".models.modeling_transformerlite": [
        "TransformerLiteForConditionalGeneration",
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
    if MODULES[name].startswith(".models.modeling"):
        importlib.import_module(
            ".backends.cpu.dropout_attention", __name__
        )  # which the models find, but do not import
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register()
