"""Which families of checkpoints there are, and `load`, which finds the class for a folder.

A family is a file of this folder with its configuration, embeddings and heads. Its classes bear the
names that transformers gives them (`RobertaForMaskedLM`), in the module here, and what they save is
a folder of that family, which transformers' own classes read. Nothing here is imported before it is
asked for.
"""

import importlib
import os
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig

from .transformer_families import FAMILIES as TRANSFORMER_FAMILIES

# The tasks of `load`, and the endings of the classes for them, of which a family has one or none.
TASKS = {
    "base": ("Model",),
    "pretraining": ("ForPreTraining",),
    "masked-lm": ("ForMaskedLM",),
    "next-sentence-prediction": ("ForNextSentencePrediction",),
    "sequence-classification": ("ForSequenceClassification",),
    "token-classification": ("ForTokenClassification",),
    "question-answering": ("ForQuestionAnswering",),
    "multiple-choice": ("ForMultipleChoice",),
    "translation": ("ForConditionalGeneration",),
    "summarization": ("ForConditionalGeneration",),
    "image-classification": ("ForImageClassification", "ForImageClassificationWithTeacher"),
    "masked-image-modeling": ("ForMaskedImageModeling",),
    "audio-classification": ("ForAudioClassification",),
}
ENCODER_HEADS = (
    "Model",
    "ForMaskedLM",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
)
IMAGE_HEADS = ("Model", "ForImageClassification", "ForMaskedImageModeling")
BERT_HEADS = (*ENCODER_HEADS, "ForPreTraining", "ForNextSentencePrediction")


@dataclass(frozen=True)
class Family:
    """Where the classes of a `model_type` are.

    Args:
        module: the file of this folder.
        stem: what the names of its classes begin with.
        heads: their endings.
        alias: what the names in `architectures` of a folder begin with, where that differs.
        writes: whether it is an encoder-decoder.
        reads: what it is made for: texts, images or sounds.
    """

    module: str
    stem: str
    heads: tuple[str, ...] = ENCODER_HEADS
    alias: str = ""
    writes: bool = False
    reads: str = "texts"

    def get(self, name: str) -> Any:
        """A class by its name in this family."""
        return getattr(importlib.import_module(f".{self.module}", __package__), name)

    def model(self, head: str) -> Any:
        """The class with this ending; it has to be one of `heads`."""
        return self.get(self.stem + head)

    def head_of(self, architecture: str) -> str | None:
        """The ending that a name in `architectures` has; None: it is not one of this family's."""
        for start in (self.stem, self.alias):
            ending = architecture.removeprefix(start)
            if start and architecture.startswith(start) and ending in OTHER_ENDINGS:
                return OTHER_ENDINGS[ending]
            if start and architecture.startswith(start) and ending in self.heads:
                return ending
        return None


OTHER_ENDINGS = {"MTModel": "ForConditionalGeneration"}  # Marian's name of it
BERT = Family("modeling_bertlite", "BertLite", BERT_HEADS, alias="Bert")
WRITERS = {
    name: Family(
        "modeling_transformerlite",
        "TransformerLite",
        ("Model", "ForConditionalGeneration", *traits.heads),
        alias=traits.prefix,
        writes=True,
    )
    for name, traits in TRANSFORMER_FAMILIES.items()
}
MARIAN = WRITERS["marian"]
FAMILIES: dict[str, Family] = {
    "albert": Family("albert", "Albert", (*ENCODER_HEADS, "ForPreTraining")),
    "audio-spectrogram-transformer": Family(
        "audio_spectrogram_transformer",
        "AST",
        ("Model", "ForAudioClassification"),
        reads="sounds",
    ),
    "bert": BERT,
    "bertlite": BERT,
    "camembert": Family("roberta", "Camembert"),
    "deit": Family(
        "deit", "DeiT", (*IMAGE_HEADS, "ForImageClassificationWithTeacher"), reads="images"
    ),
    "distilbert": Family("distilbert", "DistilBert"),
    "electra": Family("electra", "Electra", (*ENCODER_HEADS, "ForPreTraining")),
    "modernbert": Family("modernbert", "ModernBert"),
    "mpnet": Family("mpnet", "MPNet"),
    "roberta": Family("roberta", "Roberta"),
    "transformerlite": MARIAN,
    "vit": Family("vit", "ViT", IMAGE_HEADS, reads="images"),
    "xlm-roberta": Family("roberta", "XLMRoberta"),
    **WRITERS,
}


def family_of(config: dict[str, Any], source: str) -> Family:
    """The family of a folder's `config.json`.

    Raises:
        ValueError: there is none of its `model_type`.
    """
    found = config.get("model_type")
    if found not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise ValueError(
            f"{source}: model_type must be one of {known}, got {found!r}; "
            "transformers' Auto classes may load it"
        )
    return FAMILIES[found]


def load(source: str | os.PathLike, task: str | None = None, **kwargs: Any) -> Any:
    """Load a model with bertlite's class for its family.

    Args:
        source: a folder, or a hub name, of any family in `FAMILIES`.
        task: one of `TASKS`, such as "sequence-classification"; None: what the folder's
            `architectures` names, or where it names none the model without a head.
        kwargs: for `from_pretrained`, such as `num_labels` or `dtype`.

    Returns:
        The model, in evaluation mode.

    Raises:
        ValueError: a task that there is not, or a folder of another family, or a family that has
            no such head.

    >>> import bertlite
    >>> model = bertlite.load("FacebookAI/roberta-base", "masked-lm")  # doctest: +SKIP
    """
    if task is not None and task not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}, got {task!r}")
    name = os.fspath(source)
    where = {
        key: kwargs[key] for key in ("revision", "token", "cache_dir", "subfolder") if key in kwargs
    }
    config, _ = PreTrainedConfig.get_config_dict(name, **where)
    family = family_of(config, name)
    head = named_head(config, family, name) if task is None else task_head(task, family, config)
    return family.model(head).from_pretrained(name, **kwargs)


def task_head(task: str, family: Family, config: dict[str, Any]) -> str:
    """The ending of a family's class for a task; a ValueError where it has none.

    Where it has two, the one that `architectures` names, else the first.
    """
    found = [head for head in TASKS[task] if head in family.heads]
    named = [family.head_of(name) for name in config.get("architectures") or []]
    for head in [*(head for head in named if head in found), *found]:
        return head
    known = [name for name, heads in TASKS.items() if set(heads) & set(family.heads)]
    raise ValueError(
        f"task must be one that a {config['model_type']} can do, {', '.join(known)}, got {task!r}"
    )


def named_head(config: dict[str, Any], family: Family, source: str) -> str:
    """The ending of the class that `architectures` names."""
    named = config.get("architectures") or []
    for architecture in named:
        head = family.head_of(architecture)
        if head is not None:
            return head
    if named:
        raise ValueError(
            f"{source}: architectures must name one of "
            f"{', '.join(family.stem + head for head in family.heads)}, got {', '.join(named)}; "
            "say which task it is loaded for"
        )
    return "Model"
