"""Source texts of an encoder-decoder as rows of ids, and what happens to long ones."""

import dataclasses
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
CODE = re.compile(r"\s*>>[^<>\s]+<<\s*")  # the language that a text is to be translated into
LINES = re.compile(r"(\s*[\n\r\u2028\u2029]\s*)")  # an end of a line, and white space around it


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


@dataclass(frozen=True)
class Part:
    """A line of a text, or a text whose lines do not count."""

    text: int  # number of the text
    lead: str  # what every piece of it begins with: a prefix, a language code
    words: str
    separator: str
    name: str  # for messages


def encode_sources(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    limit: int,
    too_long: TooLong,
    *,
    source_prefix: str = "",
    by_line: bool = False,
) -> list[Source]:
    """Rows of at most `limit` tokens, special ones included, in the order of the texts.

    Args:
        source_prefix: put before each text, and before each part of one that is split.
        by_line: whether each line of a text is a row of its own.

    Raises:
        ValueError: texts are too long and that is an error; `limit` is too small for a single
            character; a language code that the tokenizer does not know.
    """
    parts = [
        part
        for number, (lead, words) in enumerate(find_leads(tokenizer, texts, source_prefix))
        for part in cut_lines(number, lead, words, by_line)
    ]
    given = [part.lead + part.words for part in parts]
    rows = tokenizer(given, verbose=False)["input_ids"] if given else []
    over = [index for index, ids in enumerate(rows) if len(ids) > limit]
    if over and too_long.action != "split":
        named = ", ".join(f"{parts[n].name} has {len(rows[n])} tokens" for n in over[:NAMED])
        more = f" and {len(over) - NAMED} more" if len(over) > NAMED else ""
        message = f"{too_long.function}: {named}{more}; the model reads {limit}"
        if too_long.action == "error":
            raise ValueError(message)
        warnings.warn(f"{message}, the rest is cut off", stacklevel=4)
        cut = tokenizer([given[index] for index in over], truncation=True, max_length=limit)[
            "input_ids"
        ]
        for index, ids in zip(over, cut, strict=True):
            rows[index] = ids
    sources = []
    for part, ids in zip(parts, rows, strict=True):
        if len(ids) > limit:
            sources += encode_parts(tokenizer, part, limit)
        else:
            sources.append(Source(part.text, list(ids), part.separator))
    return sources


def find_leads(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], source_prefix: str
) -> list[tuple[str, str]]:
    """What each text begins with, which every part of it needs, and the rest of the text.

    Models into several languages read the target's code, such as >>deu<<, before a text; their
    tokenizers hold the codes that they know.

    Raises:
        ValueError: a code that the tokenizer does not know, which the model would not see.
    """
    if source_prefix.endswith("<<"):
        source_prefix += " "
    known = sorted(token for token in tokenizer.get_vocab() if CODE.fullmatch(token))
    if not known:
        return [(source_prefix, text) for text in texts]
    leads, without = [], []
    for index, text in enumerate(texts):
        found = CODE.match(source_prefix + text)
        if found is None:
            without.append(index)
            leads.append((source_prefix, text))
            continue
        code = found[0].strip()
        if code not in known:
            raise ValueError(
                f"texts[{index}] begins with {code}, which the tokenizer does not know; its codes "
                f"are {listed(known)}"
            )
        leads.append((f"{code} ", (source_prefix + text)[found.end() :]))
    if without and len(known) > 1:
        more = f" and {len(without) - 1} more" if len(without) > 1 else ""
        warnings.warn(
            f"texts[{without[0]}]{more} name no target language, and the model knows several: "
            f"begin each with one of {listed(known)}, or give it as source_prefix",
            stacklevel=5,
        )
    return leads


def listed(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def cut_lines(number: int, lead: str, text: str, by_line: bool) -> list[Part]:
    """The lines of a text that hold something, each with what stands behind it.

    >>> [(part.words, part.separator) for part in cut_lines(0, "", "One\\n\\n- two", True)]
    [('One', '\\n\\n'), ('- two', '')]
    """
    if not by_line:
        return [Part(number, lead, text, "", f"texts[{number}]")]
    pieces = LINES.split(text.strip())  # lines and what is between them, by turns
    lines, between = pieces[::2], [*pieces[1::2], ""]
    names = [f"texts[{number}]"]
    if len(lines) > 1:
        names = [f"texts[{number}] line {place}" for place in range(1, len(lines) + 1)]
    return [
        Part(number, lead, words, separator, name)
        for words, separator, name in zip(lines, between, names, strict=True)
    ]


def encode_parts(tokenizer: PreTrainedTokenizerBase, whole: Part, limit: int) -> list[Source]:
    """A text that is too long, as rows of whole sentences where they fit."""

    def ids_of(piece: str) -> list[int]:
        return list(tokenizer(whole.lead + piece.strip(), verbose=False)["input_ids"])

    sources = []
    for piece in split_text(whole.words, lambda piece: len(ids_of(piece)) <= limit):
        if piece.strip():
            space = piece[len(piece.rstrip()) :]
            separator = space if LINES.fullmatch(space) else " "
            sources.append(Source(whole.text, ids_of(piece), separator))
    sources[-1] = dataclasses.replace(sources[-1], separator=whole.separator)
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
