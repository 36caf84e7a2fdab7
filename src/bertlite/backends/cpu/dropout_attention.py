"""Attention with dropout for training on a CPU.

The formula of `models.attention`, as one node of autograd's graph.

A batch holds some twenty runs of sequences of equal length, and the formula costs some forty small
operations a run, forward and backward, whose bookkeeping takes longer than their arithmetic. Here
the whole is one node, and its gradient is written by hand. Values, gradients and random numbers are
those of the formula, which is what copies of the models use that travel without bertlite. `import
bertlite` enters this into transformers' registry of attention functions with the first model that
is asked for, and `models.attention` finds it there.

Shapes: `N` real tokens, `H` heads, `D` head size.
"""

from collections.abc import Callable

import torch
from torch.autograd import forward_ad
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ...models.attention import attend_each_sequence
from ...models.linear import drop
from ...models.masking import equal_length_groups

HELD = 6  # tensors of a run that its gradient needs


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
    target.view(count, length, *target.shape[1:]).transpose(1, 2).copy_(
        made.unflatten(0, (count, -1))
    )


class DroppedAttention(torch.autograd.Function):
    """dropout(softmax(Q Kᵀ · scaling)) V for each run of `(how many, their length)` in `groups`.

    All `(N, H, D)`.
    """

    @staticmethod
    def forward(ctx, query, key, value, groups, scaling, dropout):
        context, held, start = torch.empty_like(query), [], 0
        for count, length in groups:
            rows = slice(start, start := start + count * length)
            q, k, v = (heads_first(tensor[rows], count, length) for tensor in (query, key, value))
            weights = torch.bmm(q, k.mT).mul_(scaling).softmax(-1)  # (count · H, length, length)
            kept = drop(
                torch.ones_like(weights[:1, :1, :1]).expand_as(weights), dropout, training=True
            )
            dropped = weights * kept
            put_heads(context[rows], torch.bmm(dropped, v), count, length)
            held += [q, k, v, weights, kept, dropped]
        ctx.save_for_backward(query, key, value, *held)
        ctx.groups, ctx.scaling = groups, scaling
        return context

    @staticmethod
    def backward(ctx, gradient):
        saved = ctx.saved_tensors
        inputs, rest = saved[:3], saved[3:]
        runs = [rest[place : place + HELD] for place in range(0, len(rest), HELD)]
        if torch.is_grad_enabled():
            masks = [run[4] for run in runs]
            return (
                *derivable(inputs, ctx.needs_input_grad, ctx.groups, ctx.scaling, masks, gradient),
                None,
                None,
                None,
            )
        made, start = [torch.empty_like(tensor) for tensor in inputs], 0
        for (count, length), (q, k, v, weights, kept, dropped) in zip(
            ctx.groups, runs, strict=True
        ):
            rows = slice(start, start := start + count * length)
            g = heads_first(gradient[rows], count, length)  # (count · H, length, D)
            of_weights = torch.bmm(g, v.mT).mul_(kept)
            of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype).mul_(
                ctx.scaling
            )
            gradients = (
                torch.bmm(of_scores, k),
                torch.bmm(of_scores.mT, q),
                torch.bmm(dropped.mT, g),
            )
            for target, found in zip(made, gradients, strict=True):
                put_heads(target[rows], found, count, length)
        return *made, None, None, None


def derivable(inputs, needed, groups, scaling, masks, gradient) -> list[torch.Tensor | None]:
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


def attend_dropping(
    attend: Callable,
    module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_lens: torch.Tensor,
    scaling: float,
    dropout: float,
) -> torch.Tensor:
    """`models.attention.attend_each_sequence`, with the same arguments and results, where only the
    formula would do.
    """
    groups = equal_length_groups(cu_seq_lens)
    plain = type(query) is not torch.Tensor or torch._C._are_functorch_transforms_active()
    if (
        plain
        or forward_ad._current_level >= 0
        or sum(count * length for count, length in groups) != query.shape[2]
    ):
        return attend_each_sequence(
            attend, module, query, key, value, cu_seq_lens, scaling=scaling, dropout=dropout
        )
    rows = (tensor.squeeze(0).transpose(0, 1) for tensor in (query, key, value))  # (N, H, D)
    return DroppedAttention.apply(*rows, groups, scaling, dropout).unsqueeze(0)


ALL_ATTENTION_FUNCTIONS.register("bertlite_dropping", attend_dropping)
