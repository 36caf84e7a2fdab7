"""`use_backend`: which backend a model takes, by name."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from . import SEAM_VERSION, available

CHOICES = ("auto", "plain")


def models_in(model: nn.Module) -> Iterator[Any]:
    """The models of the core in a module: itself, a head's base, the sides of a Transformer."""
    return (module for module in model.modules() if hasattr(module, "backend_choice"))


def use_backend(model: nn.Module, name: str) -> nn.Module:
    """Say which backend a model takes, in place.

    Args:
        model: a BertLite or TransformerLite model, or a module that holds one.
        name: "auto", the default: at each call the best that can do what is asked; "plain": the
            core alone, which computes padding and all logits; or the name of one, such as "cpu",
            beside which there is the core only.

    Returns:
        The same model; `model.backend_report()` says what it takes, and why not others.

    Raises:
        ValueError: a name that there is not, or a model that is none of ours.

    >>> import bertlite
    >>> model = bertlite.use_backend(bertlite.BertLiteModel(bertlite.preset("bert-tiny")), "plain")
    """
    backends = available(SEAM_VERSION)
    known = [*CHOICES, *(backend.name for backend in backends)]
    if name not in known:
        raise ValueError(f"name must be one of {known}, got {name!r}")
    found = list(models_in(model))
    if not found:
        raise ValueError(
            f"model must hold a BertLite or TransformerLite model, got {type(model).__name__}"
        )
    for module in found:
        for backend in backends:
            backend.restore(module)
        module.backend_choice = name
        module.__dict__.pop("_prepared", None)
        module.__dict__.pop("_backend_report", None)
    return model
