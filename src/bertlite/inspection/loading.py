"""The model to look into, with the head that its folder has."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ..inference.loading import BASE, SEQ2SEQ, check_device, load_model, load_tokenizer, read_config
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
        model = load_model(
            function, model, head_of(read_config(function, os.fspath(model))), device
        )
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
        if name.endswith("ForPreTraining"):
            return "ForMaskedLM"
    return BASE


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
