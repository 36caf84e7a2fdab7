"""Rows of a document.

Sentence pairs as BERT's authors made them, sentence-order pairs, or full sentences.

Source: create_pretraining_data.py of github.com/google-research/bert (Devlin et al. 2018, section
3.1, appendix A.2);
sentence order: Lan et al. 2019 (ALBERT), section 3.1; full sentences without pairs: Liu et al. 2019
(RoBERTa), section 4.2, DOC-SENTENCES. Rows are planned as positions in the token store: no token is
read here, so that planning is cheap.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from bertlite.models.inputs import IGNORED

from .token_store import TokenStore

TASKS = ("next_sentence", "sentence_order", "none")
FOLLOWS, RANDOM = 0, 1  # labels of the pair; "random" stands for "swapped" in sentence order


class Row(NamedTuple):
    """[CLS] A [SEP] B [SEP], or [CLS] A [SEP] where B is empty.

    Positions are of the token store, ends exclusive.
    """

    a_start: int
    a_end: int
    b_start: int
    b_end: int
    label: int  # 0 follows, 1 random (or swapped), -100 no pair

    @property
    def length(self) -> int:
        """Tokens of the row, the special ones included."""
        a, b = self.a_end - self.a_start, self.b_end - self.b_start
        return a + b + (3 if b else 2)


@dataclass(frozen=True)
class PairOptions:
    """How documents become rows.

    Args:
        task: "next_sentence", "sentence_order", or "none": full sentences of one document.
        short_probability: share of documents whose rows aim at a random shorter length, so that the
            model meets short texts too (0.1 in the original, drawn once a document).
        random_next_probability: how often the second segment is of another document, where there is
            a choice. A stretch of one sentence has no next one, and always gets a random one: as in
            the original, the share of random pairs is therefore above a half.

    Raises:
        ValueError: an unknown task, or a probability outside [0, 1].
    """

    task: str = "next_sentence"
    short_probability: float = 0.1
    random_next_probability: float = 0.5

    def __post_init__(self):
        if self.task not in TASKS:
            raise ValueError(f"task must be one of {TASKS}, got {self.task!r}")
        for name in ("short_probability", "random_next_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")


def document_rows(
    store: TokenStore,
    document: int,
    max_length: int,
    options: PairOptions,
    generator: random.Random,
) -> Iterator[Row]:
    """All rows of one document, in order.

    Args:
        store: the corpus, from which random next sentences come too.
        document: its number.
        max_length: of a row in tokens, [CLS] and [SEP] included.
        options: what kind of rows.
        generator: draws all that is drawn.
    """
    if options.task == "none":
        bounds, _ = cut_long_sentences(store, document, max_length - 2, max_length - 2)
        yield from full_sentence_rows(bounds, max_length)
        return
    room = max_length - 3
    target = generator.randint(2, room) if generator.random() < options.short_probability else room
    # Half a row at most, so that two pieces of one sentence are a pair that is not cut again.
    bounds, cut = cut_long_sentences(store, document, room, room // 2)

    def random_next(length: int) -> tuple[int, int]:
        return random_stretch(store, document, target - length, room, generator)

    pair = next_sentence_pair if options.task == "next_sentence" else sentence_order_pair
    first, number = 0, len(bounds) - 1
    while first < number:
        last = first + 1
        while last < number and bounds[last] - bounds[first] < target:
            if cut[last] and bounds[last + 1] - bounds[first] > room:
                break
            last += 1
        middle = first + (1 if last - first == 1 else generator.randint(1, last - first - 1))
        row, first = pair(bounds, (first, middle, last), options, random_next, generator)
        yield fit(row, max_length, generator)


def cut_long_sentences(
    store: TokenStore, document: int, longest: int, size: int
) -> tuple[list[int], list[bool]]:
    """The sentences of a document, those that are longer than a row as pieces of about one length.

    Deviation: the original takes a long sentence whole and cuts the row at both ends, so that of a
    text without full stops, of a transcript or of Thai, nothing but the middle is ever shown.

    Args:
        store: the corpus.
        document: its number.
        longest: tokens of a sentence that stays whole.
        size: tokens of a piece at most. It begins with a word where one begins in its latter half.

    Returns:
        Where the sentences and pieces begin in the ids, and, last, where the document ends; and
        for each whether it is a piece.
    """
    bounds = store.bounds(document)
    if all(end - start <= longest for start, end in pairwise(bounds)):
        return bounds, [False] * (len(bounds) - 1)
    starts, cut = [], []
    for start, end in pairwise(bounds):
        long = end - start > longest
        while long and end - start > size:
            starts.append(start)
            cut.append(True)
            wanted = -(-(end - start) // -(-(end - start) // size))  # so that all are about equal
            start = word_start(store, start + wanted // 2, start + wanted)
        starts.append(start)
        cut.append(long)
    return [*starts, bounds[-1]], cut


def word_start(store: TokenStore, after: int, place: int) -> int:
    """The last place up to `place`, and after `after`, at which a word begins; `place` if none."""
    begins = (store.continues[after + 1 : place + 1] == 0).nonzero()[0]
    return after + 1 + int(begins[-1]) if len(begins) else place


def random_stretch(
    store: TokenStore, document: int, wanted: int, room: int, generator: random.Random
) -> tuple[int, int]:
    """Sentences of another document, any being as likely, of `wanted` tokens or a few more.

    Of a sentence longer than a row, any part of it.
    """
    other = generator.randrange(len(store) - 1)
    others = store.bounds(other + (other >= document))
    first = generator.randrange(len(others) - 1)
    start, length = others[first], others[first + 1] - others[first]
    if length > room:
        wanted = max(wanted, room // 4)
        place = start + generator.randint(0, length - wanted)
        start = word_start(store, max(start - 1, place - room), place)
        return start, start + wanted
    last = first + 1
    while last < len(others) - 1 and others[last] - start < wanted:
        last += 1
    return start, others[last]


def next_sentence_pair(
    bounds: list[int],
    cut: tuple[int, int, int],
    options: PairOptions,
    random_next: Callable[[int], tuple[int, int]],
    generator: random.Random,
) -> tuple[Row, int]:
    """A pair of sentences `cut[0]` to `cut[1]`, and the rest or random ones.

    And the next sentence not yet used.
    """
    first, middle, last = cut
    if last - first == 1 or generator.random() < options.random_next_probability:
        # What stood after A is not lost: the next row begins with it.
        start, end = random_next(bounds[middle] - bounds[first])
        return Row(bounds[first], bounds[middle], start, end, RANDOM), middle
    return Row(bounds[first], bounds[middle], bounds[middle], bounds[last], FOLLOWS), last


def sentence_order_pair(
    bounds: list[int],
    cut: tuple[int, int, int],
    options: PairOptions,
    random_next: Callable[[int], tuple[int, int]],
    generator: random.Random,
) -> tuple[Row, int]:
    """Two neighbouring stretches, swapped half the time.

    A lone sentence is a row without a pair.
    """
    first, middle, last = cut
    if last - first == 1:
        return Row(bounds[first], bounds[last], 0, 0, IGNORED), last
    a, b = (bounds[first], bounds[middle]), (bounds[middle], bounds[last])
    swapped = generator.random() < 0.5
    return (Row(*b, *a, RANDOM) if swapped else Row(*a, *b, FOLLOWS)), last


def full_sentence_rows(bounds: list[int], max_length: int) -> Iterator[Row]:
    """As many whole sentences a row as fit; none may be longer than a row."""
    room, start = max_length - 2, bounds[0]
    for end, following in zip(bounds[1:], [*bounds[2:], None], strict=True):
        if following is None or following - start > room:
            yield Row(start, end, 0, 0, IGNORED)
            start = end


def fit(row: Row, max_length: int, generator: random.Random) -> Row:
    """Cut a pair to `max_length` tokens.

    The longer segment loses one at a time, at a random side each time.

    How many each loses follows from the lengths; how many of these at the front is then a binomial
    draw, as the original's draw for each single token is.
    """
    a, b = row.a_end - row.a_start, row.b_end - row.b_start
    excess = row.length - max_length
    if excess <= 0:
        return row
    lead = min(excess, abs(a - b))  # the longer one alone, until both are as long
    lost_a, lost_b = (lead, 0) if a > b else (0, lead)
    lost_a, lost_b = (
        lost_a + (excess - lead) // 2,
        lost_b + (excess - lead + 1) // 2,
    )  # B first when both are as long
    front_a, front_b = heads(lost_a, generator), heads(lost_b, generator)
    ends = row.a_end - (lost_a - front_a), row.b_end - (lost_b - front_b)
    return Row(row.a_start + front_a, ends[0], row.b_start + front_b, ends[1], row.label)


def heads(tosses: int, generator: random.Random) -> int:
    """How many of so many tosses of a coin."""
    return generator.getrandbits(tosses).bit_count() if tosses else 0
