"""Parts of a model that keep their weights in training, found by the names of their parameters.

The names are those of BERT (`embeddings`, `encoder.layer.3`) and Marian (`shared`, `embed_tokens`,
`encoder.layers.3`), which most of the library's models use too.
"""

import re
from typing import Any

from torch import nn

from .optimizers import EMBEDDINGS, LAYER

ENCODER = re.compile(r"(^|\.)encoder\.")
DECODER = re.compile(r"(^|\.)decoder\.")


def freeze(model: nn.Module, parts: str | int) -> list[str]:
    """Take parts of a model out of training.

    Of an encoder-decoder, "embeddings" are those of both sides (and with them the output's table,
    where it is the same one); layers are the encoder's.

    Args:
        model: with any head.
        parts: "embeddings"; a number N, as text or not, for the embeddings and the first N layers;
            "encoder" for the embeddings and all layers of the encoder.

    Returns:
        The names of the frozen parameters.

    Raises:
        ValueError: other parts, more layers than there are, or a model without such names.

    >>> freeze(nn.Linear(2, 2), "embeddings")
    Traceback (most recent call last):
    ValueError: freeze must name parts of the model, got 'embeddings', and Linear has none such
    """
    wanted = str(parts).strip()
    if wanted not in ("embeddings", "encoder") and not wanted.isdecimal():
        raise ValueError(f"freeze must be embeddings, a number of layers or encoder, got {parts!r}")
    names = [name for name, _ in model.named_parameters()]
    layers = {name: number for name in names if (number := encoder_layer(name)) is not None}
    there = max(layers.values(), default=-1) + 1
    below = {"embeddings": 0, "encoder": there}.get(wanted)
    below = int(wanted) if below is None else below
    if below > there:
        raise ValueError(f"freeze must be at most the {there} layers of the encoder, got {below}")
    frozen = [name for name in names if is_embedding(name) or layers.get(name, below) < below]
    if wanted == "encoder":  # a last norm after its layers, too
        frozen = [name for name in names if name in frozen or ENCODER.search(name)]
    if not frozen or (wanted == "encoder" and not layers):
        raise ValueError(
            f"freeze must name parts of the model, got {parts!r}, and {type(model).__name__} has "
            "none such"
        )
    parameters: dict[str, Any] = dict(model.named_parameters())
    for name in frozen:
        parameters[name].requires_grad_(False)
    return frozen


def is_embedding(name: str) -> bool:
    """Whether a parameter is of embeddings, by its name."""
    return bool(EMBEDDINGS.search(name)) and not LAYER.match(name)


def encoder_layer(name: str) -> int | None:
    """The number of the encoder's layer that a parameter belongs to; None for all others."""
    match = LAYER.match(name)
    if match is None or DECODER.search(match["stack"]):
        return None
    return int(match["number"])
