"""What a caller gives, checked: all refusals of ids, masks and labels stand here.

Shapes and types are checked before any work. Values are not read in advance, since that would make
a GPU wait: an id out of range fails in the look-up that uses it, and is explained then.

Shapes: `B` batch, `T` length, `E` hidden size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.utils import is_torchdynamo_compiling

IGNORED = -100  # the label of what is not predicted


def is_traced() -> bool:
    """Whether a graph is recorded: then no decision may depend on the values of a tensor."""
    return is_torchdynamo_compiling() or torch.jit.is_tracing()


@dataclass(frozen=True)
class BatchLengths:
    """What the host knows of a padded batch, so that a GPU need not be waited for to learn it.

    `bertlite.data.collators.WithLengths` makes it. Rows are filled from the left.
    """

    sequences: tuple[int, ...]  # real tokens of each, row by row; more than rows: they are packed
    labelled: int | None = None  # how many labels (B, T) are not -100; None: not known
    # Lowest and highest value of each integer input, by name, where it was looked at.
    ranges: dict[str, tuple[int, int]] = field(default_factory=dict)
    targets: int | None = None  # how many labels (B, T) stand up to the last known one of a row


@dataclass
class TextBatch:
    """A checked batch of token inputs, as an encoder takes it."""

    input_ids: torch.Tensor | None  # (B, T)
    token_type_ids: torch.Tensor | None  # (B, T) or (1, T)
    position_ids: torch.Tensor  # (B, T) or (1, T)
    inputs_embeds: torch.Tensor | None  # (B, T, E), instead of input_ids
    attention_mask: torch.Tensor | None  # (B, T), non-zero at real tokens, or prepared: 4D
    segments: torch.Tensor | None  # (B, T), the numbers of the sequences packed in a row
    lengths: BatchLengths | None = None  # where the caller knows them
    gives_positions: bool = False  # whether the position_ids are the caller's
    counted: tuple[torch.Tensor, ...] = ()  # boolean, of another side: to be counted with the rest
    facts: Any = None  # what a backend has found out about it

    @property
    def given(self) -> torch.Tensor:
        """The ids or vectors."""
        tensor = self.input_ids if self.inputs_embeds is None else self.inputs_embeds
        assert tensor is not None  # `check_tokens` has seen to it
        return tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(B, T)."""
        return self.given.shape[0], self.given.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the ids lie."""
        return self.given.device

    @property
    def is_prepared(self) -> bool:
        """Whether the caller has made the 4D mask."""
        return self.attention_mask is not None and self.attention_mask.ndim != 2


def check_tokens(
    input_ids: torch.Tensor | None,
    inputs_embeds: torch.Tensor | None,
    hidden_size: int,
) -> tuple[int, int]:
    """The shape `(B, T)` of what was given, of ids or vectors.

    Raises:
        ValueError: both or neither, an empty side, or a shape that is neither `(B, T)` of ids nor
            `(B, T, hidden_size)` of vectors.
    """
    if (input_ids is None) == (inputs_embeds is None):
        raise ValueError("give exactly one of input_ids and inputs_embeds")
    if inputs_embeds is None:
        check_shape("input_ids", input_ids, "(batch, length)", 2)
    else:
        expected = f"(batch, length, {hidden_size})"
        check_shape("inputs_embeds", inputs_embeds, expected, 3, hidden_size)
    given = input_ids if inputs_embeds is None else inputs_embeds
    return given.shape[0], given.shape[1]  # type: ignore[union-attr]


def check_shape(name: str, tensor, expected: str, sides: int, last_size: int | None = None) -> None:
    """Refuse a tensor with another number of sides, an empty one, or another last size."""
    if is_traced():
        return
    fits = tensor.ndim == sides and 0 not in tensor.shape
    if not fits or (last_size is not None and tensor.shape[-1] != last_size):
        raise ValueError(
            f"{name} must have shape {expected} with no empty side, got {tuple(tensor.shape)}"
        )


def check_length(name: str, length: int, start: int, limit: int) -> None:
    """Refuse rows for which there are not enough positions.

    `start` is the number of tokens in the cache.
    """
    if not is_traced() and start + length > limit:
        raise ValueError(
            f"{name} must hold at most {limit} tokens a row (max_position_embeddings), got "
            f"{start + length}; truncate with tokenizer(..., truncation=True, max_length={limit})"
        )


def check_ids(name: str, ids: torch.Tensor | None, shape: tuple[int, int]) -> None:
    """Refuse ids of another shape than `(B, T)` or `(1, T)`, or of no integer type."""
    if ids is None or is_traced():
        return
    if tuple(ids.shape) not in (shape, (1, shape[1])):
        raise ValueError(f"{name} must have shape {shape}, got {tuple(ids.shape)}")
    if ids.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"{name} must be int64 or int32, got {ids.dtype}")


def check_mask(
    name: str, mask: torch.Tensor | None, batch: int, heads: int, queries: int, keys: int
) -> None:
    """Refuse a mask that is neither `(batch, keys)` nor fits `(batch, heads, queries, keys)`."""
    if not isinstance(mask, torch.Tensor) or is_traced() or mask.shape == (batch, keys):
        return
    prepared = (batch, heads, queries, keys)
    fits = mask.ndim == 4 and all(
        found in (1, size) for found, size in zip(mask.shape, prepared, strict=True)
    )
    if not fits:
        raise ValueError(
            f"{name} must have shape {(batch, keys)} or {prepared}, got {tuple(mask.shape)}"
        )


def check_positions(positions: torch.Tensor | None, shape: tuple[int, int]) -> None:
    """Refuse `positions` that are no boolean `(B, T)`."""
    if positions is None:
        return
    if positions.dtype != torch.bool or tuple(positions.shape) != shape:
        raise ValueError(
            f"positions must be boolean of shape {shape}, True where a vector is read, got "
            f"{positions.dtype} of shape {tuple(positions.shape)}"
        )


def check_lengths(
    lengths: BatchLengths | Sequence[int] | None,
    shape: tuple[int, int],
    *,
    is_masked: bool,
    is_packed: bool,
) -> BatchLengths | None:
    """What the caller knows of the lengths, made whole; None: nothing that helps.

    Raises:
        ValueError: lengths that do not fit into the batch.
    """
    if lengths is None:
        return None
    if not isinstance(lengths, BatchLengths):
        lengths = BatchLengths(tuple(int(each) for each in lengths))
    sequences, places = lengths.sequences, shape[0] * shape[1]
    fits = len(sequences) >= shape[0] and all(1 <= each <= shape[1] for each in sequences)
    if not fits or sum(sequences) > places or (sum(sequences) < places and not is_masked):
        raise ValueError(
            f"lengths must hold a number from 1 to {shape[1]} for each sequence of {shape[0]} "
            f"rows, and an attention_mask must come with them where they do not fill the rows; got "
            f"{list(sequences)}"
        )
    if len(sequences) > shape[0] and not is_packed:
        raise ValueError(
            f"lengths must hold {shape[0]} numbers, one a row, unless rows are packed "
            f"(packed=True and position_ids), got {len(sequences)}"
        )
    # Packed rows of which each is said to hold one sequence: what their positions say is asked for.
    return None if is_packed and len(sequences) == shape[0] else lengths


def places_of(positions: torch.Tensor, count: int) -> torch.Tensor:
    """Where `positions` is True, flattened, in order: `(count,)`.

    As `positions.flatten().nonzero()`, for a caller who knows how many there are: a GPU is not
    waited for.
    """
    seen = positions.flatten().cumsum(0)
    ordinals = torch.arange(1, count + 1, device=seen.device)
    return torch.searchsorted(seen, ordinals)


def select(values: torch.Tensor | None, positions: torch.Tensor, count: int | None) -> torch.Tensor:
    """`values[positions]`, of which the caller may know that there are `count`.

    `values` has the sides of `positions`, and maybe one more.
    """
    assert values is not None
    if count is None or is_traced():
        return values[positions]
    return values.flatten(0, positions.ndim - 1).index_select(0, places_of(positions, count))


def labelled_count(lengths: Any) -> int | None:
    """How many labels are not -100, where a collator has counted them."""
    return getattr(lengths, "labelled", None)


def up_to_last(positions: torch.Tensor) -> torch.Tensor:
    """`(B, T)` boolean, True up to the last True one of each row.

    >>> up_to_last(torch.tensor([[False, True, False]])).tolist()
    [[True, True, False]]
    """
    return positions.flip(-1).cumsum(-1).flip(-1) > 0


def check_labels(name: str, labels: torch.Tensor, shape: tuple[int, ...]) -> None:
    """Refuse labels of another shape, or of no integer type."""
    if is_traced():
        return
    if tuple(labels.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(labels.shape)}")
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"{name} must be integers, got {labels.dtype}")


def out_of_range(
    name: str, values: torch.Tensor | None, limit: int, expected: str
) -> ValueError | None:
    """The error for `values` of which one lies outside `[0, limit)`; None where all are inside.

    It reads the values: to be asked once something has failed.
    """
    if values is None or not values.numel():
        return None
    low, high = (int(value) for value in values.aminmax())
    return range_error(name, low, high, limit, expected)


def range_error(name: str, low: int, high: int, limit: int, expected: str) -> ValueError | None:
    """As `out_of_range`, for values from `low` to `high`."""
    if low >= 0 and high < limit:
        return None
    got = low if low < 0 else high
    return ValueError(f"{name} must lie in [0, {limit}) {expected}, got {got}")


def assert_in_range(name: str, ids: torch.Tensor, limit: int, expected: str) -> None:
    """Refuse ids outside `[0, limit)`; a GPU is not waited for, but fails later, and says so.

    It stands before a look-up that would fail too, without these words.
    """
    if ids.numel():
        low, high = ids.aminmax()
        assert_soon((low >= 0) & (high < limit), f"{name} must lie in [0, {limit}) {expected}")


def assert_soon(holds: torch.Tensor, said: str) -> None:
    """Refuse what does not hold: at once where the values are at hand, else when they are."""
    try:
        torch._assert_async(holds, said)
    except RuntimeError as error:
        raise ValueError(said) from error


def assert_labels(name: str, labels: torch.Tensor, limit: int) -> None:
    """As `assert_in_range`, for labels, of which -100 is allowed."""
    if is_traced() or labels.is_meta:
        return
    known = labels.masked_fill(labels == IGNORED, 0)
    try:
        assert_in_range(name, known, limit, f"or be {IGNORED}")
    except ValueError as error:
        raise label_error(name, labels, limit) or error from error


def label_error(name: str, labels: torch.Tensor, limit: int) -> ValueError | None:
    """As `out_of_range`, for labels, of which -100 is allowed."""
    known = labels.long().masked_fill(labels == IGNORED, 0)
    return out_of_range(name, known, limit, f"or be {IGNORED}")
