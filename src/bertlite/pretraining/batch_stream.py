"""The endless stream of batches: a pure function of corpus, options and seed.

Each epoch deals the documents anew into blocks, makes the rows of a block, shuffles them and lays
them, one after another, into batches of so many real tokens. Batch number n is therefore the same
whoever asks: every worker and every process plans all batches, which reads no text and costs
little, and reads, masks and collates only those that are its own. To resume is to begin at another
n.

A batch is a ragged set of rows `(B, T)` with a mask, not one long row: bertlite's encoder lays real
tokens end to end itself, so padding costs nothing, and the pooler finds each row's [CLS], which
next-sentence prediction needs.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, islice

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from .sentence_pairs import PairOptions, Row, document_rows
from .token_masking import MaskingOptions, mask_tokens
from .token_store import TokenStore

# neighbouring documents that stay together when documents are dealt, so that the deal is small
RUN = 32
BLOCK = 128  # such runs to a block, whose rows are shuffled together
UNUSED = re.compile(r"\[unused\d+\]")  # entries of the vocabulary that no text has
Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Phase:
    """So many updates with rows of at most so many tokens.

    BERT's are 128 for 90 % of the updates, then 512.
    """

    max_length: int
    updates: int


@dataclass(frozen=True)
class StreamOptions:
    """What the stream holds.

    Args:
        phases: one after another.
        tokens_per_batch: real tokens of a batch, special ones included: as many rows as fit.
        batches_per_update: batches whose gradients make one update, over all processes together.
        seed: of everything that is drawn.
        pairs: how documents become rows.
        masking: how tokens are masked.

    Raises:
        ValueError: no phases, a number below 1, or a batch that cannot hold a row.
    """

    phases: tuple[Phase, ...]
    tokens_per_batch: int = 4096
    batches_per_update: int = 1
    seed: int = 0
    pairs: PairOptions = field(default_factory=PairOptions)
    masking: MaskingOptions = field(default_factory=MaskingOptions)

    def __post_init__(self):
        if not self.phases:
            raise ValueError("phases must name at least one, got none")
        for phase in self.phases:
            if phase.max_length < 8 or phase.updates < 1:
                raise ValueError(
                    "phases must have a max_length of at least 8 and updates of at least 1, got "
                    f"{phase}"
                )
            if phase.max_length > self.tokens_per_batch:
                came = f"{self.tokens_per_batch} with rows of {phase.max_length}"
                raise ValueError(f"tokens_per_batch must hold a row, got {came}")
        if self.batches_per_update < 1:
            raise ValueError(
                f"batches_per_update must be at least 1, got {self.batches_per_update}"
            )


def plan_blocks(
    store: TokenStore, max_length: int, options: StreamOptions, epoch: int
) -> Iterator[list[Row]]:
    """The rows of one epoch, a block at a time, shuffled within it."""
    runs = -(-len(store) // RUN)
    order = np.random.default_rng((options.seed, max_length, epoch)).permutation(runs)
    for start in range(0, runs, BLOCK):
        generator = random.Random(f"{options.seed} {max_length} {epoch} {start}")
        rows: list[Row] = []
        for run in order[start : start + BLOCK].tolist():
            for document in range(run * RUN, min((run + 1) * RUN, len(store))):
                rows.extend(document_rows(store, document, max_length, options.pairs, generator))
        generator.shuffle(rows)
        yield rows


def plan_batches(store: TokenStore, max_length: int, options: StreamOptions) -> Iterator[list[Row]]:
    """Rows of epoch after epoch, as many to a batch as its tokens allow.

    No row is left out, none comes twice.
    """
    batch: list[Row] = []
    total = 0
    for epoch in count():
        for rows in plan_blocks(store, max_length, options, epoch):
            for row in rows:
                length = row.length
                if total + length > options.tokens_per_batch:
                    yield batch
                    batch, total = [], 0
                batch.append(row)
                total += length


def plan(
    store: TokenStore, options: StreamOptions, start: int = 0
) -> Iterator[tuple[int, list[Row]]]:
    """Number and rows of every batch of all phases, from number `start` on."""
    number = 0
    for phase in options.phases:
        wanted = phase.updates * options.batches_per_update
        skipped = min(max(start - number, 0), wanted)
        if skipped < wanted:
            batches = islice(plan_batches(store, phase.max_length, options), skipped, wanted)
            yield from enumerate(batches, start=number + skipped)
        number += wanted


class BatchStream(IterableDataset):
    """Batches of one process, in order.

    `DataLoader(stream, batch_size=None)` gives the same with any workers.

    Batch n of the whole stream goes to process n mod `num_processes`. A batch holds `input_ids`,
    `token_type_ids`, `attention_mask` and `labels`, `(B, T)` each, and, unless the task is "none",
    `next_sentence_label` `(B,)`.

    Args:
        store: the corpus.
        tokenizer: for the ids of its special tokens.
        options: what the stream holds.
        start: number of the first batch, of the whole stream.
        process_index: which process this is; `num_processes`: of how many.

    Raises:
        ValueError: a tokenizer without the special tokens, or pairs wanted of a single document.
    """

    def __init__(
        self,
        store: TokenStore,
        tokenizer,
        options: StreamOptions,
        *,
        start: int = 0,
        process_index: int = 0,
        num_processes: int = 1,
    ):
        special = {
            name: getattr(tokenizer, f"{name}_token_id") for name in ("cls", "sep", "pad", "mask")
        }
        missing = [name for name, number in special.items() if number is None]
        if missing:
            raise ValueError(
                f"tokenizer must have the tokens cls, sep, pad and mask, got none for {missing}"
            )
        if options.pairs.task == "next_sentence" and len(store) < 2:
            raise ValueError(
                "next_sentence needs at least 2 documents to draw random sentences from, got 1"
            )
        self.store, self.options, self.special = store, options, special
        self.start, self.process_index, self.num_processes = start, process_index, num_processes
        ordinary = [
            number
            for token, number in tokenizer.get_vocab().items()
            if token.strip() and not UNUSED.fullmatch(token)
        ]
        self.ordinary_ids = np.setdiff1d(ordinary, tokenizer.all_special_ids)

    def __iter__(self) -> Iterator[Batch]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        own = islice(
            plan(self.store, self.options, self.start), self.process_index, None, self.num_processes
        )
        for number, rows in islice(own, worker, None, workers):
            yield self.make_batch(number, rows)

    def loader(self, num_workers: int = 0, pin_memory: bool = False) -> DataLoader:
        """A loader of whole batches."""
        # With a generator of its own it draws nothing from the global one, whose state a checkpoint
        # brings back.
        own = torch.Generator()
        return DataLoader(
            self, batch_size=None, num_workers=num_workers, pin_memory=pin_memory, generator=own
        )

    def make_batch(self, number: int, rows: list[Row]) -> Batch:
        """Read, mask and collate the rows of batch `number`, whose masks are drawn by seed and
        number alone.
        """
        ids, types, maskable, continues = self.lay_out(rows)
        lengths = np.array([row.length for row in rows])  # (B,)
        seen, labels = mask_tokens(
            ids,
            maskable,
            continues,
            lengths,
            self.options.masking,
            mask_id=self.special["mask"],
            ordinary_ids=self.ordinary_ids,
            generator=np.random.default_rng((self.options.seed, number)),
        )
        real = np.arange(ids.shape[1]) < lengths[:, None]
        made = {
            "input_ids": seen,
            "token_type_ids": types,
            "attention_mask": real.astype(np.int64),
            "labels": labels,
        }
        if self.options.pairs.task != "none":
            made["next_sentence_label"] = np.array([row.label for row in rows])
        return {name: torch.from_numpy(array) for name, array in made.items()}

    def lay_out(self, rows: list[Row]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Read the rows and put [CLS], [SEP] and padding around them.

        Returns:
            `(B, T)` each: ids, segments, whether a token may be masked, and whether it goes on with
            a word.
        """
        shape = (len(rows), max(row.length for row in rows))
        ids = np.full(shape, self.special["pad"], np.int64)
        types = np.zeros(shape, np.int64)
        maskable, continues = np.zeros(shape, bool), np.zeros(shape, bool)
        for place, row in enumerate(rows):
            ids[place, 0] = self.special["cls"]
            at = 1
            segments = ((row.a_start, row.a_end), (row.b_start, row.b_end))
            for kind, (start, end) in enumerate(segments):
                if start == end:
                    continue
                stop = at + end - start
                ids[place, at:stop] = self.store.ids[start:end]
                continues[place, at:stop] = self.store.continues[start:end]
                maskable[place, at:stop] = True
                ids[place, stop] = self.special["sep"]
                types[place, at : stop + 1] = kind
                at = stop + 1
        return ids, types, maskable, continues
