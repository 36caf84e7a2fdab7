"""Batches of so many tokens, not so many rows (Vaswani et al. 2017, section 5.1).

Rows of like length go together, so that little is padded; every row is in exactly one batch.

`Trainer` builds its batch sampler itself and has no argument for another one
(`Trainer._get_dataloader` passes `batch_size` and `sampler` on). It needs no subclass for that:
`TokenBatches` is a data set whose items are whole batches, and `TokenBatchCollator` takes them
apart.

    batches = TokenBatches(train_dataset, max_tokens=4096)
    args = Seq2SeqTrainingArguments(per_device_train_batch_size=1, ...)  # one item, which is a
    batch Seq2SeqTrainer(model, args, train_dataset=batches,
    data_collator=TokenBatchCollator(collator), ...)
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset, Sampler

COUNTS = ("padded", "real")


class TokenBatchSampler(Sampler[list[int]]):
    """Lists of row numbers whose rows together have at most `max_tokens` tokens.

    A `DataLoader`'s `batch_sampler`.

    Rows are dealt into windows by `seed`, sorted by length within each (target first: the decoder
    computes its padding, the encoder need not), and cut into batches as large as may be. Batches
    come in an order drawn by `seed` and epoch, which also draws which rows of equal lengths go
    together. How many batches there are is the same in every epoch.

    Args:
        source_lengths: `N` lengths in tokens.
        target_lengths: `N` lengths of the targets, or None.
        max_tokens: of a batch, source and target together.
        count: "padded" counts rows · (longest source + longest target), "real" the tokens that are
            not padding.
        window_size: rows sorted together; None: all, which pads least. A small one mixes lengths
            over the epoch.
        seed: of both draws.
        shuffle: False leaves windows, rows of equal length and batches in their order.

    Raises:
        ValueError: a row longer than `max_tokens`, which is named; lengths that are no positive
            integers or of unequal number; no rows; a bad option.
    """

    def __init__(
        self,
        source_lengths: Sequence[int],
        target_lengths: Sequence[int] | None = None,
        *,
        max_tokens: int,
        count: str = "padded",
        window_size: int | None = None,
        seed: int = 0,
        shuffle: bool = True,
    ):
        if count not in COUNTS:
            raise ValueError(f"count must be one of {COUNTS}, got {count!r}")
        if window_size is not None and window_size < 1:
            raise ValueError(f"window_size must be at least 1 or None, got {window_size}")
        self.source = _lengths("source_lengths", source_lengths)  # (N,)
        without = np.zeros_like(self.source)
        self.target = (
            without if target_lengths is None else _lengths("target_lengths", target_lengths)
        )
        if len(self.source) != len(self.target):
            raise ValueError(
                f"target_lengths must have {len(self.source)} entries, got {len(self.target)}"
            )
        too_long = np.flatnonzero(self.source + self.target > max_tokens)
        if len(too_long):
            row = too_long[0]
            came = f"row {row} has {self.source[row]} + {self.target[row]}"
            raise ValueError(
                f"max_tokens must hold the longest row: {came} tokens, max_tokens is {max_tokens}"
            )
        self.max_tokens, self.count, self.seed, self.shuffle = max_tokens, count, seed, shuffle
        self.epoch = 0
        rows = (
            np.random.default_rng(seed).permutation(len(self.source))
            if shuffle
            else np.arange(len(self.source))
        )
        size = window_size or len(rows)
        self.windows = [rows[start : start + size] for start in range(0, len(rows), size)]
        self._number = sum(len(self._cut(self._sort(window, None))) for window in self.windows)

    def set_epoch(self, epoch: int) -> None:
        """Draw anew, by `seed` and `epoch`."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._number

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches())

    def batches(self) -> list[list[int]]:
        """All batches of the epoch, in order."""
        generator = np.random.default_rng((self.seed, self.epoch)) if self.shuffle else None
        batches = [
            batch for window in self.windows for batch in self._cut(self._sort(window, generator))
        ]
        return (
            batches
            if generator is None
            else [batches[place] for place in generator.permutation(len(batches))]
        )

    def _sort(self, window: np.ndarray, generator: np.random.Generator | None) -> np.ndarray:
        """Rows of a window by target and source length; rows equal in both keep a drawn order."""
        rows = window if generator is None else generator.permutation(window)
        return rows[np.lexsort((self.source[rows], self.target[rows]))]

    def _cut(self, rows: np.ndarray) -> list[list[int]]:
        """Consecutive rows, as many to a batch as `max_tokens` allows."""
        batches: list[list[int]] = []
        batch: list[int] = []
        longest_source = longest_target = total = 0
        lengths = zip(self.source[rows].tolist(), self.target[rows].tolist(), strict=True)
        for row, (source, target) in zip(rows.tolist(), lengths, strict=True):
            longest_source, longest_target = (
                max(longest_source, source),
                max(longest_target, target),
            )
            total += source + target
            padded = (len(batch) + 1) * (longest_source + longest_target)
            if batch and (padded if self.count == "padded" else total) > self.max_tokens:
                batches.append(batch)
                batch, longest_source, longest_target, total = [], source, target, source + target
            batch.append(row)
        return [*batches, batch]


def _lengths(name: str, values: Sequence[int]) -> np.ndarray:
    """`(N,)` positive integers, or a ValueError."""
    array = np.asarray(values)
    if array.ndim != 1 or not len(array) or array.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be a list of at least one integer, got {array.dtype} of shape "
            f"{array.shape}"
        )
    if array.min() < 1:
        row = int(array.argmin())
        raise ValueError(f"{name} must be at least 1, got {array[row]} in row {row}")
    return array.astype(np.int64)


def token_lengths(dataset, column: str) -> list[int]:
    """Length of each row's `column`, such as "input_ids".

    Args:
        dataset: a `datasets.Dataset`, or rows that are dicts.
        column: holds lists of tokens.

    Raises:
        ValueError: no such column, or it holds no lists.
    """
    columns = getattr(dataset, "column_names", None)
    if columns is not None and column not in columns:
        raise ValueError(
            f"dataset must have lists of tokens in column {column!r}, got the columns {columns}"
        )
    try:
        return [
            len(tokens)
            for tokens in (dataset[column] if columns else (row[column] for row in dataset))
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"dataset must have lists of tokens in column {column!r} ({error!r})"
        ) from error


class TokenBatches(Dataset):
    """A data set whose items are batches.

    Lists of rows that have at most `max_tokens` tokens together.

    Give it to `Trainer` as `train_dataset`, with `per_device_train_batch_size=1` and a
    `TokenBatchCollator`. The batches are made once; the `Trainer` draws their order in every epoch,
    by its own seed, and finds its place in them again when it resumes. It cannot see the columns:
    take away what the collator should not get (`dataset.select_columns`).

    Args:
        dataset: a `datasets.Dataset` or another sequence of dicts.
        max_tokens: as in `TokenBatchSampler`.
        source_column: the tokens of the source.
        target_column: the tokens of the target; None: none are counted.
        options: further options of `TokenBatchSampler`.

    Raises:
        ValueError: as `TokenBatchSampler` and `token_lengths`.
    """

    def __init__(
        self,
        dataset,
        *,
        max_tokens: int,
        source_column: str = "input_ids",
        target_column: str | None = "labels",
        **options,
    ):
        source = token_lengths(dataset, source_column)
        target = None if target_column is None else token_lengths(dataset, target_column)
        self.dataset = dataset
        self.batches = TokenBatchSampler(source, target, max_tokens=max_tokens, **options).batches()

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, place: int) -> list[dict[str, Any]]:
        rows = self.batches[place]
        if hasattr(self.dataset, "__getitems__"):
            return self.dataset.__getitems__(rows)
        return [self.dataset[row] for row in rows]


class TokenBatchCollator:
    """Take the items of `TokenBatches` apart and hand their rows to `collator`.

    Plain rows, as of an evaluation set, go to `collator` as they are.

    Args:
        collator: makes tensors of a list of rows, such as `DataCollatorForSeq2Seq`.
    """

    def __init__(self, collator: Callable[[list[dict[str, Any]]], dict[str, Any]]):
        self.collator = collator

    def __call__(self, items: list) -> dict[str, Any]:
        rows = [row for item in items for row in (item if isinstance(item, list) else [item])]
        return self.collator(rows)
