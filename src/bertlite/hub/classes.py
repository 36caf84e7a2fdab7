"""Which classes may load a saved folder: those of the Auto classes, and bertlite's own."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..models.auto import CONFIGS, MODELS


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

    Raises:
        ValueError: a family that bertlite does not know.
    """
    import bertlite

    family = config.get("model_type")
    for model_type, name in CONFIGS.items():
        if family in getattr(bertlite, name).accepted_model_types:
            return dict(MODELS[model_type])
    known = sorted({each for name in CONFIGS.values() for each in accepted(name)})
    raise ValueError(
        f"{folder}: model_type must be one of {', '.join(known)}, got {family!r} in config.json"
    )


def accepted(name: str) -> tuple[str, ...]:
    """The model types that one of bertlite's configurations reads."""
    import bertlite

    return getattr(bertlite, name).accepted_model_types


def own_class(folder: Path, config: Mapping[str, Any], classes: Mapping[str, str]) -> str:
    """The Auto class of the head that the folder holds.

    Raises:
        ValueError: the config names no class, or one that bertlite does not have.
    """
    import transformers

    named = (config.get("architectures") or [None])[0]
    for auto_class, ours in classes.items():
        mapping = getattr(transformers, auto_class)._model_mapping._model_mapping
        if named in (ours, mapping.get(config["model_type"])):
            return auto_class
    raise ValueError(
        f"{folder}: architectures in config.json must name a class of this family, got {named!r}"
    )


def load_folder(folder: str | os.PathLike) -> Any:
    """The model of a folder in fp32, by bertlite's class of the head that it holds.

    Raises:
        ValueError: no folder of bertlite's families, or a damaged file.
    """
    import torch

    import bertlite

    path = Path(folder)
    config = read_config(path)
    classes = fitting_classes(path, config)
    name = classes[own_class(path, config, classes)]
    return getattr(bertlite, name).from_pretrained(path, dtype=torch.float32)
