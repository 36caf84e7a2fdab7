"""Lengths of a batch, found on the host before it goes to a device that would be waited for.

Shapes: `B` batch, `C` choices, `T` length.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..models.checkpoint import LitePreTrainedModel
from ..models.inputs import IGNORED, BatchLengths, up_to_last

IDS = ("input_ids", "token_type_ids", "position_ids", "decoder_input_ids", "decoder_position_ids")
WAITED_FOR = ["cuda"]  # types of devices from which to read a number means to wait


def takes_lengths(model: nn.Module, device: torch.device) -> bool:
    """Whether a model wants `lengths` with its batches: one of bertlite's on a GPU."""
    named = getattr(model, "get_base_model", lambda: model)()  # of PEFT: the model that is adapted
    return isinstance(named, LitePreTrainedModel) and device.type in WAITED_FOR


def send(
    batch: Mapping[str, torch.Tensor], device: torch.device, model: nn.Module | None = None
) -> dict[str, Any]:
    """A batch of the host on `device`, with its `lengths` where `model` takes them."""
    found = lengths_of(batch) if model is not None and takes_lengths(model, device) else None
    told = {} if found is None else {"lengths": found}
    return {name: tensor.to(device) for name, tensor in batch.items()} | told


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
    return BatchLengths(tuple(sequences), labelled_in(batch, real), ranges, targets_in(batch))


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


def targets_in(batch: Mapping[str, Any]) -> int | None:
    """How many labels `(B, T)` stand up to the last one of their row that is not -100."""
    labels = batch.get("labels")
    if not isinstance(labels, torch.Tensor) or labels.ndim != 2 or labels.is_floating_point():
        return None
    return int(up_to_last(labels != IGNORED).sum())
