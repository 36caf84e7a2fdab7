"""The model to look into, with the head that its folder has."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ..inference.loading import (
    BASE,
    SEQ2SEQ,
    check_device,
    load_model,
    load_tokenizer,
    model_class,
    read_config,
)
from ..models.configuration import TransformerLiteConfig

HEADS = (
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMaskedLM",
)


def open_model(
    function: str, model: Any, tokenizer: Any = None, device: Any = None
) -> tuple[Any, Any]:
    """Model and tokenizer, whatever the task.

    Args:
        function: who asks, for the errors.
        model: a folder, a hub name or a loaded model. A folder is loaded with the head that its
            config names; one of pretraining as a masked LM, one without a head as an encoder.
        tokenizer: a tokenizer, or where to load one; None: that of the model's folder.
        device: where a model that is loaded here is put.

    Raises:
        ValueError: no such model or tokenizer.
    """
    check_device(device)
    if isinstance(model, str | os.PathLike):
        config = read_config(function, os.fspath(model))
        if is_of_pretraining(config):
            # Its head for words alone, which `load_model` takes from no folder with two heads.
            source = os.fspath(model)
            model = model_class(function, source, config, "ForMaskedLM").from_pretrained(source)
            model = model if device is None else model.to(device)
        else:
            model = load_model(function, model, head_of(config), device)
    elif not (isinstance(model, nn.Module) and hasattr(model, "config")):
        raise ValueError(
            f"{function}: model must be a folder, a hub name or a model, got {type(model).__name__}"
        )
    writes = model.config.is_encoder_decoder
    return model, load_tokenizer(function, model, tokenizer, fast=not writes, keep=True)


def head_of(config: dict[str, Any]) -> str:
    """The ending of the class that a folder's config names."""
    if config.get("model_type") in TransformerLiteConfig.accepted_model_types or config.get(
        "is_encoder_decoder"
    ):
        return SEQ2SEQ
    for name in config.get("architectures") or ():
        for head in HEADS:
            if name.endswith(head):
                return head
    return BASE


def is_of_pretraining(config: dict[str, Any]) -> bool:
    """Whether a folder holds the two heads of BERT's pretraining."""
    return any(name.endswith("ForPreTraining") for name in config.get("architectures") or ())


@contextmanager
def eager(model: Any) -> Iterator[None]:
    """The library's own classes give attention weights in their eager implementation only."""
    before = model.config._attn_implementation
    changes = not hasattr(model, "backend_report") and before != "eager"
    try:
        if changes:
            model.set_attn_implementation("eager")
        yield
    finally:
        if changes:
            model.set_attn_implementation(before)
