"""The real tokens of a batch laid end to end, so that nobody computes padding.

Shapes: `B` batch, `T` length, `N` real tokens, `K` vectors that are read, `E` hidden size.
"""

from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch

from ..models.inputs import TextBatch


@dataclass
class Places:
    """Where each real token of a `(B, T)` batch stands once sequences are laid end to end."""

    indices: torch.Tensor  # (N,) places in the flattened (B * T) batch; maybe a few spare ones more
    count: int  # N, without the spare ones
    shape: tuple[int, int]  # (B, T)

    def take_batch(self, batch: TextBatch) -> TextBatch:
        """A batch of one row, in which the real tokens stand end to end."""
        return TextBatch(
            input_ids=self.take(batch.input_ids),
            token_type_ids=self.take(batch.token_type_ids),
            position_ids=self.take(batch.position_ids),
            inputs_embeds=self.take(batch.inputs_embeds),
            attention_mask=None,
            segments=None,
        )

    def take(self, tensor: Any) -> Any:
        """`(B, T, ...)` or `(1, T, ...)` to `(1, N, ...)`: real tokens only."""
        if tensor is None:
            return None
        rows = tensor.expand(self.shape[0], *tensor.shape[1:]).flatten(0, 1)  # (B * T, ...)
        return rows[self.indices].unsqueeze(0)

    def put_back(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(1, N, E)` to `(B, T, E)`, zero at padding."""
        batch, length = self.shape
        padded = hidden_states.new_zeros(batch * length, hidden_states.shape[-1])
        indices = self.indices[: self.count].to(hidden_states.device)
        padded = padded.index_copy(0, indices, hidden_states[0, : self.count])
        return padded.view(batch, length, -1)

    def places(self, positions: torch.Tensor) -> torch.Tensor:
        """Where the tokens at `positions` `(B, T)` stand now, row by row, `(K,)`."""
        inverse = torch.empty(positions.numel(), dtype=torch.int64, device=positions.device)
        inverse[self.indices[: self.count]] = torch.arange(self.count, device=positions.device)
        return inverse[positions.flatten()]


@dataclass
class TokenLayout(Places):
    """Places of tokens whose sequences are in order of their length.

    Those of equal length are neighbours, shortest first.
    """

    lengths: list[int]  # of the sequences, in order, that of the spare tokens last

    @classmethod
    def of(
        cls,
        attention_mask: torch.Tensor | None,
        segments: torch.Tensor | None,
        shape: tuple[int, int],
        device: torch.device,
        round_sizes: bool = False,
    ) -> "TokenLayout":
        """Lay out a batch.

        Args:
            attention_mask: `(B, T)`, non-zero at real tokens; None: all are.
            segments: `(B, T)` or `(1, T)`, numbers of the sequences packed in a row, or None.
            shape: (B, T).
            device: of the batch.
            round_sizes: add spare tokens, so that N takes few values.
        """
        batch, length = shape
        real = torch.ones(shape, dtype=torch.bool, device=device)
        if attention_mask is not None:
            real = attention_mask.bool()
        rows = torch.arange(batch, device=device)[:, None].expand(shape)  # (B, T)
        sequences = rows if segments is None else rows * length + segments
        size = batch * length
        sizes = torch.bincount(sequences[real], minlength=size)  # 0 for numbers that are not used
        keys = (sizes[sequences] * (size + 1) + sequences).flatten()
        indices = real.flatten().nonzero().squeeze(-1)  # (N,)
        # A stable sort: the tokens of a sequence keep their order.
        indices = indices[keys[indices].argsort(stable=True)]
        lengths = sizes[sizes > 0].sort().values.tolist()
        count = len(indices)
        if round_sizes:
            indices = few_sizes(indices)
            if len(indices) > count:  # a last sequence, which nobody reads
                lengths.append(len(indices) - count)
        return cls(indices, count, shape, lengths)


def few_sizes(indices: torch.Tensor) -> torch.Tensor:
    """`(N,)` with its first entry repeated at the end, by 3 % at most.

    oneDNN makes and keeps code for each size of a product that it meets.
    """
    step = 1 << max(len(indices).bit_length() - 6, 0)
    spare = -len(indices) % step
    return torch.cat([indices, indices[:1].expand(spare)]) if spare else indices


def equal_length_groups(lengths: list[int]) -> list[tuple[int, int]]:
    """Runs of neighbours of equal length, as `(how many, their length)`.

    >>> equal_length_groups([2, 2, 5])
    [(2, 2), (1, 5)]
    """
    return [(len(list(run)), length) for length, run in groupby(lengths) if length]


def lengths_of_ends(cu_seq_lens: torch.Tensor) -> list[int]:
    """The lengths of sequences that end at `cu_seq_lens` `(sequences + 1,)`."""
    return cu_seq_lens.diff().tolist()


def reads_padding(
    attention_mask: torch.Tensor | None, positions: torch.Tensor | None, reads_first: bool
) -> bool:
    """Whether a vector of padding is read: at `positions` `(B, T)`, or first ones by a pooler."""
    if attention_mask is None:
        return False
    if reads_first and not bool(attention_mask[:, 0].all()):
        return True
    return positions is not None and bool((positions & (attention_mask == 0)).any())


def has_holes(attention_mask: torch.Tensor | None) -> bool:
    """Whether padding stands between real tokens of a row of `(B, T)`."""
    if attention_mask is None:
        return False
    real = attention_mask.bool()
    begins = real[:, 1:] & ~real[:, :-1]  # after padding
    return bool((begins.sum(-1) + real[:, 0] > 1).any())


def flat_positions(batch: TextBatch) -> torch.Tensor:
    """The positions of a batch whose rows are laid end to end, `(1, B * T)`."""
    return batch.position_ids.expand(batch.shape).reshape(1, -1)


def flash_arguments(lengths: list[int], device: torch.device) -> dict[str, Any]:
    """The library's keyword arguments for sequences of these lengths laid end to end."""
    ends = torch.tensor([0, *lengths], device=device).cumsum(0).to(torch.int32)
    longest = max(lengths, default=0)
    return {
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
        "max_length_q": longest,
        "max_length_k": longest,
    }
