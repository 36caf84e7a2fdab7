"""Rows of ids through a model.

Sorted by length, in batches, with a progress bar; results in the order given.

Shapes: `B` batch, `T` length of a row.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase
from transformers.utils.logging import tqdm

from ..backends.lengths import send
from .loading import check_counts
from .windows import EncodedText

Row = Mapping[str, list[int]]  # input_ids and its fellows, without padding


@dataclass(frozen=True)
class RunOptions:
    """How every function runs.

    Rows a batch, where, and whether work of more than three seconds shows a bar.
    """

    batch_size: int
    device: torch.device | str | int | None
    show_progress: bool

    def __post_init__(self):
        check_counts(1, batch_size=self.batch_size)


@contextmanager
def evaluating(
    model: nn.Module, device: torch.device | str | int | None = None
) -> Iterator[torch.device]:
    """No gradients, no dropout, on `device`.

    Afterwards each module is in the mode, and the model where it was.
    """
    modes = [(module, module.training) for module in model.modules()]
    parameter = next(model.parameters(), None)
    home = torch.device("cpu") if parameter is None else parameter.device
    target = home if device is None else torch.device(device)
    try:
        model.eval()
        if target != home:
            model.to(target)
        with torch.no_grad():
            yield target
    finally:
        if target != home:
            model.to(home)
        for module, training in modes:
            module.training = training


def collate(
    rows: Sequence[Row],
    tokenizer: PreTrainedTokenizerBase,
    device: torch.device,
    model: Any = None,
) -> dict[str, Any]:
    """Rows to `(B, T)` tensors, padded on the right whatever the tokenizer prefers.

    Position t stays position t. A `model` of bertlite's on a GPU is told the `lengths` too, so that
    it need not wait to learn them.
    """
    fill = {"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": tokenizer.pad_token_type_id}
    longest = max(len(row["input_ids"]) for row in rows)
    padded = {
        name: [list(row[name]) + [fill.get(name, 0)] * (longest - len(row[name])) for row in rows]
        for name in rows[0]
    }
    return send({name: torch.tensor(each) for name, each in padded.items()}, device, model)


def length_batches(
    rows: Sequence[Row], options: RunOptions, description: str
) -> Iterator[list[int]]:
    """Numbers of the rows of each batch, longest first, so that what does not fit in memory shows
    at once.
    """
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index]["input_ids"]))
    # Short work shows no bar: it appears after three seconds.
    with tqdm(total=len(rows), desc=description, disable=not options.show_progress, delay=3) as bar:
        for start in range(0, len(order), options.batch_size):
            batch = order[start : start + options.batch_size]
            yield batch
            bar.update(len(batch))


def run_rows(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    options: RunOptions,
    *,
    outputs: tuple[str, ...] = ("logits",),
    per_token: bool = False,
    description: str,
) -> list[tuple[torch.Tensor, ...]]:
    """The fields `outputs` of the model's output for each row, fp32 on the CPU, in the order of
    `rows`.

    Args:
        per_token: whether the fields are `(B, T, ...)`; they are then cut to the row's own length.
    """
    results: list[tuple[torch.Tensor, ...]] = [()] * len(rows)
    with evaluating(model, options.device) as device:
        for batch in length_batches(rows, options, description):
            inputs = collate([rows[index] for index in batch], tokenizer, device, model)
            output = model(**inputs)
            values = [output[name].float().cpu() for name in outputs]  # (B, ...) each
            for place, index in enumerate(batch):
                kept = slice(len(rows[index]["input_ids"]) if per_token else None)
                results[index] = tuple(value[place][kept].clone() for value in values)
    return results


def run_windows(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Sequence[EncodedText],
    options: RunOptions,
    **kwargs: Any,
) -> list[list[tuple[torch.Tensor, ...]]]:
    """As `run_rows`, for the windows of texts.

    For each text, for each of its windows, the fields of the output.
    """
    rows = [window.inputs for text in encoded for window in text.windows]
    found = iter(run_rows(model, tokenizer, rows, options, **kwargs))
    return [[next(found) for _ in text.windows] for text in encoded]
