"""Models whose every weight is one number, so that a mix of two saves shows."""

from pathlib import Path

import torch
from cases import bert_config

import bertlite


def make(value: float = 1.0, **overrides) -> bertlite.BertLiteModel:
    """A model whose every weight is `value`."""
    model = bertlite.BertLiteModel(bert_config(**overrides))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    return model


def value_of(folder: Path, **kwargs) -> float:
    """The value of every weight of a saved folder."""
    model = bertlite.BertLiteModel.from_pretrained(folder, **kwargs)
    (value,) = {float(parameter.detach().flatten()[0]) for parameter in model.parameters()}
    return value


def names_in(folder: Path) -> set[str]:
    """All but code."""
    return {path.name for path in folder.iterdir() if path.suffix != ".py"}
