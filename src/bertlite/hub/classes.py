"""Which classes may load a saved folder: those of the Auto classes, and bertlite's own."""

import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..models.families import family_of

PACKAGE = "bertlite.models"


def read_config(folder: Path) -> dict[str, Any]:
    """The fields of `config.json`.

    Raises:
        ValueError: none that can be read.
    """
    try:
        fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"folder must be one of a saved model, with a config.json, got {folder}: {error}"
        ) from error
    if not isinstance(fields, dict):
        raise ValueError(f"{folder}/config.json must hold fields, got {type(fields).__name__}")
    return fields


def fitting_classes(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """The Auto classes that may load a folder, each with bertlite's class of the same head.

    Returns:
        From the name of an Auto class to the dotted name of a class, module included.

    Raises:
        ValueError: a family that bertlite does not know.
    """
    family = family_of(dict(config), str(folder))
    module = f"{PACKAGE}.{family.module}."
    return {auto_class_of(head): f"{module}{family.stem}{head}" for head in family.heads}


def auto_class_of(head: str) -> str:
    """The Auto class for an ending of a class's name."""
    if head == "ForConditionalGeneration":
        return "AutoModelForSeq2SeqLM"
    return "AutoModel" if head == "Model" else f"AutoModel{head.removesuffix('WithTeacher')}"


def own_class(folder: Path, config: Mapping[str, Any]) -> str:
    """The Auto class of the head that the folder holds.

    Raises:
        ValueError: the config names no class, or one that bertlite does not have.
    """
    named = (config.get("architectures") or [""])[0]
    head = family_of(dict(config), str(folder)).head_of(named)
    if head is None:
        raise ValueError(
            f"{folder}: architectures in config.json must name a class of this family, "
            f"got {named!r}"
        )
    return auto_class_of(head)


def load_folder(folder: str | os.PathLike) -> Any:
    """The model of a folder in fp32, by bertlite's class of the head that it holds.

    Raises:
        ValueError: no folder of bertlite's families, or a damaged file.
    """
    import torch

    path = Path(folder)
    config = read_config(path)
    module, _, name = fitting_classes(path, config)[own_class(path, config)].rpartition(".")
    model_class = getattr(importlib.import_module(module), name)
    return model_class.from_pretrained(path, dtype=torch.float32)
