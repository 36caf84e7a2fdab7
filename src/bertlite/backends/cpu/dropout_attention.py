"""Attention with dropout for training on a CPU: the formula, as one node of autograd's graph.

A batch holds some twenty runs of sequences of equal length, and the formula costs some forty small
operations a run, forward and backward, whose bookkeeping takes longer than their arithmetic. Here
the whole is one node, and its gradient is written by hand. Values, gradients and random numbers are
those of the formula (`models.attention.eager_attention`); a test holds them equal.

Shapes: `N` real tokens, `H` heads, `D` head size.
"""

import torch
from torch.autograd import forward_ad

from .linear import drop

HELD = 6  # tensors of a run that its gradient needs
Groups = list[tuple[int, int]]  # runs of sequences of equal length: how many, and their length


def heads_first(tensor: torch.Tensor, count: int, length: int) -> torch.Tensor:
    """`(count · length, H, D)` to `(count · H, length, D)`; a view where there is one sequence."""
    if count == 1:
        return tensor.transpose(0, 1)
    return tensor.unflatten(0, (count, length)).transpose(1, 2).flatten(0, 1)


def put_heads(target: torch.Tensor, made: torch.Tensor, count: int, length: int) -> None:
    """Write `(count · H, length, D)` into `(count · length, H, D)`."""
    if count == 1:
        target.transpose(0, 1).copy_(made)
        return
    rows = target.view(count, length, *target.shape[1:])
    rows.transpose(1, 2).copy_(made.unflatten(0, (count, -1)))


class DroppedAttention(torch.autograd.Function):
    """dropout(softmax(Q Kᵀ · scaling)) V for each of `groups`; inputs `(N, H, D)` each."""

    @staticmethod
    def forward(ctx, query, key, value, groups, scaling, dropout):
        context, held, start = torch.empty_like(query), [], 0
        for count, length in groups:
            rows = slice(start, start := start + count * length)
            q, k, v = (heads_first(tensor[rows], count, length) for tensor in (query, key, value))
            weights = torch.bmm(q, k.mT).mul_(scaling).softmax(-1)  # (count · H, length, length)
            ones = torch.ones_like(weights[:1, :1, :1]).expand_as(weights)
            kept = drop(ones, dropout, training=True)
            dropped = weights * kept
            put_heads(context[rows], torch.bmm(dropped, v), count, length)
            held += [q, k, v, weights, kept, dropped]
        ctx.save_for_backward(query, key, value, *held)
        ctx.groups, ctx.scaling = groups, scaling
        return context

    @staticmethod
    def backward(ctx, gradient):
        query, key, value, *held = ctx.saved_tensors
        runs = [held[place : place + HELD] for place in range(0, len(held), HELD)]
        if torch.is_grad_enabled():
            masks = [run[4] for run in runs]
            inputs = (query, key, value)
            needed = ctx.needs_input_grad
            made = derivable(inputs, needed, ctx.groups, ctx.scaling, masks, gradient)
            return *made, None, None, None
        of_query, of_key, of_value = (torch.empty_like(each) for each in (query, key, value))
        start = 0
        for (count, length), (q, k, v, weights, kept, dropped) in zip(
            ctx.groups, runs, strict=True
        ):
            rows = slice(start, start := start + count * length)
            g = heads_first(gradient[rows], count, length)  # (count · H, length, D)
            made = gradients_of_run(g, q, k, v, weights, kept, dropped, ctx.scaling)
            for target, found in zip((of_query, of_key, of_value), made, strict=True):
                put_heads(target[rows], found, count, length)
        return of_query, of_key, of_value, None, None, None


def gradients_of_run(
    gradient: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    weights: torch.Tensor,
    kept: torch.Tensor,
    dropped: torch.Tensor,
    scaling: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradients of a run's queries, keys and values, by hand.

    `weights` `(count · H, length, length)` are the softmax, `kept` the dropout's factors, and
    `dropped` their product; the others are `(count · H, length, D)`.
    """
    of_weights = torch.bmm(gradient, value.mT).mul_(kept)
    of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
    of_scores = of_scores.mul_(scaling)
    of_query = torch.bmm(of_scores, key)
    return of_query, torch.bmm(of_scores.mT, query), torch.bmm(dropped.mT, gradient)


def derivable(
    inputs: tuple[torch.Tensor, ...],
    needed: tuple[bool, ...],
    groups: Groups,
    scaling: float,
    masks: list[torch.Tensor],
    gradient: torch.Tensor,
) -> list[torch.Tensor | None]:
    """The same gradients by torch's own, for those who derive them once more."""
    pieces, start = [], 0
    for (count, length), mask in zip(groups, masks, strict=True):
        rows = slice(start, start := start + count * length)
        q, k, v = (heads_first(tensor[rows], count, length) for tensor in inputs)
        made = (q @ k.mT * scaling).softmax(-1) * mask @ v  # (count · H, length, D)
        pieces.append(made.unflatten(0, (count, -1)).transpose(1, 2).flatten(0, 1))
    wanted = [tensor for tensor, need in zip(inputs, needed, strict=False) if need]
    found = iter(torch.autograd.grad(torch.cat(pieces), wanted, gradient, create_graph=True))
    return [next(found) if need else None for need in needed[: len(inputs)]]


def suits_one_node(query: torch.Tensor) -> bool:
    """Whether a gradient by hand will do: no transforms of functorch, no forward mode."""
    transformed = torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
    return type(query) is torch.Tensor and not transformed
