"""Source texts of an encoder-decoder as rows of ids, and what happens to long ones."""

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

# Where a text may be cut, best first: after a sentence or a line, between words, anywhere.
CUTS = (
    re.compile(r"""(?<=[.!?…])["'”’»)\]]*\s+|[。！？]+\s*|\n+\s*"""),
    re.compile(r"\s+"),
    re.compile(r"(?<=.)(?=.)", re.DOTALL),
)
NAMED = 10  # texts that a warning names one by one


@dataclass(frozen=True)
class TooLong:
    """What `function` does to texts of more tokens than `max_length` and the model allow.

    One of `choices`.
    """

    function: str
    action: str
    choices: tuple[str, ...]

    def __post_init__(self):
        if self.action not in self.choices:
            raise ValueError(
                f"on_too_long must be one of {', '.join(self.choices)}, got {self.action!r}"
            )


@dataclass(frozen=True)
class Source:
    """One row: a text or a part of it."""

    text: int  # number of the text
    input_ids: list[int]
    separator: str  # what stands between it and the next part


def encode_sources(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], limit: int, too_long: TooLong
) -> list[Source]:
    """Rows of at most `limit` tokens, special ones included, in the order of the texts.

    Raises:
        ValueError: texts are too long and that is an error; `limit` is too small for a single
            character.
    """
    rows = tokenizer(list(texts), verbose=False)["input_ids"] if texts else []
    over = [index for index, ids in enumerate(rows) if len(ids) > limit]
    if over and too_long.action != "split":
        named = ", ".join(f"texts[{index}] has {len(rows[index])} tokens" for index in over[:NAMED])
        more = f" and {len(over) - NAMED} more" if len(over) > NAMED else ""
        message = f"{too_long.function}: {named}{more}; the model reads {limit}"
        if too_long.action == "error":
            raise ValueError(message)
        warnings.warn(f"{message}, the rest is cut off", stacklevel=4)
        cut = tokenizer([texts[index] for index in over], truncation=True, max_length=limit)[
            "input_ids"
        ]
        for index, ids in zip(over, cut, strict=True):
            rows[index] = ids
    sources = []
    for index, ids in enumerate(rows):
        if len(ids) > limit:
            sources += encode_parts(tokenizer, index, texts[index], limit)
        else:
            sources.append(Source(index, list(ids), ""))
    return sources


def encode_parts(
    tokenizer: PreTrainedTokenizerBase, index: int, text: str, limit: int
) -> list[Source]:
    """A text that is too long, as rows of whole sentences where they fit."""

    def fits(part: str) -> bool:
        return len(tokenizer(part.strip(), verbose=False)["input_ids"]) <= limit

    sources = []
    for part in split_text(text, fits):
        if part.strip():
            lines = part[len(part.rstrip()) :].count("\n")
            separator = "\n" * lines if lines else " "
            sources.append(Source(index, list(tokenizer(part.strip())["input_ids"]), separator))
    return sources


def split_text(text: str, fits: Callable[[str], bool]) -> list[str]:
    """Parts that fit and together are the text.

    As many sentences a part as fit, else words, else characters.

    Raises:
        ValueError: a single character does not fit.

    >>> split_text("One. Two! Three and four?", lambda part: len(part.split()) <= 2)
    ['One. Two! ', 'Three and ', 'four?']
    """
    if fits(text):
        return [text]
    for pattern in CUTS:
        places = [0, *(match.end() for match in pattern.finditer(text)), len(text)]
        slices = [
            text[start:end] for start, end in zip(places, places[1:], strict=False) if end > start
        ]
        if len(slices) > 1:
            break
    else:
        raise ValueError(f"max_source_length is too small: {text!r} alone has more tokens")
    parts: list[str] = []
    for piece in slices:
        if parts and fits(parts[-1] + piece):
            parts[-1] += piece
        else:
            parts.append(piece)
    return [smaller for part in parts for smaller in split_text(part, fits)]
