"""What must be known of a batch on a GPU before its work can be laid out: in one copy, or in none.

To read a number from a GPU means to wait until all work before it is done, and meanwhile no work is
handed over. So all questions to a batch (how many tokens are real, the longest sequence, how many
vectors are read, whether ids lie in their tables) are answered by one copy. Where the caller knows
the lengths (`BatchLengths`) nothing is asked.

An id out of range would end in a failed assertion inside a look-up, after which the process cannot
use the GPU any more. Where a copy is due anyway, ids are part of it, and a wrong one is a
ValueError before any work. Where a collator has looked at the ids on the host, likewise. Where
neither is so, an assertion of ours stands before the look-up: the process loses the GPU as it would
have, but the error names the argument. To clamp the ids instead and to complain at the next copy
would keep the GPU, and let a training step on wrong words go through first.

Shapes: `B` batch, `T` length, `S` sequences, `N` real tokens.
"""

from dataclasses import dataclass
from typing import Any

import torch

from ...models.embeddings import EmbeddingSteps
from ...models.inputs import (
    BatchLengths,
    TextBatch,
    assert_in_range,
    places_of,
    range_error,
)
from ..unpadding import Places
from .kernels import Ends


class Questions:
    """Numbers on a device, read together."""

    def __init__(self):
        self.asked: dict[str, torch.Tensor] = {}

    def ask(self, name: str, number: torch.Tensor) -> None:
        """Put a question: a tensor of one number."""
        self.asked[name] = number.reshape(()).long()

    def answers(self) -> dict[str, int]:
        """All numbers, by name: the one wait."""
        if not self.asked:
            return {}
        return dict(zip(self.asked, torch.stack(list(self.asked.values())).tolist(), strict=True))


@dataclass
class BatchFacts:
    """What is known of the tokens of a batch."""

    shape: tuple[int, int]  # (B, T)
    tokens: int  # N
    sequences: int  # S; more than B: rows are packed
    longest: int
    shortest: int
    sizes: torch.Tensor | None  # (B,), or (B * T,) where rows are packed, with zeros between
    read: int | None = None  # vectors that are read at `positions`
    counted: tuple[int, ...] = ()  # True ones of `TextBatch.counted`, where they were asked for
    reads_padding: bool = False

    @property
    def is_padded(self) -> bool:
        """Whether a position holds no token."""
        return self.tokens < self.shape[0] * self.shape[1]


@dataclass
class DeviceLayout(Places):
    """Places of tokens in the order in which they come; attention on a GPU wants no other."""

    def places_at(self, positions: torch.Tensor, count: int) -> torch.Tensor:
        """Where the tokens at `count` True `positions` `(B, T)` stand now, `(count,)`."""
        rank = torch.zeros(positions.numel(), dtype=torch.int64, device=positions.device)
        ranks = torch.arange(self.count, device=positions.device)
        rank = rank.index_copy(0, self.indices[: self.count], ranks)
        return rank[places_of(positions, count)]


def real_tokens(mask: torch.Tensor | None, shape: tuple[int, int], device) -> torch.Tensor:
    """`(B, T)` boolean, True at real tokens."""
    if mask is None:
        return torch.ones(shape, dtype=torch.bool, device=device)
    return mask != 0


def sizes_of(real: torch.Tensor, segments: torch.Tensor | None) -> torch.Tensor:
    """Tokens of each sequence: `(B,)`, or `(B * T,)` by number of row and segment, mostly zeros."""
    if segments is None:
        return real.sum(-1)
    batch, length = real.shape
    rows = torch.arange(batch, device=real.device)[:, None]
    numbers = (rows * length + segments).flatten()
    sizes = torch.zeros(batch * length, dtype=torch.int64, device=real.device)
    return sizes.scatter_add(0, numbers, real.flatten().long())


def known_facts(
    mask: torch.Tensor | None,
    segments: torch.Tensor | None,
    shape: tuple[int, int],
    lengths: BatchLengths | None,
) -> BatchFacts | None:
    """The facts of tokens that nobody has to be asked for; None: the device has to be."""
    batch, length = shape
    if lengths is not None:
        each = lengths.sequences
        return BatchFacts(shape, sum(each), len(each), max(each), min(each), None)
    if mask is None and segments is None:
        return BatchFacts(shape, batch * length, batch, length, length, None)
    return None


def ask_tokens(questions: Questions, sizes: torch.Tensor, is_packed: bool) -> None:
    """Ask how long sequences are."""
    low, high = sizes.aminmax()
    questions.ask("tokens", sizes.sum())
    questions.ask("longest", high)
    if is_packed:
        questions.ask("sequences", (sizes > 0).sum())
    else:
        questions.ask("shortest", low)


def told_facts(
    shape: tuple[int, int], sizes: torch.Tensor, is_packed: bool, answers: dict[str, int]
) -> BatchFacts:
    """The facts of tokens, from the answers to `ask_tokens`."""
    sequences = answers["sequences"] if is_packed else shape[0]
    shortest = 1 if is_packed else answers["shortest"]
    return BatchFacts(shape, answers["tokens"], sequences, answers["longest"], shortest, sizes)


def table_limits(encoder: Any, batch: TextBatch) -> list[tuple[str, torch.Tensor, int, str]]:
    """The ids of a batch and the sizes of the tables that they are looked up in."""
    steps = (encoder, getattr(encoder, "embeddings", None))
    tables = next((each for each in steps if isinstance(each, EmbeddingSteps)), None)
    if tables is None:  # somebody's own embedding knows its own limits
        return []
    positions = batch.position_ids if batch.gives_positions else None
    found = [
        ("input_ids", batch.input_ids, tables.word_embeddings, "(vocab_size)"),
        ("position_ids", positions, tables.position_embeddings, "(max_position_embeddings)"),
        ("token_type_ids", batch.token_type_ids, tables.token_type_embeddings, "(type_vocab_size)"),
    ]
    return [
        (name, ids, table.num_embeddings, expected)
        for name, ids, table, expected in found
        if ids is not None and isinstance(getattr(table, "num_embeddings", None), int)
    ]


def check_known_ranges(
    limits: list[tuple[str, torch.Tensor, int, str]], ranges: dict[str, tuple[int, int]]
) -> list[tuple[str, torch.Tensor, int, str]]:
    """Refuse what the host knows to be out of range; what it does not know is returned."""
    unknown = []
    for name, ids, limit, expected in limits:
        if name not in ranges:
            unknown.append((name, ids, limit, expected))
        elif error := range_error(name, *ranges[name], limit, expected):
            raise error
    return unknown


def assert_values(encoder: Any, batch: TextBatch) -> None:
    """Refuse wrong ids of a batch that the plain core will run, without waiting."""
    ranges = {} if batch.lengths is None else batch.lengths.ranges
    for limit in check_known_ranges(table_limits(encoder, batch), ranges):
        assert_in_range(*limit)


def read_batch(
    encoder: Any,
    batch: TextBatch,
    positions: torch.Tensor | None = None,
    num_positions: int | None = None,
    reads_first: bool = False,
) -> BatchFacts:
    """Find out about a batch, with one wait at most.

    Args:
        encoder: whose tables the ids are for.
        batch: checked.
        positions: `(B, T)` boolean, True where a vector is read; None: everywhere.
        num_positions: how many `positions` are True, where the caller knows.
        reads_first: whether the first vector of each row is read.

    Raises:
        ValueError: an id out of range, where a wait was due or the host knows the ids.
    """
    mask, segments, lengths = batch.attention_mask, batch.segments, batch.lengths
    questions, is_packed = Questions(), segments is not None
    ranges = {} if lengths is None else lengths.ranges
    unchecked = check_known_ranges(table_limits(encoder, batch), ranges)
    facts = known_facts(mask, segments, batch.shape, lengths)
    sizes = None
    if facts is None:
        real = real_tokens(mask, batch.shape, batch.device)
        sizes = sizes_of(real, segments)
        ask_tokens(questions, sizes, is_packed)
    elif lengths is not None and mask is not None:
        assert_count("lengths", mask != 0, facts.tokens)
    ask_reading(questions, batch, positions, num_positions, reads_first and lengths is None)
    answers = ask_all(questions, batch, unchecked)
    if facts is None:
        assert sizes is not None
        facts = told_facts(batch.shape, sizes, is_packed, answers)
    facts.read = answers.get("read", num_positions)
    facts.counted = tuple(each for name, each in answers.items() if name.startswith("counted"))
    facts.reads_padding = bool(answers.get("padding read") or answers.get("first padding"))
    return facts


def ask_all(
    questions: Questions, batch: TextBatch, unchecked: list[tuple[str, torch.Tensor, int, str]]
) -> dict[str, int]:
    """The answers, where something was asked; ids are checked with them, or else on the device.

    Raises:
        ValueError: an id out of range.
    """
    if not questions.asked:
        for limits in unchecked:
            assert_in_range(*limits)
        return {}
    ask_ranges(questions, unchecked)
    for number, each in enumerate(batch.counted):
        questions.ask(f"counted {number}", each.sum())
    answers = questions.answers()
    for name, _, limit, expected in unchecked:
        low, high = answers[f"lowest {name}"], answers[f"highest {name}"]
        if error := range_error(name, low, high, limit, expected):
            raise error
    return answers


def ask_ranges(questions: Questions, limits: list[tuple[str, torch.Tensor, int, str]]) -> None:
    """Ask for the lowest and the highest of each."""
    for name, ids, _, _ in limits:
        low, high = ids.aminmax()
        questions.ask(f"lowest {name}", low)
        questions.ask(f"highest {name}", high)


def ask_reading(
    questions: Questions,
    batch: TextBatch,
    positions: torch.Tensor | None,
    num_positions: int | None,
    reads_first: bool,
) -> None:
    """Ask how many vectors are read, and whether one of padding is among them."""
    mask = batch.attention_mask
    if mask is not None and reads_first:
        questions.ask("first padding", (mask[:, 0] == 0).sum())
    if positions is None:
        return
    if num_positions is not None:
        assert_count("num_positions", positions, num_positions)
    else:
        questions.ask("read", positions.sum())
    if mask is not None and (num_positions is None or batch.lengths is None):
        questions.ask("padding read", (positions & (mask == 0)).sum())


def assert_count(name: str, positions: torch.Tensor, count: int) -> None:
    """Refuse a count that is not that of `positions`, without waiting."""
    said = f"{name} must agree with the batch: not {count} positions are True"
    torch._assert_async(positions.sum() == count, said)


def lay_out(
    real: torch.Tensor | None, facts: BatchFacts, lengths: BatchLengths | None, device
) -> tuple[DeviceLayout | None, torch.Tensor]:
    """Where real tokens stand, or None where they stand end to end as they are; and all ends.

    Args:
        real: `(B, T)` boolean, True at real tokens; None: all are.
        facts: of the batch.
        lengths: what the caller knows, whose ends need no work of the device.
        device: of the batch.

    Returns:
        The layout, and `(S + 1,)` int32.
    """
    layout = None
    if facts.is_padded:
        assert real is not None
        layout = DeviceLayout(places_of(real, facts.tokens), facts.tokens, facts.shape)
    if lengths is not None:
        ends = torch.tensor([0, *lengths.sequences]).cumsum(0).to(torch.int32)
        return layout, ends.to(device, non_blocking=True)
    if facts.sizes is None:  # rows are full
        return layout, row_ends(facts.shape, device)
    ends = facts.sizes.cumsum(0)
    if len(ends) != facts.shape[0] or facts.sequences != facts.shape[0]:
        ends = ends[places_of(facts.sizes > 0, facts.sequences)]
    return layout, torch.nn.functional.pad(ends, (1, 0)).to(torch.int32)


def row_ends(shape: tuple[int, int], device) -> torch.Tensor:
    """The ends of B full rows of T, `(B + 1,)` int32."""
    batch, length = shape
    return torch.arange(0, batch * length + 1, length, dtype=torch.int32, device=device)


def ends_of(places: torch.Tensor, longest: int) -> Ends:
    """The ends of sequences that attend to themselves."""
    return Ends(places, places, longest, longest)
