"""What a folder of sentence-transformers says about making vectors: `modules.json` and its fellows.

Read without that library: the length a text is cut to, how tokens are pooled, layers behind the
pooling, the norm, and prompts. A module that is not known here is refused, since vectors without it
would be others.

Shapes: `E` hidden size, `B` batch.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.utils import cached_file

from .pooling import POOLINGS

# Names in `1_Pooling/config.json`, of old and of new versions, in the order in which several
# vectors are joined there.
POOLING_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weighted_mean",
    "pooling_mode_lasttoken": "last",
}
OWN_NAMES = {
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "weightedmean": "weighted_mean",
    "lasttoken": "last",
}
LENGTH_FILES = ("sentence_bert_config.json", "sentence_roberta_config.json")


@dataclass
class EmbeddingRecipe:
    """How vectors are made; without a folder that says so, as MiniLM's are.

    Attributes:
        folder: of the transformer, inside the folder that was named; "" for that folder itself.
        poolings: names of `bertlite.inference.pooling.POOLINGS`.
        layers: behind the pooling, in their order, each a linear layer and its activation.
        normalize: whether vectors are scaled to length 1.
        max_length: tokens a text is cut to; None: what model and tokenizer take.
        lower_case: whether texts are put in lower case first.
        include_prompt: whether the prompt's own tokens are pooled.
        prompts: by their names.
        default_prompt: the name of the one that is used where none is asked for.
    """

    folder: str = ""
    poolings: tuple[str, ...] = ("mean",)
    layers: list[tuple[nn.Linear, nn.Module]] = field(default_factory=list)
    normalize: bool = True
    max_length: int | None = None
    lower_case: bool = False
    include_prompt: bool = True
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str | None = None

    def prompt(self, text: str | None, name: str | None) -> str:
        """The prompt to put before each text.

        Raises:
            ValueError: both a text and a name, or a name that the folder does not have.
        """
        if text is not None and name is not None:
            raise ValueError(f"prompt and prompt_name must not both be given, got {name!r} too")
        if text is not None:
            if not isinstance(text, str):
                raise ValueError(f"prompt must be a string, got {text!r:.80}")
            return text
        name = name if name is not None else self.default_prompt
        if name is None:
            return ""
        if name not in self.prompts:
            if not self.prompts:
                raise ValueError(f"prompt_name must be None for a model without, got {name!r}")
            raise ValueError(f"prompt_name must be one of {sorted(self.prompts)}, got {name!r}")
        return self.prompts[name] or ""


def read_recipe(source: Any, *, offline: bool = False) -> EmbeddingRecipe:
    """The recipe of a folder or hub name, or that of MiniLM where it has no `modules.json`.

    Args:
        source: folder or hub name.
        offline: look only at what is on disk.

    Raises:
        ValueError: a module or pooling that is not known here.
    """
    files = Files(os.fspath(source), offline)
    modules = files.read_list("modules.json")
    if not modules:
        return EmbeddingRecipe()
    recipe = EmbeddingRecipe(normalize=False, poolings=())
    for module in modules:
        kind, path = module["type"].rpartition(".")[2], module["path"]
        if kind not in READERS:
            raise ValueError(
                f"encode: {source} has a module {module['type']} in modules.json; "
                f"known are {', '.join(READERS)}"
            )
        READERS[kind](recipe, files, path)
    if not recipe.poolings:
        raise ValueError(f"encode: modules.json of {source} must have a Pooling, got none")
    prompts = files.read("config_sentence_transformers.json")
    recipe.prompts = prompts.get("prompts") or {}
    recipe.default_prompt = prompts.get("default_prompt_name")
    return recipe


@dataclass(frozen=True)
class Files:
    """The files of a folder, or of a hub name, that may not be there."""

    source: str
    offline: bool

    def find(self, name: str) -> Path | None:
        """Where a file lies on this disk."""
        if os.path.isdir(self.source):
            path = Path(self.source, name)
            return path if path.is_file() else None
        quiet = dict.fromkeys(
            (
                "_raise_exceptions_for_missing_entries",
                "_raise_exceptions_for_connection_errors",
                "_raise_exceptions_for_gated_repo",
            ),
            False,
        )
        try:
            found = cached_file(self.source, name, local_files_only=self.offline, **quiet)
        except (OSError, ValueError):  # no hub name at all, such as a folder that is gone
            return None
        return None if found is None else Path(found)

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file; {} where there is none."""
        path = self.find(name)
        return {} if path is None else json.loads(path.read_text(encoding="utf-8"))

    def read_list(self, name: str) -> list[dict[str, Any]]:
        """A JSON file that holds a list; [] where there is none."""
        return list(self.read(name))  # type: ignore[arg-type]


def joined(path: str, name: str) -> str:
    """A file of a module, whose folder may be the whole folder."""
    return f"{path}/{name}" if path else name


def read_transformer(recipe: EmbeddingRecipe, files: Files, path: str) -> None:
    """The tokens that a text is cut to."""
    recipe.folder = path
    for name in LENGTH_FILES:
        found = files.read(joined(path, name))
        if found:
            recipe.max_length = found.get("max_seq_length")
            recipe.lower_case = bool(found.get("do_lower_case"))
            return


def read_pooling(recipe: EmbeddingRecipe, files: Files, path: str) -> None:
    """The ways of pooling; a ValueError for one that is not known."""
    found = files.read(joined(path, "config.json"))
    recipe.include_prompt = found.get("include_prompt", True)
    modes = found.get("pooling_mode")
    if modes is None:
        modes = [name for key, name in POOLING_MODES.items() if found.get(key)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    recipe.poolings = tuple(OWN_NAMES.get(mode, mode) for mode in modes)
    unknown = sorted(set(recipe.poolings) - set(POOLINGS))
    if unknown:
        raise ValueError(
            f"encode: pooling must be among {sorted(POOLINGS)}, got {unknown} in {path}"
        )


def read_normalize(recipe: EmbeddingRecipe, files: Files, path: str) -> None:
    """Vectors of length 1."""
    recipe.normalize = True


def read_dense(recipe: EmbeddingRecipe, files: Files, path: str) -> None:
    """A linear layer with an activation behind the pooling.

    Raises:
        ValueError: an activation that is none of torch's, or a kind of layer that is not known.
    """
    found = files.read(joined(path, "config.json"))
    odd = {"use_residual": False, "module_input_name": "sentence_embedding"}
    for name, usual in odd.items():
        if found.get(name, usual) != usual:
            raise ValueError(f"encode: {path} must have {name} {usual!r}, got {found[name]!r}")
    kind = found.get("activation_function", "torch.nn.modules.activation.Tanh")
    activation = getattr(nn, kind.rpartition(".")[2], None)
    if not kind.startswith("torch.nn.") or not isinstance(activation, type):
        raise ValueError(f"encode: {path} must have an activation of torch.nn, got {kind!r}")
    linear = nn.Linear(found["in_features"], found["out_features"], bias=found.get("bias", True))
    weights = read_weights(files, path)
    linear.load_state_dict({name.removeprefix("linear."): each for name, each in weights.items()})
    recipe.layers.append((linear, activation()))


def read_weights(files: Files, path: str) -> dict[str, torch.Tensor]:
    """The weights of a module, as safetensors or as torch's own file."""
    from safetensors.torch import load_file

    if (file := files.find(joined(path, "model.safetensors"))) is not None:
        return load_file(file)
    if (file := files.find(joined(path, "pytorch_model.bin"))) is not None:
        return torch.load(file, map_location="cpu", weights_only=True)
    raise ValueError(f"encode: {path} must hold weights, got neither safetensors nor a .bin file")


READERS = {
    "Transformer": read_transformer,
    "Pooling": read_pooling,
    "Normalize": read_normalize,
    "Dense": read_dense,
}
