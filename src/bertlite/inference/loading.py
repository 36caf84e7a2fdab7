"""What the caller gives, checked and loaded before any work.

Texts, numbers, the model, its tokenizer.
"""

import math
import os
import threading
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from ..models.families import BERT, FAMILIES, MARIAN
from .loaded_models import LOADING, MODELS, TOKENIZERS, local_folder, version_of

SEQ2SEQ = "ForSeq2SeqLM"  # the ending of the Auto class that loads models that write text
ENDINGS = {SEQ2SEQ: "ForConditionalGeneration"}  # of the class itself, where that differs
BASE = "Model"  # that of a model without a head, of which the encoder alone is used
NO_LIMIT = 10**6  # tokens a row, for models whose positions do not end


def as_texts(name: str, value: Any, *, blank: bool = False) -> tuple[list[str], bool]:
    """The texts of argument `name` as a list, and whether one string was given.

    Args:
        name: of the argument.
        value: of it.
        blank: whether a text may be empty.

    Raises:
        ValueError: neither a string nor a list of strings; an empty or blank text, unless it may
            be; a text that is not valid Unicode.
    """
    if isinstance(value, str):
        check_text(name, value, blank=blank)
        return [value], True
    if not isinstance(value, Iterable) or isinstance(value, bytes | Mapping):
        raise ValueError(
            f"{name} must be a string or a list of strings, got {type(value).__name__}"
        )
    texts = list(value)
    for index, text in enumerate(texts):
        check_text(f"{name}[{index}]", text, blank=blank)
    return texts, False


def check_text(name: str, text: Any, *, blank: bool = False) -> None:
    """Refuse, with a ValueError, what is no string, holds nothing to read (unless it may be
    `blank`), or cannot be written as UTF-8.
    """
    if not isinstance(text, str):
        raise ValueError(f"{name} must be a string, got {type(text).__name__}: {text!r:.80}")
    if not blank and not text.strip():
        raise ValueError(f"{name} must hold some text, got {text!r:.80}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} must be valid Unicode, got {text[error.start]!a} at character {error.start}"
        ) from None


def check_counts(at_least: int, **values: Any) -> None:
    """Refuse, with a ValueError, arguments that are no whole numbers or below `at_least`.

    None passes.
    """
    for name, value in values.items():
        if value is not None and (
            not isinstance(value, int) or isinstance(value, bool) or value < at_least
        ):
            raise ValueError(f"{name} must be a whole number of at least {at_least}, got {value!r}")


def check_flag(name: str, value: Any) -> None:
    """Refuse, with a ValueError, what is neither true nor false; None passes."""
    if value not in (None, True, False):
        raise ValueError(f"{name} must be True or False, got {value!r}")


def check_number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> None:
    """Refuse, with a ValueError, what is no number between `low` and `high`."""
    if not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{name} must be a number from {low} to {high}, got {value!r}")


def check_device(device: Any) -> None:
    """Refuse, with a ValueError, a device that torch does not know or cannot use here."""
    if device is None:
        return
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"device must be one that torch can use here, got {str(device)!r}: {reason}"
        ) from error


def load(
    function: str, model: Any, tokenizer: Any, head: str, device: Any = None
) -> tuple[Any, PreTrainedTokenizerBase]:
    """Model and tokenizer to use; arguments and errors as in `load_model` and `load_tokenizer`."""
    check_device(device)
    if tokenizer is None and isinstance(model, str | os.PathLike):
        tokenizer = model  # not the name under which a kept model was loaded first
    model = load_model(function, model, head, device)
    fast = head not in (SEQ2SEQ, BASE)
    return model, load_tokenizer(function, model, tokenizer, fast=fast, keep=True)


def load_model(function: str, model: Any, head: str, device: Any = None) -> nn.Module:
    """The model to use: loaded from a folder or the hub, or as it is where an object was given.

    A folder of a family in `FAMILIES` is loaded with bertlite's classes, any other with the
    library's Auto class. A folder that was loaded a moment ago, and whose files are the same, is
    not loaded again.

    Args:
        function: who asks, for the errors.
        model: a folder, a hub name, or a model.
        head: the ending of the class that can do the task, such as "ForQuestionAnswering".
        device: where a model that is loaded here is put.

    Raises:
        ValueError: no such model, one with another head, or weights that the task needs are not in
            the folder.
    """
    if not isinstance(model, str | os.PathLike):
        check_head(function, model, head)
        return model
    source = os.fspath(model)
    config = read_config(function, source)

    def make() -> nn.Module:
        loaded = load_from(function, source, config, head)
        return loaded if device is None else loaded.to(device)

    return MODELS.get((version_of(local_folder(source)), head, str(device)), make)


def load_from(function: str, source: str, config: dict[str, Any], head: str) -> nn.Module:
    """A model from a folder or the hub; arguments and errors as in `load_model`."""
    found = config.get("architectures") or []
    if found and head not in (SEQ2SEQ, BASE) and not any(name.endswith(head) for name in found):
        raise ValueError(
            f"{function}: model must be a ...{head}, got {' and '.join(found)} in {source}"
        )
    loaded, info = model_class(function, source, config, head).from_pretrained(
        source, output_loading_info=True
    )
    missing = sorted(info["missing_keys"])
    if head == BASE:  # its pooler is not used
        missing = [name for name in missing if "pooler." not in name]
    if missing:
        raise ValueError(
            f"{function}: {source} holds no trained {head}: {', '.join(missing)} would be random; "
            "fine-tune it first"
        )
    return loaded


def read_config(function: str, source: str) -> dict[str, Any]:
    """The fields of the config of a folder or hub name.

    Raises:
        ValueError: there is no such model.
    """
    prefix = f"{function}: " if function else ""
    expected = f"{prefix}model must be a folder with a config.json, or a hub name, got {source}"
    if os.path.isdir(source) and not os.path.isfile(os.path.join(source, "config.json")):
        raise ValueError(f"{expected}, a folder without one")
    try:
        config, _ = PreTrainedConfig.get_config_dict(source)
    except OSError as error:
        raise ValueError(f"{expected}: {' '.join(str(error).split())}") from error
    return config


def model_class(function: str, source: str, config: dict[str, Any], head: str) -> Any:
    """The class that loads a folder.

    Ours for the families that we read, else the library's Auto class.
    """
    found, ending = config.get("model_type"), ENDINGS.get(head, head)
    writes = head == SEQ2SEQ
    if found is None:  # our config says whether it fits
        return (MARIAN if writes else BERT).model(ending)
    family = FAMILIES.get(found)
    if family is None:
        return getattr(transformers, f"AutoModel{head}")
    if family.reads != "texts":
        raise ValueError(
            f"{function}: model must read texts, got model_type {found!r}, of {family.reads}, in "
            f"{source}"
        )
    if ending in family.heads:
        return family.model(ending)
    if family.writes != writes:
        needed = "an encoder-decoder" if writes else f"a ...{head}"
        raise ValueError(
            f"{function}: model must be {needed}, got model_type {found!r} in {source}"
        )
    return getattr(transformers, f"AutoModel{head}")


def check_head(function: str, model: Any, head: str) -> None:
    """Refuse, with a ValueError, an object that is no model or has another head."""
    model = getattr(model, "_orig_mod", model)  # what torch.compile wrapped
    came = type(model).__name__
    if head == BASE:
        if not hasattr(model, "config"):
            raise ValueError(
                f"{function}: model must be a folder, a hub name or a model, got {came}"
            )
    elif head == SEQ2SEQ:
        config = getattr(model, "config", None)
        if not (getattr(config, "is_encoder_decoder", False) and hasattr(model, "generate")):
            raise ValueError(
                f"{function}: model must be a folder, a hub name or an encoder-decoder, got {came}"
            )
    elif not any(base.__name__.endswith(head) for base in type(model).__mro__):
        raise ValueError(
            f"{function}: model must be a folder, a hub name or a ...{head}, got {came}"
        )


def load_tokenizer(
    function: str, model: Any, tokenizer: Any, *, fast: bool, keep: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer given, or that of the folder which the model was loaded from.

    Args:
        fast: whether character offsets are needed, which only tokenizers of the `tokenizers`
            library know.
        keep: whether it is kept for the next call, which whoever hands it on must not ask for.

    Raises:
        ValueError: there is none, it has no vocabulary, or it knows no offsets.
    """
    source = getattr(model, "name_or_path", None) if tokenizer is None else tokenizer
    if source is None or source == "":
        raise ValueError(
            f"{function}: tokenizer must be given with a model that was not loaded from a folder"
        )
    if isinstance(source, str | os.PathLike):
        source = tokenizer_from(function, os.fspath(source), keep)
    if not isinstance(source, PreTrainedTokenizerBase):
        raise ValueError(
            f"{function}: tokenizer must be a folder, a hub name or a tokenizer, got {source!r:.80}"
        )
    # A folder without tokenizer files loads, without a word, as one that knows the special tokens
    # only.
    if len(source) <= len(source.all_special_ids):
        raise ValueError(
            f"{function}: the tokenizer of {source.name_or_path or model!r} has no vocabulary"
        )
    if fast and not source.is_fast:
        raise ValueError(
            f"{function}: tokenizer must know character offsets, {type(source).__name__} does not"
        )
    return source


def tokenizer_from(function: str, source: str, keep: bool) -> Any:
    """The tokenizer of a folder or hub name, one a thread; a ValueError where there is none."""

    def make() -> Any:
        try:
            return AutoTokenizer.from_pretrained(source)
        except Exception as error:  # the `tokenizers` library raises that very class
            raise ValueError(
                f"{function}: no tokenizer can be loaded from {source}: {error}"
            ) from error

    if not keep:
        with LOADING:
            return make()
    return TOKENIZERS.get((version_of(local_folder(source)), threading.get_ident()), make)


def roomy_limit(
    name: str, model: Any, tokenizer: PreTrainedTokenizerBase, max_length: int | None
) -> int:
    """`position_limit`.

    A ValueError, which names the argument, where special tokens would take them all.
    """
    found = position_limit(model, tokenizer, max_length)
    if found <= tokenizer.num_special_tokens_to_add():
        raise ValueError(f"{name} must leave room beside the special tokens, got {found}")
    return found


def position_limit(
    model: Any, tokenizer: PreTrainedTokenizerBase, max_length: int | None = None
) -> int:
    """Tokens that a row may hold.

    What was asked for, and no more than tokenizer and model can take.
    """
    positions = getattr(model.config, "max_position_embeddings", None)
    positions = getattr(model.config, "max_tokens", positions)  # fewer where padding has its own
    given = (max_length, tokenizer.model_max_length, positions, NO_LIMIT)
    return int(min(limit for limit in given if limit is not None))
