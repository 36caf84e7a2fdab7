"""Tell transformers' Auto classes, and PEFT, about the two families, once, on `import bertlite`.

The Auto classes hold names and import a model when it is asked for. Ours are listed in the same
way: importing bertlite imports neither a model nor the Auto classes, and whoever imports those,
before or after, finds ours among them. `AutoConfig.register` and `AutoModel.register` would import
all of that at once, which takes seconds where this takes hundredths of one.
"""

import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

PACKAGE = "transformers.models.auto"
CONFIGS = {"bertlite": "BertLiteConfig", "transformerlite": "TransformerLiteConfig"}
# Which tokenizer a folder without a tokenizer class of its own gets: that of the library's sister
# model.
TOKENIZERS = {"bertlite": "BertTokenizer", "transformerlite": "MarianTokenizer"}
MODELS = {
    "bertlite": {
        "AutoModel": "BertLiteModel",
        "AutoModelForTextEncoding": "BertLiteModel",
        "AutoModelForPreTraining": "BertLiteForPreTraining",
        "AutoModelForMaskedLM": "BertLiteForMaskedLM",
        "AutoModelForNextSentencePrediction": "BertLiteForNextSentencePrediction",
        "AutoModelForSequenceClassification": "BertLiteForSequenceClassification",
        "AutoModelForTokenClassification": "BertLiteForTokenClassification",
        "AutoModelForQuestionAnswering": "BertLiteForQuestionAnswering",
        "AutoModelForMultipleChoice": "BertLiteForMultipleChoice",
    },
    "transformerlite": {
        "AutoModel": "TransformerLiteModel",
        "AutoModelForSeq2SeqLM": "TransformerLiteForConditionalGeneration",
        "AutoModelForSequenceClassification": "TransformerLiteForSequenceClassification",
        "AutoModelForQuestionAnswering": "TransformerLiteForQuestionAnswering",
    },
}


def add_configs(module: ModuleType) -> None:
    """To `AutoConfig`."""
    for model_type, name in CONFIGS.items():
        module.CONFIG_MAPPING_NAMES[model_type] = name
        module.CONFIG_MAPPING._modules[model_type] = sys.modules["bertlite"]


def add_to_mapping(mapping, model_type: str, name: str) -> None:
    """To one of the library's lazy mappings from config to class, which would look in
    `transformers.models`.
    """
    mapping._reverse_config_mapping[CONFIGS[model_type]] = model_type
    mapping._model_mapping[model_type] = name
    mapping._modules[model_type] = sys.modules["bertlite"]


def add_models(module: ModuleType) -> None:
    """To every Auto class that fits."""
    for model_type, classes in MODELS.items():
        for auto_class, name in classes.items():
            add_to_mapping(getattr(module, auto_class)._model_mapping, model_type, name)


def add_tokenizers(module: ModuleType) -> None:
    """To `AutoTokenizer`."""
    for model_type, name in TOKENIZERS.items():
        add_to_mapping(module.TOKENIZER_MAPPING, model_type, name)


def add_adapters(module: ModuleType) -> None:
    """To PEFT's tables of what an adapter changes where nobody says: as in BERT."""
    for name, table in vars(module).items():
        if name.startswith("TRANSFORMERS_MODELS_TO_") and "bert" in table:
            table["bertlite"] = table["bert"]


ADDITIONS: dict[str, Callable[[ModuleType], None]] = {
    f"{PACKAGE}.configuration_auto": add_configs,
    f"{PACKAGE}.modeling_auto": add_models,
    f"{PACKAGE}.tokenization_auto": add_tokenizers,
    "peft.utils.constants": add_adapters,
}


class AddingFinder(MetaPathFinder):
    """Finds the modules of `ADDITIONS` as ever, and adds to them once they have run."""

    def find_spec(self, fullname: str, path=None, target=None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path) if fullname in ADDITIONS else None
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def run_and_add(module: ModuleType) -> None:
            run(module)
            ADDITIONS[fullname](module)

        spec.loader.exec_module = run_and_add  # type: ignore[method-assign]
        return spec


def register() -> None:
    """Add to the modules that are imported already, and to the others when they are.

    Repeating does no harm.
    """
    for name, add in ADDITIONS.items():
        if name in sys.modules:
            add(sys.modules[name])
    if not any(isinstance(finder, AddingFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, AddingFinder())
