"""One decoding step after another.

Keys and values in place, beams told apart by a mask, finished sources left out.

Shapes: `B` sources still in work, `K` beams a source, `E` hidden size, `S` source length, `T`
steps, `H` heads, `D` head size, `V` vocabulary filled up to whole blocks.
"""

import torch
from torch import nn

from .attention import attend_by_products
from .decoder_engine import BLOCK, DecoderEngine

# words whose scores decide, and cost next to nothing: 8 bits would be felt where two are nearly
# equal
EXACT = 16


class DecodingState:
    """What has been decoded so far, as keys and values.

    Keys of all beams of a source lie side by side, in the order they were written, and every beam
    looks at all of them through a mask of its own ancestors. So to reorder beams is to reorder rows
    of the mask: no key is ever moved. It costs K times the scores, on keys that have to be read
    anyway. Keys of a source stand once for all its beams.

    Args:
        engine: the packed decoder.
        source: encoder states `(B, S, E)`; `source_mask`: `(B, S)`, non-zero at real tokens, or
            None.
        num_beams: K.
        steps: T, how many steps there is room for.
    """

    def __init__(
        self, engine: DecoderEngine, source: torch.Tensor, source_mask, num_beams: int, steps: int
    ):
        self.engine, self.num_beams, self.step_number = engine, num_beams, 0
        self.likeliest: torch.Tensor | None = None  # (B * K, EXACT) words that were scored again
        self.count, length = source.shape[:2]
        slots, size = steps * num_beams, engine.head_size
        self.own = [
            source.new_empty(2, self.count, layer.heads, slots, size) for layer in engine.layers
        ]  # keys, then values
        self.ancestors = None  # (B, 1, K, T * K), 0 where a beam may look, else -inf
        if num_beams > 1:
            self.ancestors = source.new_full((self.count, 1, num_beams, slots), -torch.inf)
            self.beams = torch.arange(num_beams)
        self.source_bias = None  # (B, 1, 1, S)
        if source_mask is not None and not source_mask.all():
            self.source_bias = torch.zeros(source_mask.shape).masked_fill_(
                ~source_mask.bool(), -torch.inf
            )[:, None, None]
        widths = [2 * layer.cross_heads * size for layer in engine.layers]
        projected = project_source(engine, source, source_mask).split(widths, dim=-1)
        self.source = [
            part.unflatten(-1, (2, -1, size)).permute(2, 0, 3, 1, 4).contiguous()
            for part in projected
        ]  # (2, B, H, S, D)

    def hidden_states(self, tokens: torch.Tensor) -> torch.Tensor:
        """Decode `tokens` `(B * K,)` at the next position; `(B * K, E)`."""
        engine, step = self.engine, self.step_number
        first, end = step * self.num_beams, (step + 1) * self.num_beams
        mask = None
        if self.ancestors is not None:
            self.ancestors[:, 0, self.beams, self.beams + first] = 0.0
            mask = self.ancestors[..., :end]
        hidden = self._embed(tokens, step)  # (B * K, E)
        for layer, own, source in zip(engine.layers, self.own, self.source, strict=True):
            hidden = self._layer(layer, own, source, hidden, mask, first, end)
        self.step_number += 1
        return hidden if engine.final_norm is None else torch.layer_norm(hidden, *engine.final_norm)

    def _embed(self, tokens: torch.Tensor, step: int) -> torch.Tensor:
        """`tokens` `(B * K,)` at position `step` as vectors `(B * K, E)`."""
        engine = self.engine
        hidden = nn.functional.embedding(tokens, engine.words)  # (B * K, E)
        positions = engine.positions[step]  # (E,), or of each token (B * K, E)
        if engine.padding is not None:
            positions = positions * (tokens != engine.padding)[:, None]
        if not engine.adds_positions_last:
            hidden = torch.add(positions, hidden, alpha=engine.scale)
            norm = engine.embedding_norm
            return hidden if norm is None else torch.layer_norm(hidden, *norm)
        return torch.layer_norm(hidden, *engine.embedding_norm) + positions  # never scaled

    def _layer(self, layer, own, source, hidden, mask, first: int, end: int) -> torch.Tensor:
        """One decoder layer: `(B * K, E)` to `(B * K, E)`."""
        before = self.engine.norm_first
        own_norm, cross_norm, inner_norm = layer.norms
        seen = torch.layer_norm(hidden, *own_norm) if before else hidden
        rows, size = (self.count, self.num_beams), self.engine.head_size
        projected = layer.query_key_value(seen).view(*rows, 3, layer.heads, size)
        query, keys_values = (
            projected[:, :, 0].transpose(1, 2),
            projected[:, :, 1:].permute(2, 0, 3, 1, 4),
        )
        own[:, :, :, first:end] = keys_values  # (2, B, H, K, D)
        keys, values = own[..., :end, :].unbind(0)
        hidden = layer.self_output(self._attend(query, keys, values, mask), hidden)
        hidden = seen = hidden if before else torch.layer_norm(hidden, *own_norm)
        if before:
            seen = torch.layer_norm(hidden, *cross_norm)
        query = layer.cross_query(seen).view(*rows, layer.cross_heads, size)
        query = query.transpose(1, 2)  # (B, H, K, D)
        hidden = layer.cross_output(
            self._attend(query, source[0], source[1], self.source_bias), hidden
        )
        hidden = seen = hidden if before else torch.layer_norm(hidden, *cross_norm)
        if before:
            seen = torch.layer_norm(hidden, *inner_norm)
        hidden = layer.outer(self.engine.activation(layer.inner(seen)), hidden)
        return hidden if before else torch.layer_norm(hidden, *inner_norm)

    def _attend(self, query, keys, values, mask) -> torch.Tensor:
        """`(B, H, K, D)` queries to keys `(B, H, L, D)`; `(B * K, H * D)`."""
        if self.num_beams == 1:
            context = nn.functional.scaled_dot_product_attention(query, keys, values, mask)
        else:
            context = attend_by_products(query, keys, values, query.shape[-1] ** -0.5, mask)
        return context.transpose(1, 2).flatten(2).flatten(0, 1)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """`(B * K, E)` to `(B * K, V)`, -inf beyond the real vocabulary.

        In int8 the largest are computed in fp32.
        """
        logits = self.engine.vocabulary(hidden)
        if self.engine.dtype == "int8":
            _, best = largest(logits, min(EXACT, self.engine.vocab_size))  # (B * K, EXACT)
            self.likeliest = best
            weight, bias = self.engine.output
            exact = torch.bmm(weight[best], hidden[:, :, None]).squeeze(-1)
            logits.scatter_(1, best, exact.add_(bias[best]))
        return logits

    def reorder(self, parents: torch.Tensor) -> None:
        """Let beam k go on from beam `parents[b, k]` `(B, K)` of the same source."""
        if self.ancestors is None:
            raise ValueError("num_beams must be above 1 where beams are reordered, got 1")
        used = self.ancestors[
            :, 0, :, : self.step_number * self.num_beams
        ]  # (B, K, steps so far * K)
        used.copy_(used.gather(1, parents[:, :, None].expand_as(used)))

    def keep(self, rows: list[int]) -> None:
        """Go on with some sources only.

        `rows` as `packed_order` gives them, so that few have to be moved.
        """
        self.count = len(rows)
        used = self.step_number * self.num_beams
        moved = [(place, row) for place, row in enumerate(rows) if place != row]
        for place, row in moved:
            for own, source in zip(self.own, self.source, strict=True):
                own[:, place, :, :used] = own[:, row, :, :used]
                source[:, place] = source[:, row]
            for tensor in (self.ancestors, self.source_bias):
                if tensor is not None:
                    tensor[place] = tensor[row]
        self.own = [own[:, : self.count] for own in self.own]
        self.source = [source[:, : self.count] for source in self.source]
        self.ancestors = None if self.ancestors is None else self.ancestors[: self.count]
        self.source_bias = None if self.source_bias is None else self.source_bias[: self.count]


def project_source(engine: DecoderEngine, source: torch.Tensor, source_mask) -> torch.Tensor:
    """Keys and values of all layers `(B, S, layers * 2 * E)`.

    Those of padding are 0 and cost nothing.
    """
    if source_mask is None or source_mask.all():
        return engine.source(source)
    real = source_mask.bool().flatten().nonzero()[:, 0]  # (N,)
    projected = engine.source(source.flatten(0, 1)[real])  # (N, layers * 2 * E)
    filled = projected.new_zeros(source_mask.numel(), projected.shape[-1]).index_copy_(
        0, real, projected
    )
    return filled.view(*source_mask.shape, -1)


def packed_order(leaving: list[bool]) -> list[int]:
    """Which row stands at each place after some have left: the last ones fill the gaps.

    >>> packed_order([False, True, False, False])
    [0, 3, 2]
    """
    staying = [row for row, leaves in enumerate(leaving) if not leaves]
    gaps = [row for row, leaves in enumerate(leaving) if leaves and row < len(staying)]
    beyond = [row for row in staying if row >= len(staying)]
    order = list(range(len(staying)))
    for gap, row in zip(gaps, reversed(beyond), strict=True):
        order[gap] = row
    return order


def largest(scores: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The `count` largest of each row of `(N, V)` in descending order, and where they are.

    The n largest lie in the n blocks with the largest maxima: one quick pass finds these, and the
    slow selection sees a few hundred values instead of all.
    """
    blocks = scores.view(len(scores), -1, BLOCK)  # (N, V / BLOCK, BLOCK)
    maxima = blocks.amax(-1)  # (N, V / BLOCK)
    if count >= maxima.shape[1]:
        return scores.topk(count)
    chosen = maxima.topk(count).indices  # (N, count)
    candidates = blocks.gather(1, chosen[:, :, None].expand(-1, -1, BLOCK)).flatten(
        1
    )  # (N, count * BLOCK)
    values, places = candidates.topk(count)
    return values, chosen.gather(1, places // BLOCK) * BLOCK + places % BLOCK


def first_largest(scores: torch.Tensor) -> torch.Tensor:
    """`argmax` of each row of `(N, V)`, the first where several are equal: `(N,)`."""
    blocks = scores.view(len(scores), -1, BLOCK)
    chosen = blocks.amax(-1).argmax(-1)  # (N,)
    rows = torch.arange(len(scores))
    return chosen * BLOCK + blocks[rows, chosen].argmax(-1)
