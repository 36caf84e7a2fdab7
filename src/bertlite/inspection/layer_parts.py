"""Where a model's heads and inner neurons are: the layers of a part, and what they end in.

A part is "encoder", "decoder" or "cross": the decoder's heads that look at the source.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

PARTS = ("encoder", "decoder", "cross")


def layers_of(model: nn.Module, part: str = "encoder") -> list[Any]:
    """The layers of one side of a BertLite or TransformerLite model, or of a module that holds one.

    Raises:
        ValueError: another part, or a model that has none such or is none.
    """
    if part not in PARTS:
        raise ValueError(f"part must be one of {PARTS}, got {part!r}")
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a loaded model, got {model!r:.80}")
    mark = "encode_plainly" if part == "encoder" else "see_source"
    found: list[Any] = [module for module in model.modules() if hasattr(type(module), mark)]
    if len(found) != 1:
        side = "encoder" if part == "encoder" else "decoder"
        raise ValueError(
            f"model must hold one {side} of bertlite's for part {part!r}, got {len(found)} in "
            f"{type(model).__name__}"
        )
    return list(found[0].stack.layers if part == "encoder" else found[0].layers)


def attention_of(layer: Any, part: str) -> Any:
    """A layer's attention whose heads belong to `part`."""
    return layer.cross_attention if part == "cross" else layer.self_attention


def projection_of(layer: Any, part: str) -> nn.Module:
    """The product after a layer's heads, W^O, which reads them side by side, `(..., H * D)`."""
    own = attention_of(layer, part).projection
    return layer.attention_projection if own is None else own


def head_counts(model: nn.Module, part: str = "encoder") -> list[int]:
    """Heads of each layer."""
    return [attention_of(layer, part).num_heads for layer in layers_of(model, part)]


def neuron_counts(model: nn.Module, part: str = "encoder") -> list[int]:
    """Inner neurons of each layer's feed-forward; none of "cross", which has no such layer."""
    if part == "cross":
        raise ValueError("part must be encoder or decoder for neurons, got 'cross'")
    return [layer.outer.in_features for layer in layers_of(model, part)]


def checked_choice(
    name: str, chosen: Mapping[int, Iterable[int]] | None, counts: list[int]
) -> dict[int, list[int]]:
    """Numbers of heads or neurons by layer, each once and in order.

    Raises:
        ValueError: a layer or number that there is not.
    """
    found = {}
    for layer, numbers in (chosen or {}).items():
        if not is_number(layer) or not 0 <= layer < len(counts):
            raise ValueError(f"{name} must name layers from 0 to {len(counts) - 1}, got {layer!r}")
        listed = list(numbers)
        for number in listed:
            if not is_number(number) or not 0 <= number < counts[layer]:
                raise ValueError(
                    f"{name} of layer {layer} must be from 0 to {counts[layer] - 1}, got {number!r}"
                )
        found[int(layer)] = sorted(set(map(int, listed)))
    return found


def is_number(value: Any) -> bool:
    """Whether it is a whole number, of Python or of numpy."""
    return hasattr(value, "__index__") and not isinstance(value, bool)
