"""The removal of padding inside a graph that `torch.compile` records.

There, no decision may depend on values: the layout is made by tensor operations, the number of real
tokens is a size that the graph does not know, and attention is one opaque operator that looks at
the lengths when it runs.

Shapes: `B` batch, `T` length, `N` real tokens, `H` heads, `D` head size, `E` hidden size.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ...models.inputs import TextBatch
from ..unpadding import TokenLayout, equal_length_groups
from .dropout_attention import gradients_of_run, heads_first, put_heads


def weights_of_run(
    query: torch.Tensor, key: torch.Tensor, scaling: float, dropout: float, generator: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Softmax, what dropout keeps of it (as factors), and their product: `(count · H, T, T)`."""
    weights = (torch.bmm(query, key.mT) * scaling).softmax(-1)
    kept = torch.ones_like(weights)
    if dropout:
        drawn = torch.rand(weights.shape, generator=generator)
        kept = (drawn >= dropout).to(weights.dtype) / (1 - dropout)
    return weights, kept, weights * kept


def runs_of(lengths: torch.Tensor) -> Iterator[tuple[slice, int, int]]:
    """The rows, the number and the length of the sequences of each run of equal length."""
    start = 0
    for count, length in equal_length_groups(lengths.tolist()):
        yield slice(start, start := start + count * length), count, length


@torch.library.custom_op("bertlite::attend_end_to_end", mutates_args=())
def attend_end_to_end(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: torch.Tensor,
    scaling: float,
    dropout: float,
    seed: torch.Tensor,
) -> torch.Tensor:
    """Attention of sequences laid end to end, `(N, H, D)` each, of `lengths`; zeros count not.

    The same seed drops the same weights, so that the backward pass need keep none.
    """
    generator = torch.Generator().manual_seed(int(seed))
    context = torch.empty_like(query)
    for rows, count, length in runs_of(lengths):
        q, k, v = (heads_first(each[rows], count, length) for each in (query, key, value))
        _, _, dropped = weights_of_run(q, k, scaling, dropout, generator)
        put_heads(context[rows], torch.bmm(dropped, v), count, length)
    return context


@torch.library.custom_op("bertlite::attend_end_to_end_backward", mutates_args=())
def attend_end_to_end_backward(
    gradient: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: torch.Tensor,
    scaling: float,
    dropout: float,
    seed: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Its gradients, from the same weights, computed once more."""
    generator = torch.Generator().manual_seed(int(seed))
    made = (torch.empty_like(query), torch.empty_like(key), torch.empty_like(value))
    for rows, count, length in runs_of(lengths):
        g, q, k, v = (
            heads_first(each[rows], count, length) for each in (gradient, query, key, value)
        )
        drawn = weights_of_run(q, k, scaling, dropout, generator)
        found = gradients_of_run(g, q, k, v, *drawn, scaling)
        for target, one in zip(made, found, strict=True):
            put_heads(target[rows], one, count, length)
    return made


@attend_end_to_end.register_fake
def _(query, key, value, lengths, scaling, dropout, seed):
    return query.new_empty(query.shape)


@attend_end_to_end_backward.register_fake
def _(gradient, query, key, value, lengths, scaling, dropout, seed):
    return tuple(tensor.new_empty(tensor.shape) for tensor in (query, key, value))


def keep_inputs(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    """What the backward pass needs."""
    query, key, value, lengths, ctx.scaling, ctx.dropout, seed = inputs
    ctx.save_for_backward(query, key, value, lengths, seed)


def backward(ctx: Any, gradient: torch.Tensor) -> tuple:
    """The gradients of queries, keys and values."""
    query, key, value, lengths, seed = ctx.saved_tensors
    made = attend_end_to_end_backward(
        gradient.contiguous(), query, key, value, lengths, ctx.scaling, ctx.dropout, seed
    )
    return *made, None, None, None, None


attend_end_to_end.register_autograd(backward, setup_context=keep_inputs)


@dataclass(frozen=True)
class CompiledAttention:
    """An attention function for `Attention`, inside a recorded graph.

    Args:
        lengths: of the sequences, in order; zeros count not.
    """

    lengths: torch.Tensor

    def __call__(
        self,
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float,
        dropout: float = 0.0,
        **kwargs,
    ) -> tuple[torch.Tensor, None]:
        """`(1, H, N, D)` each to the context `(1, N, H, D)`."""
        rows = (tensor[0].transpose(0, 1).contiguous() for tensor in (query, key, value))
        seed = torch.randint(1 << 40, ()) if dropout else torch.zeros((), dtype=torch.int64)
        context = attend_end_to_end(*rows, self.lengths, scaling, dropout, seed)
        return context[None], None


def encode_in_graph(encoder: Any, batch: TextBatch, **kwargs: Any) -> torch.Tensor:
    """As `TextEncoder.encode` without `positions`: `(B, T, E)`, zero at padding."""
    mask = batch.attention_mask
    if mask is not None and encoder.reads_first_position:
        torch._assert_async(
            (mask[:, 0] != 0).all(),
            "rows that begin with padding need bertlite.use_backend(model, 'plain') under "
            "torch.compile, since the pooler reads their first position",
        )
    layout, lengths = layout_in_graph(batch)
    hidden_states = encoder.embed_batch(layout.take_batch(batch))  # (1, N, E)
    hidden_states = encoder.run_layers(
        hidden_states, None, attention_interface=CompiledAttention(lengths), **kwargs
    )
    hidden_states = encoder.finish(hidden_states)[0]
    padded = hidden_states.new_zeros(batch.shape[0] * batch.shape[1], hidden_states.shape[-1])
    padded = padded.index_copy(0, layout.indices, hidden_states)
    return padded.view(*batch.shape, -1)


def layout_in_graph(batch: TextBatch) -> tuple[TokenLayout, torch.Tensor]:
    """The layout of a batch, and the lengths of its sequences, those that are none as zeros."""
    rows, length = batch.shape
    real = torch.ones(batch.shape, dtype=torch.bool, device=batch.device)
    if batch.attention_mask is not None:
        real = batch.attention_mask.bool()
    sequences = torch.arange(rows, device=batch.device)[:, None].expand(batch.shape)
    if batch.segments is not None:
        sequences = sequences * length + batch.segments
    size = rows * length
    numbers = sequences.masked_fill(~real, size).flatten()  # padding: a sequence of its own
    counts = torch.zeros(size + 1, dtype=torch.int64, device=batch.device)
    sizes = counts.index_add(0, numbers, torch.ones_like(numbers))[:size]
    indices = real.flatten().nonzero().squeeze(-1)  # (N,)
    torch._check(indices.shape[0] > 0)
    keys = (sizes[sequences] * (size + 1) + sequences).flatten()
    indices = indices[keys[indices].argsort(stable=True)]
    return TokenLayout(indices, 0, batch.shape, []), sizes.sort().values
