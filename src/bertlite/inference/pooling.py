"""From the vectors of a text's tokens to one vector, in the ways of sentence-transformers.

Each text is pooled by itself, over its own tokens only: sums over padded rows depend, in their last
bits, on how long the longest text of the batch is.

Shapes: `B` batch, `T` length, `N` real tokens of a text, `E` hidden size.
"""

from collections.abc import Callable, Sequence

import torch


def weighted_mean(states: torch.Tensor) -> torch.Tensor:
    """Mean in which the n-th token counts n times (Muennighoff 2022, SGPT)."""
    weights = torch.arange(1, len(states) + 1, device=states.device, dtype=states.dtype)  # (N,)
    return (states * weights[:, None]).sum(0) / weights.sum()


# Each from `(N, E)` to `(E,)`.
POOLINGS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "mean": lambda states: states.sum(0) / len(states),
    "cls": lambda states: states[0],
    "max": lambda states: states.amax(0),
    "mean_sqrt_len": lambda states: states.sum(0) / len(states) ** 0.5,
    "weighted_mean": weighted_mean,
    "last": lambda states: states[-1],
}


def pool(
    hidden_states: torch.Tensor,
    attention_mask: torch.Tensor,
    poolings: Sequence[str],
    skipped: int = 0,
) -> torch.Tensor:
    """One vector a row, `(B, len(poolings) * E)` in fp32, from real tokens only.

    Args:
        hidden_states: `(B, T, E)`, padded on the right.
        attention_mask: `(B, T)`.
        poolings: names of `POOLINGS`; the vectors of several stand one behind the other.
        skipped: tokens at the start of each row, those of a prompt, that are left out. As in
            sentence-transformers they count as positions in "weighted_mean".
    """
    rows = []
    lengths = attention_mask.sum(1).tolist()  # one wait for the device, not one a row
    for states, length in zip(hidden_states.float(), lengths, strict=True):
        kept = states[min(skipped, max(length - 1, 0)) : length]  # (N, E)
        rows.append(torch.cat([pool_row(kept, name, length - len(kept)) for name in poolings]))
    return torch.stack(rows)


def pool_row(states: torch.Tensor, name: str, before: int) -> torch.Tensor:
    """`(N, E)` to `(E,)`; `before` tokens stand in front of them. Of no token at all, zeros."""
    if not len(states):
        return states.new_zeros(states.shape[1])
    if name == "weighted_mean" and before:
        weights = torch.arange(before + 1, before + 1 + len(states), device=states.device)  # (N,)
        return (states * weights[:, None]).sum(0) / weights.sum()
    return POOLINGS[name](states)
