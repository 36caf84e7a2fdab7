"""The tokens of a text or a pair, with the words and characters that they stand for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..inference.loading import check_counts, check_text, roomy_limit

MARKS = ("##", "▁", "Ġ")  # by which tokenizers say that a piece goes on with a word, or begins one


@dataclass(frozen=True)
class TextTokens:
    """What a model reads of one text or of a pair, token by token.

    Attributes:
        texts: the text, or the two of a pair.
        inputs: `input_ids` and its fellows, as the model takes them, without padding.
        tokens: the tokenizer's pieces.
        offsets: of each token its characters `[start, end)` in its own text; None for a token that
            stands for none, such as [CLS].
        words: of each token the number of its word, counted through both texts; None as above.
        texts_of: of each token which of `texts` it belongs to; None for one that was added.
    """

    texts: tuple[str, ...]
    inputs: dict[str, list[int]]
    tokens: tuple[str, ...]
    offsets: tuple[tuple[int, int] | None, ...]
    words: tuple[int | None, ...]
    texts_of: tuple[int | None, ...]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def special(self) -> tuple[bool, ...]:
        """Of each token whether it was added to the text, as [CLS] and [SEP] are."""
        return tuple(number is None for number in self.texts_of)

    def word_places(self) -> list[list[int]]:
        """The places of the tokens of each word, in the order of the words."""
        places: dict[int, list[int]] = {}
        for place, word in enumerate(self.words):
            if word is not None:
                places.setdefault(word, []).append(place)
        return list(places.values())

    def characters(self, places: Sequence[int]) -> tuple[int, int]:
        """The characters `[start, end)` of the tokens at `places`, in their own text."""
        found = [self.offsets[place] for place in places]
        known = [each for each in found if each is not None]
        return (known[0][0], known[-1][1]) if known else (0, 0)

    def beginning(self, count: int) -> "TextTokens":
        """The first `count` tokens, of the same texts."""
        return TextTokens(
            self.texts,
            {name: row[:count] for name, row in self.inputs.items()},
            self.tokens[:count],
            self.offsets[:count],
            self.words[:count],
            self.texts_of[:count],
        )

    def words_as_text(self) -> list[str]:
        """Each word as it stands in the text."""
        found = []
        for places in self.word_places():
            start, end = self.characters(places)
            found.append(self.texts[self.texts_of[places[0]] or 0][start:end])
        return found


def read_text(
    tokenizer: PreTrainedTokenizerBase,
    model: Any,
    text: str,
    text_pair: str | None = None,
    max_length: int | None = None,
) -> TextTokens:
    """The tokens of a text or a pair.

    Args:
        tokenizer: any; one that knows no offsets has its pieces looked up in the text.
        model: which says how many positions there are.
        text: the text, or the first of a pair.
        text_pair: the second of a pair.
        max_length: cut to so many tokens; None: a text that is too long is refused.

    Raises:
        ValueError: no text, none that the tokenizer sees, one that is too long, or a number out of
            range.
    """
    check_text("text", text)
    if text_pair is not None:
        check_text("text_pair", text_pair)
    check_counts(1, max_length=max_length)
    limit = roomy_limit("max_length", model, tokenizer, max_length)
    cut = {} if max_length is None else {"truncation": True, "max_length": limit}
    encoded = tokenizer(text, text_pair, verbose=False, **cut)
    inputs = {name: list(encoded[name]) for name in encoded if name in ARGUMENTS}
    length = len(inputs["input_ids"])
    if length > limit:
        raise ValueError(
            f"text must have at most {limit} tokens, got {length}; max_length={limit} reads its "
            "beginning"
        )
    texts = (text,) if text_pair is None else (text, text_pair)
    pieces = pieces_of(tokenizer, inputs["input_ids"])
    if tokenizer.is_fast:
        found = of_encoding(encoded.encodings[0], texts, inputs, pieces)
    else:
        marks = tokenizer.get_special_tokens_mask(
            inputs["input_ids"], already_has_special_tokens=True
        )
        found = by_search(texts, inputs, pieces, [bool(mark) for mark in marks])
    for number, name in enumerate(("text", "text_pair")[: len(texts)]):
        if number not in found.texts_of:
            raise ValueError(
                f"{name} must hold some text, the tokenizer sees none in {texts[number]!r:.80}"
            )
    return found


ARGUMENTS = ("input_ids", "token_type_ids", "attention_mask")


def of_encoding(
    encoding: Any, texts: tuple[str, ...], inputs: dict[str, list[int]], pieces: tuple[str, ...]
) -> TextTokens:
    """Of a tokenizer that knows words and offsets."""
    texts_of = tuple(encoding.sequence_ids)
    keys = [
        None if number is None or word is None else (number, word)
        for number, word in zip(texts_of, encoding.word_ids, strict=True)
    ]
    offsets = tuple(
        None if number is None else (start, end)
        for number, (start, end) in zip(texts_of, encoding.offsets, strict=True)
    )
    return TextTokens(texts, inputs, pieces, offsets, numbered(keys), texts_of)


def by_search(
    texts: tuple[str, ...],
    inputs: dict[str, list[int]],
    pieces: tuple[str, ...],
    special: Sequence[bool],
) -> TextTokens:
    """Of a tokenizer without offsets: its pieces are looked up in the text, one after the other.

    A piece that is not found there, since the tokenizer has changed it, stands where the last one
    ended. A word ends before white space.
    """
    text, end, number = texts[0], 0, 0
    offsets: list[tuple[int, int] | None] = []
    words: list[int | None] = []
    for piece, is_special in zip(pieces, special, strict=True):
        if is_special:
            offsets.append(None)
            words.append(None)
            continue
        bare = piece
        for mark in MARKS:
            bare = bare.removeprefix(mark)
        found = text.find(bare, end)
        start = end if found < 0 else found
        if start > end and any(letter.isspace() for letter in text[end:start]):
            number += 1
        end = start if found < 0 else start + len(bare)
        offsets.append((start, end))
        words.append(number)
    texts_of = tuple(None if is_special else 0 for is_special in special)
    return TextTokens(texts, inputs, pieces, tuple(offsets), numbered(words), texts_of)


def written_tokens(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> TextTokens:
    """The tokens of what a model has written, its start first."""
    text = str(tokenizer.decode(list(ids), skip_special_tokens=True))
    inputs = {"input_ids": list(ids), "attention_mask": [1] * len(ids)}
    special = [place == 0 or id in tokenizer.all_special_ids for place, id in enumerate(ids)]
    return by_search((text,), inputs, pieces_of(tokenizer, ids), special)


def pieces_of(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> tuple[str, ...]:
    """The tokenizer's pieces; an id that only the model has stands as `#id`."""
    found = tokenizer.convert_ids_to_tokens(list(ids))
    return tuple(
        f"#{number}" if piece is None else piece for number, piece in zip(ids, found, strict=True)
    )


def numbered(keys: Iterable[Any]) -> tuple[int | None, ...]:
    """Equal keys as equal numbers, counted from 0 in the order in which they come."""
    found: dict[Any, int] = {}
    return tuple(None if key is None else found.setdefault(key, len(found)) for key in keys)
