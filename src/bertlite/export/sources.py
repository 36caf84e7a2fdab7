"""The folder that is exported: its model, its tokenizer, and what the model does.

What cannot be exported is refused here, by name, before any work.
"""

import os
import re
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..backends.choice import use_backend
from ..inference.embedding_recipe import EmbeddingRecipe, Files, read_recipe
from ..inference.loading import (
    BASE,
    SEQ2SEQ,
    load_from,
    load_tokenizer,
    position_limit,
    read_config,
)

WRITERS = ("ForConditionalGeneration", "MTModel")  # endings of classes that write text


@dataclass(frozen=True)
class Task:
    """What a head does.

    Attributes:
        name: of the file that does it without torch, `runs/run_NAME.py`.
        outputs: fields of the model's output.
        per_token: of each of them, whether it is `(B, T, ...)`.
    """

    name: str
    outputs: tuple[str, ...] = ("logits",)
    per_token: tuple[bool, ...] = (False,)


# By the ending of the class.
TASKS = {
    "ForPreTraining": Task(
        "fill_mask", ("prediction_logits", "seq_relationship_logits"), (True, False)
    ),
    "ForMaskedLM": Task("fill_mask", per_token=(True,)),
    "ForNextSentencePrediction": Task("next_sentence"),
    "ForSequenceClassification": Task("classify"),
    "ForTokenClassification": Task("tag", per_token=(True,)),
    "ForQuestionAnswering": Task("answer", ("start_logits", "end_logits"), (True, True)),
    "ForMultipleChoice": Task("choose"),
    BASE: Task("embed", ("last_hidden_state", "sentence_embedding"), (True, False)),
    SEQ2SEQ: Task("translate"),
}


@dataclass
class Source:
    """A loaded folder.

    Attributes:
        folder: where it was loaded from.
        model: in evaluation mode, on the plain core, without gradients.
        tokenizer: its tokenizer.
        head: a key of `TASKS`.
        recipe: how vectors are made, of a model without a head.
        writes: of an encoder-decoder, "translation" or "summarization".
    """

    folder: str
    model: Any
    tokenizer: PreTrainedTokenizerBase
    head: str
    recipe: EmbeddingRecipe = field(default_factory=EmbeddingRecipe)
    writes: str = "translation"

    @property
    def task(self) -> Task:
        """What the head does."""
        return TASKS[self.head]

    @property
    def encoder(self) -> Any:
        """The encoder, of either family."""
        if self.model.config.is_encoder_decoder:
            return self.model.get_encoder()
        return self.model.base_model

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of what the encoder reads."""
        if self.model.config.type_vocab_size > 0 and self.head != SEQ2SEQ:
            return ("input_ids", "attention_mask", "token_type_ids")
        return ("input_ids", "attention_mask")

    @property
    def max_length(self) -> int:
        """Tokens of a row."""
        wanted = 384 if self.head == "ForQuestionAnswering" else self.recipe.max_length
        return position_limit(self.model, self.tokenizer, wanted)


def read_source(folder: str | os.PathLike) -> Source:
    """Load a folder, or a hub name.

    Raises:
        ValueError: there is no such model, it cannot be exported, or it has no tokenizer.
    """
    source = os.fspath(folder)
    is_embedder = Files(source, offline=False).find("modules.json") is not None
    recipe = read_recipe(source) if is_embedder else EmbeddingRecipe()
    check_recipe(recipe, source)
    inside = os.path.join(source, recipe.folder) if recipe.folder else source
    config = read_config("export", inside)
    head = BASE if is_embedder else head_of(config, source)
    model = load_from("export", inside, config, head)
    if not any(hasattr(module, "encode_plainly") for module in model.modules()):
        raise ValueError(
            f"export: model must be of a family that bertlite computes itself, got model_type "
            f"{config.get('model_type')!r} in {source}"
        )
    model = use_backend(model.eval().float().requires_grad_(False), "plain")
    tokenizer = load_tokenizer("export", model, None, fast=head != SEQ2SEQ)
    return Source(source, model, tokenizer, head, recipe)


def check_recipe(recipe: EmbeddingRecipe, source: str) -> None:
    """Refuse, with a ValueError, vectors that a graph would make another way."""
    if recipe.default_prompt and not recipe.include_prompt:
        raise ValueError(
            f"export: {source} leaves its prompt's tokens out of the vectors, which is not exported"
        )


def head_of(config: dict[str, Any], source: str) -> str:
    """The key of `TASKS` for what the architecture says.

    Raises:
        ValueError: it is none of them.
    """
    names = config.get("architectures") or []
    for name in names:
        if name.endswith(WRITERS):
            return SEQ2SEQ
        for head in TASKS:
            if name.endswith(head) and (head != BASE or not re.search("For|Head", name)):
                return head
    known = ", ".join(f"...{head}" for head in TASKS)
    came = " and ".join(names) or "no architectures in its config.json"
    raise ValueError(f"export: model must be one of {known}, got {came} in {source}")
