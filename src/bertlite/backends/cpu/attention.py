"""Attention for frozen inference on a CPU, where torch's fused kernel is slow.

Short rows, or few queries a head.
"""

import torch


def attend_by_products(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """softmax(Q Kᵀ · scaling + mask) V by two batched products, which hold all scores at a time.

    Args:
        query: `(B, H, T, D)`; `key` and `value`: `(B, H, S, D)`, whose first two dimensions join
            without a copy.
        scaling: of the scores.
        mask: added to them, as `(B, 1, T, S)`.

    Returns:
        `(B, H, T, D)`.
    """
    queries, keys, values = (
        tensor.flatten(0, 1) for tensor in (query, key, value)
    )  # (B H, T or S, D)
    scores = torch.baddbmm(query.new_empty(1), queries, keys.mT, beta=0, alpha=scaling)
    if mask is not None:
        scores.view(*query.shape[:3], -1).add_(mask)
    return torch.bmm(scores.softmax(-1), values).view(query.shape)
