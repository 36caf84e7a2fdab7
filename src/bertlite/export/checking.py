"""What was written, held against the model that it was written from.

Shapes: `B` batch, `T` length.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from ..inference.encode import finished
from ..inference.pooling import pool
from .plans import Batch, make_batch
from .sources import Source

TOLERANCE = 1e-4  # of the largest value, or of 1 where that is smaller
# Lengths of the rows of a batch, and the side of their padding.
SHAPES: tuple[tuple[tuple[int, ...], str], ...] = (
    ((3,), "right"),
    ((17, 4, 9), "right"),
    ((11, 2), "left"),
    ((33, 64, 1, 20), "right"),
)
Compared = Iterator[tuple[str, np.ndarray, np.ndarray]]  # an output: as computed, as expected
Compute = Callable[[dict[str, np.ndarray]], list[np.ndarray]]


def expected_outputs(source: Source, batch: Batch) -> list[torch.Tensor]:
    """What the model itself gives for a batch, in the order of its task's outputs."""
    with torch.no_grad():
        if source.task.name != "embed":
            found = source.model(**batch)
            return [found[name] for name in source.task.outputs]
        states = source.encoder(**batch).last_hidden_state
        mask = batch["attention_mask"]
        rows = [row[real.bool()] for row, real in zip(states, mask, strict=True)]
        pooled = [
            pool(row[None], torch.ones(1, len(row), dtype=torch.long), source.recipe.poolings)
            for row in rows
        ]
        vectors = finished(torch.cat(pooled), source.recipe, source.recipe.normalize)
        return [states, vectors]


def check_batches(source: Source) -> Iterator[Batch]:
    """Batches of several shapes, padded on either side, one of them as long as the model reads."""
    limit = min(source.max_length, 512)
    for seed, (lengths, side) in enumerate(SHAPES):
        # A head that reads the first position reads padding, which is other padding here.
        at = "right" if side == "left" and not reads_tokens(source) else side
        yield make_batch(source, [min(each, limit) for each in lengths], at, seed)
    yield make_batch(source, (limit,), "right", len(SHAPES))


def reads_tokens(source: Source) -> bool:
    """Whether every output is of tokens, or of vectors pooled over real ones."""
    return all(source.task.per_token) or source.task.name == "embed"


def compared(source: Source, compute: Compute) -> Compared:
    """Each output of each batch: its name, as computed and as expected, at real tokens only."""
    for batch in check_batches(source):
        found = compute({name: tensor.numpy() for name, tensor in batch.items()})
        expected = expected_outputs(source, batch)
        real = batch["attention_mask"].bool().numpy()
        task = source.task
        for name, per_token, one, other in zip(
            task.outputs, task.per_token, found, expected, strict=True
        ):
            theirs = other.numpy()
            if one.shape != theirs.shape:
                raise ValueError(
                    f"export: the graph's {name} must have shape {theirs.shape}, got {one.shape}"
                )
            yield (name, one[real], theirs[real]) if per_token else (name, one, theirs)


def check_exact(outputs: Compared) -> dict[str, Any]:
    """Hold the outputs of a graph in fp32 to the model's.

    Returns:
        The largest difference of each output.

    Raises:
        ValueError: one is above `TOLERANCE`, or no number.
    """
    largest: dict[str, float] = {}
    for name, found, expected in outputs:
        difference = largest_difference(found, expected)
        if not difference <= TOLERANCE:
            raise ValueError(
                f"export: {name} of the graph must be within {TOLERANCE:g} of the model's, got a "
                f"difference of {difference:.2e} on {found.shape}; nothing was written"
            )
        largest[name] = max(largest.get(name, 0.0), difference)
    return {"largest_difference": largest}


def largest_difference(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, in units of the largest expected value or of 1; NaN for NaN."""
    if not found.size:
        return 0.0
    scale = max(1.0, float(np.abs(expected).max()))
    return float(np.abs(found.astype(np.float64) - expected).max()) / scale


def compare_roughly(outputs: Compared) -> dict[str, Any]:
    """How near the outputs of a graph in int8 are to the model's, where no rows say what it costs.

    Returns:
        Of each output the mean cosine of its vectors to the model's, and how often the largest
        number of a vector stands at the same place.

    Raises:
        ValueError: numbers that are none.
    """
    cosines: dict[str, list[np.ndarray]] = {}
    agreements: dict[str, list[np.ndarray]] = {}
    for name, found, expected in outputs:
        if not np.isfinite(found).all():
            raise ValueError(f"export: {name} of the graph must be finite; nothing was written")
        one, other = (each.reshape(-1, each.shape[-1]) for each in (found, expected))
        if name.endswith(("start_logits", "end_logits")):  # a number a token
            one, other = one.reshape(1, -1), other.reshape(1, -1)
        norms = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
        cosines.setdefault(name, []).append((one * other).sum(-1) / np.maximum(norms, 1e-12))
        agreements.setdefault(name, []).append(one.argmax(-1) == other.argmax(-1))
    return {
        "cosine": {name: float(np.concatenate(each).mean()) for name, each in cosines.items()},
        "agreement": {
            name: float(np.concatenate(each).mean()) for name, each in agreements.items()
        },
    }
