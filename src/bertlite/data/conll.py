"""Sentences in columns: CoNLL of every year, CoNLL-U, BIO and IOB2 files."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from .problems import BadRow, shown
from .text_files import lines_of, open_text

LOOKED_AT = 20_000  # lines from which the layout is learned
ID = re.compile(r"\d+([-.]\d+)?")  # of a word; of several words in one; of an empty node
ENTITY = re.compile(r"O|[BIELSU]-.+")
COMMENT = re.compile(r"#(\s|#|begin\b|end\b|[\w.:-]+\s*=)")
SURE_COMMENT = re.compile(r"#(#|begin\b|end\b|\s*[\w.:-]+\s*=\s)")
CONLLU = ("id", "tokens", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")


@dataclass(frozen=True)
class Layout:
    """How the lines of a file are made.

    Attributes:
        tabs: whether tabs, not spaces, are between the columns.
        width: columns that most lines have.
        ids: whether the first column counts the words, so that the second holds them.
        tags: place of the column with the tags, from 0.
        known_tags: what stands there.
    """

    tabs: bool
    width: int
    ids: bool
    tags: int
    known_tags: frozenset[str]

    def fields(self, line: str) -> list[str]:
        """The columns of a line."""
        line = line.rstrip() if not self.tabs else line.rstrip(" ")
        return [each.strip() for each in (line.split("\t") if self.tabs else split_spaces(line))]

    def names(self) -> list[str | None]:
        """Names of the columns; None for one that is left out."""
        if self.ids and self.tabs and self.width == len(CONLLU):
            return [None, *CONLLU[1:]]
        names: list[str | None] = [f"column {number}" for number in range(1, self.width + 1)]
        names[self.tags] = "tags"
        names[int(self.ids)] = "tokens"
        return [None, *names[1:]] if self.ids else names

    def is_comment(self, line: str, *, starts: bool) -> bool:
        """Whether a line is about the sentence, not a word of it: a word may be a # as well."""
        if not COMMENT.match(line):
            return False
        fields = self.fields(line)
        if len(fields) != self.width:
            return starts or bool(SURE_COMMENT.match(line))
        return starts and line.startswith("# ") and fields[self.tags] not in self.known_tags


def split_spaces(line: str) -> list[str]:
    """Parts between spaces and tabs only: a word may hold other white space."""
    return re.split(r"[ \t]+", line.strip(" \t"))


def layout_of(lines: Iterable[str]) -> Layout:
    """The layout of a file, from its first lines."""
    words = [
        line
        for line in islice(lines, LOOKED_AT)
        if not line.strip() or not line.startswith(("#", "-DOCSTART-"))
    ]
    filled = [line for line in words if line.strip()]
    tabs = sum("\t" in line for line in filled) * 2 > len(filled)
    plain = Layout(tabs, 0, False, 0, frozenset())
    split = [plain.fields(line) if line.strip() else [] for line in words]
    width = Counter(len(fields) for fields in split if fields).most_common(1)
    if not width:
        return plain
    whole = [fields for fields in split if len(fields) == width[0][0]]
    tags = tag_column(whole)
    ids = has_ids(split, width[0][0])
    return Layout(tabs, width[0][0], ids, tags, frozenset(fields[tags] for fields in whole))


def tag_column(lines: list[list[str]]) -> int:
    """The last one; where that is the same in every line, the one other that holds entity tags."""
    values = [set(column) for column in zip(*lines, strict=True)]
    entities = [
        place
        for place, column in enumerate(values)
        if place and len(column) > 1 and all(map(ENTITY.fullmatch, column))
    ]
    return entities[0] if len(values[-1]) == 1 and len(entities) == 1 else len(values) - 1


def has_ids(lines: list[list[str]], width: int) -> bool:
    """Whether the first of at least three columns counts the words of each sentence from 1."""
    starts = [fields for before, fields in zip([[], *lines], lines, strict=False) if not before]
    first = [fields[0] for fields in starts if fields]
    every = all(ID.fullmatch(fields[0]) for fields in lines if fields)
    return width > 2 and every and all(re.fullmatch(r"[01]([-.]\d+)?", each) for each in first)


def read_conll(
    path: Path, encoding: str | None = None
) -> Iterator[tuple[str, dict[str, Any] | BadRow]]:
    """Sentences in columns, one word a line, empty lines between them.

    Comments and `-DOCSTART-` are passed over; so are CoNLL-U's lines of several words in one.

    Yields:
        A row has `tokens` (the first column, or the second where the first counts), `tags` (the
        last, or the one with entity tags where the last says nothing) and the others as `column 2`,
        `column 3`, …; of CoNLL-U `lemma`, `upos`, `xpos` and so on. Its place is its first line.
    """
    with open_text(path, encoding) as file:
        layout = layout_of(lines_of(file))
    with open_text(path, encoding) as file:
        sentence: list[list[str]] = []
        start = 1
        for number, line in enumerate(with_end(lines_of(file)), start=1):
            if line.strip() and not line.startswith("-DOCSTART-"):
                if not layout.is_comment(line, starts=not sentence):
                    start = start if sentence else number
                    sentence.append(layout.fields(line))
            elif sentence:
                yield f"{path.name} line {start}", conll_row(sentence, layout)
                sentence = []


def holds_sentences(path: Path, encoding: str | None = None) -> bool:
    """Whether lines are words, with empty lines between sentences: no table has these."""
    with open_text(path, encoding) as file:
        lines = [line.strip() for line in islice(lines_of(file), LOOKED_AT)]
    while lines and not lines[-1]:
        lines.pop()
    return "" in lines


def with_end(lines: Iterable[str]) -> Iterator[str]:
    """The lines and an empty one, which ends the last sentence."""
    yield from lines
    yield ""


def conll_row(sentence: list[list[str]], layout: Layout) -> dict[str, Any] | BadRow:
    """Columns of one sentence.

    Every line must have as many. Words alone, for prediction, have no tags.
    """
    if {len(fields) for fields in sentence} == {1}:
        return {"tokens": [fields[0] for fields in sentence]}
    for fields in sentence:
        if len(fields) < layout.width:
            detail = f"a line holds {shown(' '.join(fields))} only"
            return BadRow("tokens and tags of unequal length", detail)
        if len(fields) > layout.width:
            detail = f"a line has {len(fields)} columns, most others {layout.width}"
            return BadRow("another number of columns", f"{detail}: {shown(' '.join(fields))}")
    if layout.ids:
        sentence = [fields for fields in sentence if fields[0].isdecimal()]
    columns = zip(layout.names(), zip(*sentence, strict=True), strict=False)
    return {name: list(column) for name, column in columns if name is not None}
