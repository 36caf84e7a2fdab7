"""Explanations as figures, by matplotlib, for notebooks and papers."""

from typing import Any

import torch

from .attention import AttentionMaps
from .attribution import Attribution
from .explanation import Explanation
from .targets import shown

FOR, AGAINST = "#0072b2", "#d55e00"  # told apart without colour vision; the side of 0 says it too


def pyplot() -> Any:
    """Matplotlib's pyplot; an ImportError with the hint where it is missing."""
    try:
        import matplotlib.pyplot
    except ImportError as error:
        hint = 'figures need matplotlib: pip install "bertlite[inspection]"'
        raise ImportError(hint) from error
    return matplotlib.pyplot


def plot_attribution(found: Attribution, axes: Any = None) -> Any:
    """A bar for each word, first word on top: to the right for the target, to the left against.

    Args:
        found: from `attribute`.
        axes: where to draw; None: a new figure.

    Returns:
        The axes.
    """
    words = found.words()
    if axes is None:
        _, axes = pyplot().subplots(figsize=(6, 0.6 + 0.22 * len(words)), layout="constrained")
    scores = [word.score for word in words]
    axes.barh(range(len(words)), scores, color=[FOR if s >= 0 else AGAINST for s in scores])
    axes.set_yticks(range(len(words)), [word.word for word in words])
    axes.invert_yaxis()
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set_xlabel(f"{found.unit}: against, and for, {found.target}")
    axes.set_title(f"{found.method}\n{found.target}: {shown(found.value, found.unit)}", size=10)
    return axes


def plot_explanation(explanation: Explanation, axes: Any = None) -> Any:
    """The first text's first target by each method, side by side.

    Args:
        explanation: from `explain`.
        axes: as many as there are methods; None: a new figure.
    """
    found = list(explanation.texts[0].targets[0].attributions.values())
    if axes is None:
        height = 0.9 + 0.22 * len(found[0].words())
        _, axes = pyplot().subplots(
            1, len(found), figsize=(3.4 * len(found), height), layout="constrained", squeeze=False
        )
        axes = axes[0]
    for each, panel in zip(found, axes, strict=True):
        plot_attribution(each, panel)
    return axes


def plot_heads(maps: AttentionMaps, *, kind: str = "encoder") -> Any:
    """Every head as a small picture, rows of layers: who (row) attends to whom (column).

    Args:
        maps: from `attention_maps`, or norms from `value_weighted_norms`.
        kind: "encoder", "decoder" or "cross".

    Returns:
        The figure.

    Raises:
        ValueError: another kind, or one that the model does not have.
    """
    layers = maps.maps(kind)
    columns = max(len(layer) for layer in layers)
    figure, panels = pyplot().subplots(
        len(layers), columns, figsize=(0.8 * columns, 0.8 * len(layers)), squeeze=False
    )
    for number, (layer, row) in enumerate(zip(layers, panels, strict=True)):
        for panel in row:
            panel.set(xticks=[], yticks=[])
            panel.axis("off")
        for weights, panel in zip(layer, row, strict=False):
            panel.axis("on")
            panel.imshow(torch.sqrt(weights), cmap="Blues", vmin=0)
        row[0].set_ylabel(f"layer {number + 1}", size=8)
    return figure
