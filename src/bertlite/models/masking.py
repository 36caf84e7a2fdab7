"""Who may attend to whom, and how real tokens are laid end to end so that nobody computes padding.

Shapes: `B` batch, `T` target length, `S` source length, `N` real tokens of the batch, `E` hidden
size. A mask is boolean, `True` where attention is allowed, `(B, 1, T, S)`.
"""

import copy
from dataclasses import dataclass
from itertools import groupby

import torch
from transformers import EncoderDecoderCache
from transformers.masking_utils import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    create_bidirectional_mask,
    create_causal_mask,
)
from transformers.utils import is_torchdynamo_compiling

# Optional tensors in signatures: of integers, such as ids, masks and labels, and of floats, such as
# word vectors.
Ids = torch.Tensor | None
Vectors = torch.Tensor | None
Count = torch.Tensor | int | None
IGNORED = -100  # the label of what is not predicted


def is_traced() -> bool:
    """Whether a graph is being recorded: then no decision may depend on the values of a tensor."""
    return is_torchdynamo_compiling() or torch.jit.is_tracing()


def segment_ids(position_ids: torch.Tensor | None, batch_size: int) -> torch.Tensor | None:
    """Number each row's sequences, `(B, T)`.

    One begins where `position_ids` stops rising. None if each row has one.
    """
    if position_ids is None or position_ids.shape[-1] < 2:
        return None
    restarts = position_ids[:, 1:] <= position_ids[:, :-1]  # (B, T-1)
    if not is_traced() and not restarts.any():
        return None
    return torch.nn.functional.pad(restarts.long().cumsum(-1), (1, 0)).expand(
        batch_size, -1
    )  # (B, T)


def packed_mask(
    query_segments: torch.Tensor,
    key_segments: torch.Tensor,
    key_mask: torch.Tensor | None,
    causal: bool = False,
) -> torch.Tensor:
    """Allow attention within a segment only.

    A query that would see no key sees all, so that softmax stays finite.

    `query_segments` `(B, T)` and `key_segments` `(B, S)` are numbered alike; `key_mask` `(B, S)`;
    `causal`: `T == S`.
    """
    allowed = query_segments[:, :, None] == key_segments[:, None, :]  # (B, T, S)
    if key_mask is not None:
        allowed = allowed & key_mask[:, None, :].bool()
    if causal:
        allowed = allowed.tril()
    return (allowed | ~allowed.any(-1, keepdim=True)).unsqueeze(1)


def check_mask(
    name: str, mask: torch.Tensor | None, batch: int, heads: int, queries: int, keys: int
) -> None:
    """Refuse, with a ValueError, a mask that is neither `(batch, keys)` nor fits `(batch, heads,
    queries, keys)`.
    """
    if not isinstance(mask, torch.Tensor) or is_traced() or mask.shape == (batch, keys):
        return
    prepared = (batch, heads, queries, keys)
    if mask.ndim != 4 or any(
        found not in (1, size) for found, size in zip(mask.shape, prepared, strict=True)
    ):
        raise ValueError(
            f"{name} must have shape {(batch, keys)} or {prepared}, got {tuple(mask.shape)}"
        )


def check_integers(
    name: str, values: Ids, limit: int, shape: tuple | None = None, limit_name: str = ""
) -> None:
    """Refuse, with a ValueError, labels or (with `limit_name`) ids of another shape, no integers,
    or out of range.
    """
    if values is None or values.device.type == "meta" or is_traced():  # which hold no values
        return
    if (
        shape is not None
        and values.shape != shape
        and not (limit_name and values.shape == (1, *shape[1:]))
    ):
        raise ValueError(f"{name} must have shape {tuple(shape)}, got {tuple(values.shape)}")
    if (
        values.is_floating_point()
        or values.dtype == torch.bool
        or (limit_name and values.dtype.itemsize < 4)
    ):
        raise ValueError(
            f"{name} must be {'int64 or int32' if limit_name else 'integers'}, got {values.dtype}"
        )
    known = values if limit_name else values.long().masked_fill(values == IGNORED, 0)
    low, high = map(int, known.aminmax()) if known.numel() else (0, 0)
    if low < 0 or high >= limit:
        expected = f"({limit_name})" if limit_name else f"or be {IGNORED}"
        raise ValueError(
            f"{name} must lie in [0, {limit}) {expected}, got {low if low < 0 else high}"
        )


def attention_masks(
    config, hidden_states, attention_mask, segments=None, *, output_attentions=None, **kind
):
    """The mask of one kind of attention over a padded batch, in the form that the implementation
    wants.

    Args:
        hidden_states: `(B, T, E)`, where queries come from; `segments`: `(B, T)` from
            `segment_ids`, for packed rows.
        attention_mask: `(B, S)`, or a prepared 4D mask, which passes through.
        kind: `is_causal` with the cache in `past_key_values`, for the decoder's self-attention;
            where keys come from in `encoder_hidden_states` `(B, S, E)`, and their `key_segments`,
            for cross-attention.
    """
    source, cache, is_causal = (
        kind.get(name) for name in ("encoder_hidden_states", "past_key_values", "is_causal")
    )
    key_segments = segments if source is None else kind.get("key_segments")
    prepared = attention_mask is not None and attention_mask.ndim != 2
    packed = segments is not None and key_segments is not None and cache is None and not prepared
    # Eager's masks where weights are asked for. A function that a user registered without a mask
    # gets sdpa's: the library would build none, and padding would be seen.
    name = config._attn_implementation or "sdpa"
    unknown = name not in ALL_MASK_ATTENTION_FUNCTIONS._global_mapping and not name.startswith(
        "paged|"
    )
    config = copy.copy(config)
    config._attn_implementation = name = (
        "eager" if output_attentions else "sdpa" if unknown else name
    )
    inputs = {"config": config, "inputs_embeds": hidden_states}
    if (packed or prepared) and "flash" in name or prepared and name == "flex_attention":
        came = "a 4D attention_mask" if prepared else "packed position_ids"
        raise ValueError(
            f"{came} must come with attn_implementation 'eager' or 'sdpa', got {name!r}"
        )
    if packed and name != "flex_attention":
        return packed_mask(segments, key_segments, attention_mask, is_causal)
    if packed:  # it takes a rule, not a tensor
        inputs["and_mask_function"] = lambda row, head, query, key: (
            segments[row, query] == key_segments[row, key]
        )
    if is_causal:
        cache = cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache
        return create_causal_mask(attention_mask=attention_mask, past_key_values=cache, **inputs)
    return create_bidirectional_mask(
        attention_mask=attention_mask, encoder_hidden_states=source, **inputs
    )


@dataclass
class FlatLayout:
    """Where each real token of a `(B, T)` batch stands, sequences laid end to end, those of equal
    length neighbours.
    """

    index: torch.Tensor  # (N,) positions in the flattened (B * T) batch; on a CPU a few more
    count: int  # of real tokens
    batch_shape: tuple[int, int]  # (B, T)
    kwargs: (
        dict  # the library's keyword arguments for such sequences: cu_seq_lens_q, max_length_q, ...
    )

    @classmethod
    def of(
        cls,
        attention_mask: torch.Tensor | None,
        segments: torch.Tensor | None,
        shape: tuple[int, int],
        device,
    ):
        """Lay out a batch.

        `attention_mask` `(B, T)` and `segments` `(B, T)` may each be None, not both.
        """
        real = (
            torch.ones(shape, dtype=torch.bool, device=device)
            if attention_mask is None
            else attention_mask.bool()
        )
        row, size = (
            torch.arange(shape[0], device=device)[:, None].expand(shape),
            shape[0] * shape[1],
        )  # (B, T)
        sequence = row if segments is None else row * shape[1] + segments
        lengths = torch.bincount(sequence[real], minlength=size)  # 0 for unused numbers
        keys = lengths[sequence] * (size + 1) + sequence
        index = real.reshape(-1).nonzero().squeeze(-1)  # (N,)
        index = index[
            keys.reshape(-1)[index].argsort(stable=True)
        ]  # the tokens of a sequence keep their order
        lengths = lengths[lengths > 0].sort().values
        ends = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
        longest, count = int(lengths[-1]) if len(lengths) else 0, len(index)
        index = few_sizes(index)
        if spare := len(index) - count:  # a last sequence, which nobody reads
            ends, longest = torch.cat([ends, ends[-1:] + spare]), max(longest, spare)
        kwargs = {
            "cu_seq_lens_q": ends,
            "cu_seq_lens_k": ends,
            "max_length_q": longest,
            "max_length_k": longest,
        }
        return cls(index, count, shape, kwargs)

    @classmethod
    def of_needed(cls, needed: torch.Tensor, before: "FlatLayout | None", shape: tuple[int, int]):
        """What is left of `before` (None.

        Of the batch) where only `needed` positions are read, and its rows in there.

        `needed` is `(B, T)`, or `(1, 1)`: first positions alone. One of another shape changes
        nothing: rows are None.
        """
        if tuple(needed.shape) not in ((1, 1), shape):
            return before, None
        needed = torch.nn.functional.pad(needed, (0, shape[1] - needed.shape[1])).expand(
            shape[0], -1
        )
        index = (
            torch.arange(needed.numel(), device=needed.device)
            if before is None
            else before.index[: before.count]
        )
        rows = needed.flatten()[index].nonzero().squeeze(-1)  # (K,)
        return cls(index[rows], len(rows), shape, {}), few_sizes(rows)

    def take(self, tensor: torch.Tensor | None) -> torch.Tensor | None:
        """`(B, T, ...)` or `(1, T, ...)` to `(1, N, ...)`: real tokens only."""
        rows = (
            None
            if tensor is None
            else tensor.expand(self.batch_shape[0], *tensor.shape[1:]).flatten(0, 1)
        )
        return None if rows is None else rows[self.index].unsqueeze(0)

    def put_back(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(1, N, E)` to `(B, T, E)`, zero at padding."""
        padded = hidden_states.new_zeros(
            self.batch_shape[0] * self.batch_shape[1], hidden_states.shape[-1]
        )
        padded = padded.index_copy(0, self.index[: self.count], hidden_states[0, : self.count])
        return padded.view(*self.batch_shape, -1)  # (B, T, E)


def few_sizes(index: torch.Tensor) -> torch.Tensor:
    """`(N,)` with its first entry repeated at the end, by 3 % at most.

    OneDNN keeps code for each size it meets.
    """
    spare = -len(index) % (1 << max(len(index).bit_length() - 6, 0))
    return (
        torch.cat([index, index[:1].expand(spare)])
        if spare and index.device.type == "cpu"
        else index
    )


def equal_length_groups(cu_seq_lens: torch.Tensor) -> list[tuple[int, int]]:
    """Runs of neighbours of equal length, as `(how many, their length)`.

    Ends 0, 2, 4, 9 give `[(2, 2), (1, 5)]`.
    """
    lengths = (length for length in cu_seq_lens.diff().tolist() if length)
    return [(len(list(run)), length) for length, run in groupby(lengths)]
