"""Heads and inner neurons switched off, or weakened, while a model runs.

What a head contributes is what its columns of the output projection W^O make of its context. A gate
stands before that product and multiplies the context, head by head; before the second product of
the feed-forward it multiplies the inner neurons. Nothing is written into a weight, so that taking
the gate away gives back the very same model, whatever its weights are: adapters, int8, another's
layer.

A gate is a hook, and who watches or changes what passes sees the plain core: each backend steps
aside, and `model.backend_report()` says so.

Shapes: `B` rows, `T` length, `H` heads, `D` head size, `I` inner neurons.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from .layer_parts import (
    attention_of,
    checked_choice,
    head_counts,
    layers_of,
    neuron_counts,
    projection_of,
)


class Gates:
    """Factors before some products of a model, until they are removed.

    As a context manager it removes them at the end of the block.
    """

    def __init__(self) -> None:
        self.handles: list[Any] = []

    def add(self, product: nn.Module, factors: torch.Tensor, width: int) -> None:
        """Multiply what `product` reads.

        Args:
            product: its input is `(B, T, G * width)`.
            factors: `(G,)`, or `(B, G)` for factors of each row's own.
            width: neighbours that share a factor: D for heads, 1 for neurons.
        """

        def gate(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            context = inputs[0]
            spread = factors.to(context).repeat_interleave(width, dim=-1)  # (..., G * width)
            return (context * (spread[:, None] if spread.ndim == 2 else spread), *inputs[1:])

        self.handles.append(product.register_forward_pre_hook(gate))

    def remove(self) -> None:
        """Take them away; the model is as it was."""
        for handle in self.handles:
            handle.remove()
        self.handles.clear()

    def __enter__(self) -> "Gates":
        return self

    def __exit__(self, *error: Any) -> None:
        self.remove()


def head_gates(model: nn.Module, factors: list[torch.Tensor], part: str = "encoder") -> Gates:
    """A factor for every head: `(H,)` or `(B, H)` for each layer."""
    gates = Gates()
    for layer, each in zip(layers_of(model, part), factors, strict=True):
        gates.add(projection_of(layer, part), each, attention_of(layer, part).head_dim)
    return gates


def neuron_gates(model: nn.Module, factors: list[torch.Tensor], part: str = "encoder") -> Gates:
    """A factor for every inner neuron: `(I,)` or `(B, I)` for each layer."""
    gates = Gates()
    for layer, each in zip(layers_of(model, part), factors, strict=True):
        gates.add(layer.outer, each, 1)
    return gates


def mask_heads(
    model: nn.Module, heads: Mapping[int, Iterable[int]], *, part: str = "encoder"
) -> Gates:
    """Switch heads off until the result is removed, or to the end of a `with` block.

    The transformers library took its own `head_mask` away in version 5.

    Args:
        model: a BertLite or TransformerLite model, with any head, or a module that holds one.
        heads: numbers of heads by number of layer, both from 0.
        part: "encoder", "decoder" (its look at itself) or "cross" (its look at the source).

    Returns:
        What undoes it, by `remove()`.

    Raises:
        ValueError: a part, a layer or a head that there is not.

    >>> import bertlite
    >>> from bertlite.inspection import mask_heads
    >>> model = bertlite.BertLiteModel(bertlite.preset("bert-tiny")).eval()
    >>> with mask_heads(model, {0: [1], 1: [0]}):
    ...     vectors = model(input_ids=torch.tensor([[5, 6, 7]])).last_hidden_state
    """
    counts = head_counts(model, part)
    return head_gates(model, zeros_at(checked_choice("heads", heads, counts), counts), part)


def mask_neurons(
    model: nn.Module, neurons: Mapping[int, Iterable[int]], *, part: str = "encoder"
) -> Gates:
    """Switch inner neurons of the feed-forward off, as `mask_heads` does heads.

    Args:
        model: as there.
        neurons: numbers of neurons by number of layer, both from 0.
        part: "encoder" or "decoder".

    Returns:
        What undoes it, by `remove()`.

    Raises:
        ValueError: a part, a layer or a neuron that there is not.
    """
    counts = neuron_counts(model, part)
    return neuron_gates(model, zeros_at(checked_choice("neurons", neurons, counts), counts), part)


def zeros_at(chosen: dict[int, list[int]], counts: list[int]) -> list[torch.Tensor]:
    """Factors of each layer: 0 for what was chosen, 1 for all others."""
    factors = [torch.ones(count) for count in counts]
    for layer, numbers in chosen.items():
        factors[layer][numbers] = 0.0
    return factors
