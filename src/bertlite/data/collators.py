"""What a batch knows of itself before it goes to a GPU.

On the host, lengths and ids cost nothing to look at. Once a batch is on a GPU, each look means to
wait until the GPU has done all work before it. `WithLengths` looks while the batch is made.

Shapes: `B` batch, `C` choices, `T` length.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..models.inputs import IGNORED, BatchLengths

IDS = ("input_ids", "token_type_ids", "position_ids", "decoder_input_ids", "decoder_position_ids")


@dataclass
class WithLengths:
    """A collator that adds `lengths` to the batches of another, for bertlite's models.

    A batch whose rows are not filled from the left gets none, and works as before.

    Args:
        collator: makes tensors of a list of rows, such as `DataCollatorWithPadding`.

    >>> from transformers import default_data_collator
    >>> rows = [{"input_ids": [7, 8], "attention_mask": [1, 0]}]
    >>> WithLengths(default_data_collator)(rows)["lengths"].sequences
    (1,)
    """

    collator: Callable[[list], Any]

    def __call__(self, features: list) -> Any:
        """The other's batch, with `lengths` where they are known."""
        batch = self.collator(features)
        lengths = lengths_of(batch)
        if lengths is not None:
            batch["lengths"] = lengths
        return batch


def lengths_of(batch: Mapping[str, Any]) -> BatchLengths | None:
    """What a padded or packed batch on the host says of itself; None where rows begin with padding.

    Args:
        batch: with `input_ids` `(B, T)` or `(B, C, T)`, and `attention_mask` of that shape; or with
            `position_ids` that start again at each sequence packed in a row.
    """
    ids = batch.get("input_ids")
    if not isinstance(ids, torch.Tensor) or ids.ndim < 2 or ids.device.type != "cpu":
        return None
    mask = batch.get("attention_mask")
    real = torch.ones(ids.shape, dtype=torch.bool) if mask is None else mask != 0
    if real.shape != ids.shape:  # a prepared mask
        return None
    rows = real.flatten(0, -2)  # (B, T) or (B * C, T)
    sizes = rows.sum(-1)
    if not sizes.all() or not bool((rows == (torch.arange(rows.shape[1]) < sizes[:, None])).all()):
        return None
    is_packed = batch.get("packed") or (mask is None and batch.get("position_ids") is not None)
    sequences = sizes.tolist()
    if is_packed:
        sequences = packed_lengths(batch["position_ids"].expand(rows.shape), rows)
    ranges = {name: range_of(batch[name]) for name in IDS if batch.get(name) is not None}
    return BatchLengths(tuple(sequences), labelled_in(batch, real), ranges)


def packed_lengths(position_ids: torch.Tensor, real: torch.Tensor) -> list[int]:
    """Lengths of the sequences packed in rows: one begins where positions `(B, T)` stop rising."""
    begins = torch.ones_like(real)
    begins[:, 1:] = position_ids[:, 1:] <= position_ids[:, :-1]
    numbers = begins.flatten().long().cumsum(0) - 1
    sizes = torch.bincount(numbers[real.flatten()])
    return sizes[sizes > 0].tolist()


def range_of(ids: torch.Tensor) -> tuple[int, int]:
    """The lowest and the highest of some ids."""
    low, high = ids.aminmax()
    return int(low), int(high)


def labelled_in(batch: Mapping[str, Any], real: torch.Tensor) -> int | None:
    """How many labels are not -100; None where they are no labels of tokens, or one is of padding.

    `real` is True at the tokens of the source.
    """
    labels = batch.get("labels")
    if not isinstance(labels, torch.Tensor) or labels.ndim < 2 or labels.is_floating_point():
        return None
    known = labels != IGNORED
    if labels.shape == real.shape and bool((known & ~real).any()):
        return None
    return int(known.sum())
