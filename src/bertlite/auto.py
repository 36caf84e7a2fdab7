"""Tell transformers' Auto classes about the two families; done once, on `import bertlite`."""

from typing import Any

import transformers
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel

from .models import modeling_bertlite, modeling_transformerlite
from .models.configuration import BertLiteConfig, TransformerLiteConfig

# Which tokenizer a folder without a tokenizer class of its own gets: that of the library's sister model.
TOKENIZERS = {BertLiteConfig: "BertTokenizer", TransformerLiteConfig: "MarianTokenizer"}


def register() -> None:
    """Register configs, every model with each Auto class that fits, and tokenizers. Repeating it does no harm."""
    families = (modeling_bertlite.BertLitePreTrainedModel, modeling_transformerlite.TransformerLitePreTrainedModel)
    modules = (modeling_bertlite, modeling_transformerlite)
    for family, module in zip(families, modules, strict=True):
        config_class: Any = family.config_class
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
        for auto_class, path in family.auto_map.items():
            if auto_class != "AutoConfig":
                model: type[PreTrainedModel] = getattr(module, path.split(".")[1])
                getattr(transformers, auto_class).register(config_class, model, exist_ok=True)
        tokenizer = getattr(transformers, TOKENIZERS[config_class])
        AutoTokenizer.register(config_class, fast_tokenizer_class=tokenizer, exist_ok=True)
    transformers.AutoModelForTextEncoding.register(BertLiteConfig, modeling_bertlite.BertLiteModel, exist_ok=True)
