"""Integrated gradients (Sundararajan et al. 2017).

The attribution of input i is (xᵢ − bᵢ) times the mean gradient on the straight line from a baseline
b, which says nothing, to the input x. Attributions sum to f(x) − f(b): how far a sum over steps is
from that is reported, and steps are doubled until it is little.

Shapes: `B` steps at a time, `T` tokens, `E` hidden size.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

Score = Callable[[torch.Tensor], torch.Tensor]  # (B, T, E) to (B,)


@dataclass(frozen=True)
class PathIntegral:
    """Attributions, and how well they add up.

    Attributes:
        scores: `(T,)`.
        value: f(x).
        baseline_value: f(b).
        steps: on the line, in the end.
    """

    scores: torch.Tensor
    value: float
    baseline_value: float
    steps: int

    @property
    def delta(self) -> float:
        """How far the sum is from f(x) − f(b): the convergence delta."""
        return float(self.scores.double().sum()) - (self.value - self.baseline_value)

    @property
    def relative_delta(self) -> float:
        """The size of `delta` as a share of |f(x) − f(b)|."""
        gap = abs(self.value - self.baseline_value)
        return abs(self.delta) / gap if gap else float(self.delta != 0) * float("inf")


def integrated_gradients(
    score: Score,
    vectors: torch.Tensor,
    baseline: torch.Tensor,
    *,
    steps: int = 32,
    tolerance: float | None = 0.01,
    max_steps: int = 1024,
    batch_tokens: int = 2048,
) -> PathIntegral:
    """Integrate gradients on the line from `baseline` to `vectors`, `(T, E)` each.

    All steps have the same length, so that they are laid end to end as one batch without padding.

    Args:
        score: f, of rows of vectors; the model should be frozen, for the gradients of its weights
            are not wanted.
        vectors: x.
        baseline: b.
        steps: to begin with; at points of Gauss-Legendre quadrature, as captum's default is.
        tolerance: steps are doubled until the sum is as near to f(x) − f(b), as a share of it;
            None: `steps` it is.
        max_steps: no more than that.
        batch_tokens: tokens computed at a time.

    Returns:
        The integral with the steps that were taken last, however near it came.
    """
    with torch.no_grad():
        ends = score(torch.stack([vectors, baseline])).double().tolist()
    while True:
        scores = path_sum(score, vectors, baseline, steps, batch_tokens)
        found = PathIntegral(scores, ends[0], ends[1], steps)
        near = tolerance is None or found.relative_delta <= tolerance
        if near or 2 * steps > max_steps:
            return found
        steps *= 2


def path_sum(
    score: Score, vectors: torch.Tensor, baseline: torch.Tensor, steps: int, batch_tokens: int
) -> torch.Tensor:
    """The weighted sum of gradients at `steps` points, times x − b, over E: `(T,)`."""
    points, weights = (
        torch.as_tensor(each, dtype=torch.float32, device=vectors.device)
        for each in gauss_legendre(steps)
    )
    start_vectors = baseline.float()
    way = vectors.float() - start_vectors  # (T, E), summed in fp32 whatever the model computes in
    total = torch.zeros_like(way)
    at_once = max(1, batch_tokens // len(way))
    for start in range(0, steps, at_once):
        part = slice(start, start + at_once)
        rows = start_vectors + points[part, None, None] * way  # (B, T, E)
        rows = rows.to(vectors.dtype).requires_grad_()
        (gradients,) = torch.autograd.grad(score(rows).sum(), rows)
        total += torch.einsum("b,bte->te", weights[part], gradients.float())
    return (total * way).sum(-1)


def gauss_legendre(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Points in (0, 1) and weights that sum to 1.

    >>> gauss_legendre(1)
    (array([0.5]), array([1.]))
    """
    points, weights = np.polynomial.legendre.leggauss(steps)
    return (points + 1) / 2, weights / 2
