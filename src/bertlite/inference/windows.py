"""Texts as rows of ids; a text that is too long for one row becomes several rows that overlap.

A *window* is one row. Tokens of a text are numbered through the whole text, whatever window they
stand in, so that what the model says about them in several windows can be put together.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Window:
    """One row, and which tokens of the text it holds."""

    inputs: dict[str, list[int]]  # input_ids and its fellows
    first: int  # position in the row of the first token of the text
    start: int  # number of that token in the text
    length: int  # how many tokens of the text the row holds


@dataclass
class EncodedText:
    """A text's tokens and the windows that hold them."""

    offsets: list[tuple[int, int]] = field(
        default_factory=list
    )  # of each token: characters [start, end)
    word_ids: list[int | None] = field(
        default_factory=list
    )  # of each token: the word that it belongs to
    windows: list[Window] = field(default_factory=list)

    def add(self, inputs: dict[str, list[int]], encoding: Any, sequence: int, step: int) -> None:
        """Add the next window; `step` tokens lie between the starts of two."""
        places = [place for place, number in enumerate(encoding.sequence_ids) if number == sequence]
        first, length, start = (places[0] if places else 0), len(places), len(self.windows) * step
        self.windows.append(Window(inputs, first, start, length))
        new = slice(first + len(self.offsets) - start, first + length)
        self.offsets += encoding.offsets[new]
        self.word_ids += encoding.word_ids[new]

    def characters(self, text: str, first: int, last: int) -> tuple[int, int]:
        """Where tokens `first` to `last` stand in the text, without white space at either end.

        Tokenizers that strip accents leave out a combining mark after a letter: it belongs to what
        the reader sees.
        """
        start, end = self.offsets[first][0], self.offsets[last][1]
        beyond = self.offsets[last + 1][0] if last + 1 < len(self.offsets) else len(text)
        while start < end < beyond and unicodedata.combining(text[end]):
            end += 1
        found = text[start:end]
        return end - len(found.lstrip()), start + len(found.rstrip())


@contextmanager
def truncating_on_the_right(tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """Windows are numbered from the left, whatever side the tokenizer cuts off by itself."""
    side, tokenizer.truncation_side = tokenizer.truncation_side, "right"
    try:
        yield
    finally:
        tokenizer.truncation_side = side


def count_tokens(tokenizer: PreTrainedTokenizerBase, texts: Sequence[Any], **kwargs) -> list[int]:
    """Tokens of each text, without special ones."""
    if not texts:
        return []
    return [
        len(ids)
        for ids in tokenizer(list(texts), add_special_tokens=False, verbose=False, **kwargs)[
            "input_ids"
        ]
    ]


def cut_windows(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Any],
    pairs: Sequence[str] | None = None,
    *,
    cut_pair: Sequence[bool] | None = None,
    max_length: int,
    doc_stride: int,
    names: tuple[str, str] = ("texts", "text_pair"),
    is_split_into_words: bool = False,
) -> list[EncodedText]:
    """Encode texts, or pairs of texts, into rows of at most `max_length` tokens.

    Args:
        cut_pair: for each pair, whether its second text is cut into windows while the first stands
            in each of them; False, and None, are the other way round.
        doc_stride: tokens of the cut text that two neighbouring windows share; at most half of what
            a window holds.
        names: what the texts are called in errors.
        is_split_into_words: whether each text is a list of words.

    Raises:
        ValueError: the text that stands in each window leaves no room for the other.
    """
    cuts = [False] * len(texts) if cut_pair is None else list(cut_pair)
    rooms = window_rooms(tokenizer, texts, pairs, cuts, max_length, names)
    groups: dict[tuple[bool, int], list[int]] = defaultdict(
        list
    )  # texts that one call of the tokenizer can take
    for index, (cut, room) in enumerate(zip(cuts, rooms, strict=True)):
        groups[cut, min(doc_stride, room // 2)].append(index)
    encoded = [EncodedText() for _ in texts]
    for (cut, overlap), members in groups.items():
        with truncating_on_the_right(tokenizer):
            batch = tokenizer(
                [texts[index] for index in members],
                None if pairs is None else [pairs[index] for index in members],
                truncation="only_second" if cut else "only_first",
                max_length=max_length,
                stride=overlap,
                return_overflowing_tokens=True,
                return_offsets_mapping=True,
                is_split_into_words=is_split_into_words,
            )
        for row, member in enumerate(batch["overflow_to_sample_mapping"]):
            index = members[member]
            inputs = {
                name: batch[name][row] for name in tokenizer.model_input_names if name in batch
            }
            encoded[index].add(inputs, batch.encodings[row], int(cut), rooms[index] - overlap)
    return encoded


def window_rooms(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Any],
    pairs: Sequence[str] | None,
    cuts: Sequence[bool],
    max_length: int,
    names: tuple[str, str],
) -> list[int]:
    """How many tokens of the cut text a window holds, for each text.

    Arguments and errors as in `cut_windows`.
    """
    room = max_length - tokenizer.num_special_tokens_to_add(pair=pairs is not None)
    if pairs is None:
        if room < 1 and texts:
            raise ValueError(
                f"max_length must leave room beside the special tokens, got {max_length}"
            )
        return [room] * len(texts)
    kept = [text if cut else pair for text, pair, cut in zip(texts, pairs, cuts, strict=True)]
    rooms = [room - count for count in count_tokens(tokenizer, kept)]
    for index, left in enumerate(rooms):
        if left < 1:
            cut = int(cuts[index])
            came = f"{names[1 - cut]}[{index}] has {room - left} tokens"
            raise ValueError(
                f"{came} and leaves no room for {names[cut]}[{index}] in rows of {max_length}; "
                "shorten it"
            )
    return rooms
