"""What to cut for a given speed: the least important for what it costs, and how fast the rest is.

Heads and blocks of inner neurons compete: each has an importance (the Fisher information of
`gradient_importance`, which adds up) and a cost (its weights), and what is worth least for its cost
goes first, in whatever layer it stands. The speed is measured, not counted: the share of weights to
cut is halved in on until the smaller model runs as fast as asked.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from .importance import Importance, evaluating
from .layer_parts import attention_of, layers_of
from .pruning import prune

BLOCK = 32  # neurons that are cut together: matrices of such widths are multiplied fast
STEPS = 5  # halvings of the share
CAREFUL = 9  # rounds before a speed is refused


@dataclass(frozen=True)
class Cut:
    """What is cut out of an encoder.

    Attributes:
        heads: numbers of heads by layer.
        neurons: numbers of inner neurons by layer.
        layers: numbers of whole layers.
    """

    heads: dict[int, list[int]] = field(default_factory=dict)
    neurons: dict[int, list[int]] = field(default_factory=dict)
    layers: list[int] = field(default_factory=list)

    def apply(self, model: Any) -> Any:
        """The smaller model; `model` stays as it is."""
        return prune(model, heads=self.heads, neurons=self.neurons, layers=self.layers)


def cut_by_importance(model: Any, importance: Importance, share: float) -> Cut:
    """Cut about a share of the weights of the layers, the least important for their cost first.

    A head and a block of neurons stay in each layer.

    Args:
        model: the model of which `importance` was measured.
        importance: of its encoder, with power 2.
        share: of the weights of heads and inner neurons, from 0 to 1.
    """
    layers = layers_of(model, "encoder")
    pieces: list[tuple[float, int, str, int, list[int]]] = []  # worth, layer, kind, cost, numbers
    for number, layer in enumerate(layers):
        width, size = layer.inner.in_features, attention_of(layer, "encoder").head_dim
        ranked = importance.heads[number].argsort().tolist()
        for head in ranked[:-1]:
            cost = 4 * width * size
            worth = float(importance.heads[number][head]) / cost
            pieces.append((worth, number, "heads", cost, [head]))
        values, order = importance.neurons[number].sort()
        for start in range(0, len(order) - BLOCK, BLOCK):
            block, cost = order[start : start + BLOCK].tolist(), 2 * width * BLOCK
            worth = float(values[start : start + BLOCK].sum()) / cost
            pieces.append((worth, number, "neurons", cost, block))
    wanted = share * weights_of(layers)
    found: dict[str, dict[int, list[int]]] = {"heads": {}, "neurons": {}}
    for _, number, kind, cost, numbers in sorted(pieces):
        if wanted < cost:
            break
        wanted -= cost
        found[kind].setdefault(number, []).extend(numbers)
    return Cut(found["heads"], found["neurons"])


def weights_of(layers: Sequence[Any]) -> int:
    """Weights of heads and inner neurons, without biases."""
    return sum(
        4 * attention_of(layer, "encoder").query.weight.numel() + 2 * layer.inner.weight.numel()
        for layer in layers
    )


def cut_top_layers(model: Any, count: int) -> Cut:
    """The last layers: of the ways to drop whole ones the hardest to beat (Sajjad et al. 2020)."""
    there = len(layers_of(model, "encoder"))
    return Cut(layers=list(range(there - count, there)))


def cut_for_speed(
    model: Any, importance: Importance, speed: float, batches: Sequence[Mapping[str, Any]]
) -> tuple[Cut, float]:
    """The smallest cut by importance that runs `speed` times as fast on these batches.

    Returns:
        The cut, and how many times as fast it is.

    Raises:
        ValueError: even the largest cut is slower; it says how fast that is.
    """
    low, high = 0.0, 1.0
    best: tuple[Cut, float] | None = None
    for step in range(STEPS + 1):
        share = 1.0 if step == 0 else (low + high) / 2
        cut = cut_by_importance(model, importance, share)
        smaller = cut.apply(model)
        found = measured_speed(model, smaller, batches)
        if best is None and found < speed:  # by chance, perhaps
            found = measured_speed(model, smaller, batches, CAREFUL)
        if found >= speed:
            best, high = (cut, found), share
        elif best is None:
            raise ValueError(
                f"speed must be at most {found:.2f} for this model and these texts, got {speed}: "
                "that is how fast it is with one head and one block of neurons a layer"
            )
        else:
            low = share
    return best  # type: ignore[return-value]


def layers_for_speed(
    model: Any, speed: float, batches: Sequence[Mapping[str, Any]]
) -> tuple[Cut, float]:
    """The fewest last layers without which the model runs `speed` times as fast, likewise."""
    found = 0.0
    for count in range(1, len(layers_of(model, "encoder"))):
        cut = cut_top_layers(model, count)
        found = measured_speed(model, cut.apply(model), batches)
        if found >= speed:
            break
    return cut, found


def measured_speed(
    model: Any, other: Any, batches: Sequence[Mapping[str, Any]], rounds: int = 3
) -> float:
    """How many times as fast `other` is as `model`: both in turn on each batch, best times.

    The best time and not the median: other work on the machine makes times longer and never
    shorter, so that the best of a few rounds is nearest to what the model itself takes, while a
    median still holds what half of the rounds were disturbed by. Fifteen measurements of one pair
    on a busy machine spread by 0.011 with best times and by 0.016 with medians or means. What is
    saved is measured once more, in more rounds, since the search stops where a measurement happens
    to be high. On one thread the process's own time is taken.

    Args:
        model: what is compared with.
        other: what is measured.
        batches: inputs without labels.
        rounds: times that each batch is computed by each of them, after once to warm up.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    times: dict[int, list[list[float]]] = {0: [], 1: []}
    with torch.no_grad(), evaluating(model), evaluating(other):
        for batch in batches:
            pair: tuple[list[float], list[float]] = ([], [])
            for round_ in range(rounds + 1):
                order = ((0, model), (1, other))
                for place, each in order if round_ % 2 else order[::-1]:
                    start = clock()
                    each(**batch)
                    if round_:
                        pair[place].append(clock() - start)
            for place in (0, 1):
                times[place].append(pair[place])
    totals = [sum(min(each) for each in times[place]) for place in (0, 1)]
    return totals[0] / totals[1]
