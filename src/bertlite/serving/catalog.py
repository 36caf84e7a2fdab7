"""The models of a server: what each can do, and which one a request means."""

import os
from dataclasses import dataclass
from typing import Any

import torch

from ..backends.frozen import encoders_of, optimize
from ..inference.embedding_recipe import EmbeddingRecipe, read_recipe
from ..inference.language_codes import language_tokens
from ..inference.loading import BASE, SEQ2SEQ, load_model, load_tokenizer, read_config
from .errors import Refused
from .options import ServingOptions

# The ending of a class, and what its models are asked for.
HEADS = {
    "ForSequenceClassification": ("classify",),
    "ForTokenClassification": ("tag",),
    "ForQuestionAnswering": ("answer",),
    "ForMaskedLM": ("fill-mask",),
}
WITHOUT = ("ForMultipleChoice", "ForNextSentencePrediction")  # heads that nobody asks over HTTP
WRITES = ("translate", "summarize")


@dataclass(frozen=True)
class ServedModel:
    """A loaded model.

    Attributes:
        name: by which requests name it.
        model: with its head, packed where that was asked for.
        tokenizer: for the thread that cuts texts into rows.
        reader: another of the same, for the thread of the models, which pads and decodes.
        recipe: how its vectors are made.
        tasks: the names of what it can be asked for, its head's first.
    """

    name: str
    model: Any
    tokenizer: Any
    reader: Any
    recipe: EmbeddingRecipe
    tasks: tuple[str, ...]

    @property
    def languages(self) -> list[str]:
        """The codes of the languages that it writes, where requests may name one."""
        return sorted(language_tokens(self.tokenizer)) if self.tasks == WRITES else []

    @property
    def encoder(self) -> Any:
        """The model without its head."""
        return self.model.base_model


def named_folders(words: list[str]) -> dict[str, str]:
    """`NAME=FOLDER` or `FOLDER`, whose last part is then the name.

    A word that is a folder as it stands is one, whatever signs its path holds.

    Raises:
        ValueError: no folder, or two of one name.

    >>> named_folders(["out/sentiment", "ner=out/tags"])
    {'sentiment': 'out/sentiment', 'ner': 'out/tags'}
    """
    found: dict[str, str] = {}
    for word in words:
        name, equals, folder = word.partition("=")
        if not equals or os.path.isdir(word):
            name, folder = os.path.basename(os.path.abspath(word)) if word else "", word
        if not name or not folder:
            raise ValueError(f"a model must be FOLDER or NAME=FOLDER, got {word!r}")
        if name in found:
            raise ValueError(
                f"models must have different names, got {name} for {found[name]} and {folder}; "
                "name them: NAME=FOLDER"
            )
        found[name] = folder
    if not found:
        raise ValueError("a model must be given: bertlite serve FOLDER [NAME=FOLDER ...]")
    return found


def head_of(folder: str) -> tuple[str, tuple[str, ...]]:
    """The head to load a folder with, and what it is asked for.

    Raises:
        ValueError: no such folder, or a head that nobody can ask over HTTP.
    """
    config = read_config("serve", folder)
    names = config.get("architectures") or []
    if config.get("is_encoder_decoder") or config.get("model_type") in (
        "marian",
        "transformerlite",
    ):
        return SEQ2SEQ, WRITES
    for head, tasks in HEADS.items():
        if any(name.endswith(head) for name in names):
            return head, (*tasks, "embed")
    if any(name.endswith(head) for name in names for head in WITHOUT):
        raise ValueError(f"serve: {folder} holds a {names[0]}, which no endpoint asks")
    return BASE, ("embed",)


def open_model(name: str, folder: str, options: ServingOptions) -> ServedModel:
    """Load a model and make it ready, so that the first request waits for nothing.

    Raises:
        ValueError: a folder that holds no model that can be served, or a dtype that the processor
            or the model cannot have.
    """
    head, tasks = head_of(folder)
    recipe = EmbeddingRecipe() if head == SEQ2SEQ else read_recipe(folder)
    inner = os.path.join(folder, recipe.folder) if recipe.folder else folder
    model = load_model("serve", inner, head).eval().requires_grad_(False)
    if options.dtype != "none" and any(True for _ in encoders_of(model)):
        optimize(model, dtype=options.dtype)
    fast = head not in (SEQ2SEQ, BASE)
    tokenizer, reader = (load_tokenizer("serve", model, inner, fast=fast) for _ in range(2))
    return ServedModel(name, model, tokenizer, reader, recipe, tasks)


class Catalog:
    """The models by their names.

    Args:
        models: in the order in which they were named.
    """

    def __init__(self, models: list[ServedModel]):
        self.models = {each.name: each for each in models}

    def find(self, task: str, name: str | None) -> ServedModel:
        """The model that a request means.

        Raises:
            Refused: none of that name, one that cannot do the task, or no name where several can.
        """
        able = [each for each in self.models.values() if task in each.tasks]
        names = ", ".join(each.name for each in able)
        if name is not None and name not in self.models:
            raise Refused(
                404, f"model must be one of {', '.join(self.models)}, got {name!r}", "model"
            )
        if not able:
            raise Refused(404, f"no model of this server can {task}")
        if name is not None:
            found = self.models[name]
            if found not in able:
                raise Refused(
                    400,
                    f"model must be one that can {task}: {names}; got {name!r}, which can "
                    f"{' and '.join(found.tasks)}",
                    "model",
                )
            return found
        # A model that was made for vectors comes before those that have a head.
        first = [each for each in able if each.tasks[0] == task]
        chosen = first or able
        if len(chosen) > 1 and task not in WRITES or len(able) > 1 and task in WRITES:
            raise Refused(400, f"model must be given: one of {names}", "model")
        return chosen[0]


def warm(served: ServedModel) -> None:
    """Run a row through a model: weights are packed, and code is made, at the first pass."""
    ids = torch.tensor([served.tokenizer("warm")["input_ids"]])
    row = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        if served.tasks == WRITES:
            served.model.generate(**row, max_new_tokens=2)
        else:
            served.model(**row)
