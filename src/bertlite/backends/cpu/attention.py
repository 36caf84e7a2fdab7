"""Attention over sequences laid end to end, on a CPU.

Each run of sequences of equal length is one call, without a mask.

Shapes: `B` batch, `N` real tokens, `H` heads, `T` queries, `S` keys, `D` head size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ...models.attention import eager_attention
from ...models.masks import is_near
from .dropout_attention import DroppedAttention, Groups, suits_one_node
from .linear import drop


def dropping_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """`eager_attention` with dropout masks drawn as `linear.drop` draws them.

    `attention_mask` is None, or added to the scores.
    """
    scores = query @ key.mT * scaling  # (B, H, T, S)
    weights = (scores if attention_mask is None else scores + attention_mask).softmax(-1)
    context = drop(weights, dropout, module.training) @ value
    return context.transpose(1, 2), None


@dataclass(frozen=True)
class FlatAttention:
    """An attention function for `Attention`, for a batch whose sequences are laid end to end.

    Args:
        groups: runs of neighbours of equal length: how many, and their length.
    """

    groups: Groups

    def __call__(
        self,
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float,
        dropout: float = 0.0,
        sliding_window: int | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, None]:
        """`(1, H, N, D)` each to the context `(1, N, H, D)`; the weights are not given.

        `attention_mask` is None, or a bias of the scores by the distance of two tokens,
        `(1, H or 1, T, T)` for the longest sequence, of which others have the corner. That of a
        window hides nothing of a sequence of `sliding_window` tokens or fewer.
        """
        bias = attention_mask
        if not self.groups:
            return query.transpose(1, 2), None
        attend = self.function_of(module, dropout)
        if attend is dropping_attention and bias is None and suits_one_node(query):
            # (N, H, D) each
            rows = (tensor.squeeze(0).transpose(0, 1) for tensor in (query, key, value))
            return DroppedAttention.apply(*rows, self.groups, scaling, dropout)[None], None
        sizes = [count * length for count, length in self.groups]
        # One split of each tensor: its gradient is one concatenation, where slices would each fill
        # a tensor with zeros.
        queries, keys, values = (
            tensor.squeeze(0).split(sizes, dim=1) for tensor in (query, key, value)
        )
        context = []
        for (count, length), *block in zip(self.groups, queries, keys, values, strict=True):
            # (count, H, length, D) each
            q, k, v = (piece.unflatten(1, (count, length)).transpose(0, 1) for piece in block)
            mask = None if bias is None else bias[..., :length, :length]
            if sliding_window is not None and length <= sliding_window:
                mask = None
            made, _ = attend(module, q, k, v, mask, scaling=scaling, dropout=dropout)
            context.append(made.flatten(0, 1))  # (count * length, H, D)
        return torch.cat(context).unsqueeze(0), None

    def function_of(self, module: Any, dropout: float) -> Callable:
        """The function to call for a run."""
        name = module.config._attn_implementation
        if name == "sdpa" and dropout > 0:  # torch's fused attention has no dropout on a CPU
            return dropping_attention
        return ALL_ATTENTION_FUNCTIONS.get_interface(name, eager_attention)


def window_mask(length: int, window: int, like: torch.Tensor) -> torch.Tensor:
    """What is added to the scores of `length` tokens that see those at most `window` apart.

    `(1, 1, length, length)`, of the type and on the device of `like`.
    """
    far = ~is_near(length, window, like.device)
    return like.new_zeros(1, 1, length, length).masked_fill_(far, -torch.inf)


def attend_by_products(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """softmax(Q Kᵀ · scaling + mask) V by two batched products, for frozen inference.

    It holds all scores at a time, and is faster than torch's fused kernel where rows are short or
    a head has few queries.

    Args:
        query: `(B, H, T, D)`.
        key: `(B, H, S, D)`, whose first two sides join without a copy, and so is `value`.
        scaling: of the scores.
        mask: added to them, as `(B, 1, T, S)`.

    Returns:
        `(B, H, T, D)`.
    """
    queries, keys, values = (tensor.flatten(0, 1) for tensor in (query, key, value))
    scores = torch.baddbmm(query.new_empty(1), queries, keys.mT, beta=0, alpha=scaling)
    if mask is not None:
        scores.view(*query.shape[:3], -1).add_(mask)
    return torch.bmm(scores.softmax(-1), values).view(query.shape)
