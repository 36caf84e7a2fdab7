"""What the fields of any configuration must be, so that a damaged file fails by name."""

import dataclasses
from typing import Any

import torch

LARGEST = 2**31  # of whole numbers, which torch must hold


def check_fields(config: Any) -> None:
    """Refuse fields whose type the library does not check, and numbers without end.

    Raises:
        ValueError: such a field; the message names it.
    """
    for name, kinds in (("id2label", dict), ("label2id", dict), ("dtype", str | torch.dtype)):
        if not isinstance(value := getattr(config, name, None), kinds | None):
            refuse(config, name, value, f"of {kinds}, or None")
    kind = getattr(torch, config.dtype, "") if isinstance(config.dtype, str) else None
    if not isinstance(kind, torch.dtype | None):
        expected = "the name of a type of torch, such as float32"
        refuse(config, "dtype", config.dtype, expected)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, int) and abs(value) > LARGEST:
            refuse(config, field.name, value, f"at most {LARGEST}")


def refuse(config: Any, name: str, got: Any, expected: str) -> None:
    """Raise the error for a field."""
    raise ValueError(f"{type(config).__name__}: {name} must be {expected}, got {got!r}")
