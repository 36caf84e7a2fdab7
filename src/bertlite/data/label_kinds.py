"""What kind of labels a column holds, decided with care.

Classes, numbers or several labels a row; where it is doubtful, an error or a warning says which
option settles it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .cells import written_list
from .label_checks import check_names, multi_warnings, number_warnings, settle
from .labels import (
    PROBLEM_TYPES,
    Labels,
    as_list,
    in_order,
    label_name,
    number_of,
    split_names,
)
from .problems import BadRow, shown

REGRESSION, SINGLE, MULTI = PROBLEM_TYPES
SEPARATORS = ("|", ";", ",")
MOST = 0.5  # share of numbers from which the others are mistakes


def find_labels(
    values: Iterable[Any],
    *,
    names: Sequence[str] | None = None,
    problem_type: str | None = None,
    class_names: list[str] | None = None,
    order: Callable[[Iterable[str]], list[str]] = in_order,
) -> Labels:
    """Problem type and labels of a column; only what differs is kept in memory.

    Lists, also written ones, are multi-label; so are names with | between, or with ; or commas
    where every part occurs elsewhere too. Numbers of which at least one is not whole are
    regression, though some rows hold none. Anything else is single-label.

    Args:
        values: of the training data's label column.
        names: known labels, which are then not looked for.
        problem_type: known type.
        class_names: names that the data set itself holds.
        order: puts the names that were found in order.

    Raises:
        ValueError: `problem_type` is unknown, no label was found or one only, or the values are
            doubtful: nearly as many labels as rows, labels that differ in capitals only, some lists
            and some names, names that may be several.
    """
    if problem_type not in (None, *PROBLEM_TYPES):
        raise ValueError(
            f"problem_type must be one of {', '.join(PROBLEM_TYPES)}, got {problem_type!r}"
        )
    seen = Seen(problem_type, names or class_names)
    for value in values:
        seen.add(value)
    kind = seen.decide()
    if kind == REGRESSION:
        return Labels(None, kind, notes=seen.notes, warnings=seen.warnings)
    multi_hot = kind == MULTI and seen.multi_hot
    if kind == MULTI:
        seen.warnings += multi_warnings(seen.parts, seen.sizes, multi_hot=multi_hot)
    if names or class_names:
        found = list(map(str, names or class_names or ()))
    elif multi_hot:
        found = [str(number) for number in range(max(seen.sizes))]
        seen.notes.append("labels are lists of 0 and 1, whose places are the labels' names")
    else:
        found = order(seen.parts if kind == MULTI else seen.texts)
        counts = seen.parts if kind == MULTI else seen.texts
        if not found:
            raise ValueError(
                "labels must occur in the training data, got none"
                f"{f' ({seen.bad})' if seen.bad else ''}; or give them as labels=[…] (--labels …)"
            )
        seen.warnings += check_names(found, counts, kind == SINGLE, surely=problem_type is not None)
    return Labels(
        found,
        kind,
        class_names,
        multi_hot,
        seen.separator,
        notes=seen.notes,
        warnings=seen.warnings,
    )


class Seen:
    """What a label column has held so far.

    Attributes:
        given: the problem type that the caller wants.
        known: names of labels that are known.
        texts: labels that are no lists, though they may be written ones, and how often each is
            there.
        parts: labels in lists, and in how many rows each is.
        sizes: how many labels the rows with lists have.
        separator: between labels of one text, once that is decided.
        bad: the first value that is no label.
    """

    def __init__(self, given: str | None, known: Sequence[str] | None) -> None:
        self.given, self.known = given, known
        self.texts: Counter[str] = Counter()
        self.parts: Counter[str] = Counter()
        self.sizes: Counter[int] = Counter()
        self.only_bits, self.repeats = True, False
        self.separator: str | None = None
        self.bad: BadRow | None = None
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def add(self, value: Any) -> None:
        """Take one row's label into account.

        What is missing or broken is reported later, with its row.
        """
        if isinstance(value, (list, tuple)) and self.given != SINGLE:
            self.add_list(list(value))
            return
        for item in value if isinstance(value, (list, tuple)) else [value]:
            try:
                self.texts[label_name(item)] += 1
            except BadRow as bad:
                self.bad = self.bad or bad

    def add_list(self, items: list[Any], count: int = 1) -> None:
        """The labels of one row, or of so many rows that hold the same."""
        self.sizes[len(items)] += count
        self.only_bits &= all(number_of(item) in (0.0, 1.0) for item in items)
        self.repeats |= len(set(map(str, items))) < len(items)
        for item in items:
            try:
                self.parts[label_name(item)] += count
            except BadRow as bad:
                self.bad = self.bad or bad

    def decide(self) -> str:
        """The problem type that was given, or the one that the values show.

        Raises:
            ValueError: it is doubtful.
        """
        kind = self.given or self.shown_kind()
        if kind == MULTI:
            if self.separator is None:
                held = (mark for mark in SEPARATORS if any(mark in text for text in self.texts))
                self.separator = next(held, None)
            for text, count in self.texts.items():
                try:
                    self.add_list(as_list(text, self.separator), count)
                except BadRow:
                    continue
        return kind

    def shown_kind(self) -> str:
        """The type that the values show; errors as of `decide`."""
        written = [text for text in self.texts if written_list(text) is not None]
        if self.sizes or written:
            return self.kind_of_lists(written)
        if self.known is None and self.are_numbers():
            return REGRESSION
        return MULTI if self.hold_separators() else SINGLE

    def kind_of_lists(self, written: list[str]) -> str:
        """Lists in every row are several labels; in some rows only, nobody knows.

        Raises:
            ValueError: other rows hold no lists.
        """
        names = [text for text in self.texts if text not in written]
        if names:
            first = shown(written[0]) if written else "those of the first rows"
            raise settle(f"some labels are lists, as {first}, and others are not, as {names[0]!r}")
        if written:
            self.notes.append(f"labels such as {shown(written[0])} are read as lists")
        return MULTI

    def are_numbers(self) -> bool:
        """Whether the labels are scores, though perhaps not in every row.

        Raises:
            ValueError: they are numbers with commas.
        """
        numbers = {text: number for text in self.texts if (number := number_of(text)) is not None}
        others = [text for text in self.texts if text not in numbers]
        if others and all(number_of(text.replace(",", ".", 1)) is not None for text in others):
            what = f"labels such as {others[0]!r} may be decimals with a comma, or two labels"
            raise settle(f"{what}; write decimals with a point")
        share = sum(self.texts[text] for text in numbers) / max(self.texts.total(), 1)
        if share >= MOST and any(not number.is_integer() for number in numbers.values()):
            if others:
                count = sum(self.texts[text] for text in others)
                self.notes.append(f"labels are numbers but in {count:,} rows, as {others[0]!r}")
            return True
        self.warnings += number_warnings(list(numbers), others, self.texts)
        return False

    def hold_separators(self) -> bool:
        """Whether texts hold several labels with |, ; or commas between.

        Raises:
            ValueError: that may be so, or not.
        """
        for mark in SEPARATORS:
            parts = {text: split_names(text, mark) for text in self.texts}
            several = {text: each for text, each in parts.items() if len(each) > 1}
            inside = {part for each in several.values() for part in each}
            if self.known is not None:
                found = bool(inside) and inside <= set(self.known)
                found = found and not set(several) & set(self.known)
            elif several:
                where = Counter(part for each in parts.values() for part in set(each))
                again = sum(where[part] > 1 for part in inside)
                found = self.are_several(mark, next(iter(several)), len(inside), again)
            else:
                continue
            if found:
                example = next(iter(several))
                self.separator = mark
                self.notes.append(f"labels such as {example!r} are several, with {mark!r} between")
                return True
        return False

    def are_several(self, mark: str, example: str, parts: int, again: int) -> bool:
        """Whether names with a mark inside are several labels.

        Args:
            mark: the separator.
            example: a name that holds it.
            parts: how many different parts such names have.
            again: how many of these occur in other labels too.

        Raises:
            ValueError: it is doubtful.
        """
        if again == parts or (again and mark == "|"):
            return True
        if again or mark == "|":
            raise settle(f"labels such as {example!r} may be one name, or several")
        self.warnings.append(
            f"labels such as {example!r} are taken as one name each; "
            f'problem_type="{MULTI}" (--problem_type {MULTI}) takes them apart'
        )
        return False

    @property
    def multi_hot(self) -> bool:
        """Lists of one length with 0 and 1 only, and one repeated: no list says a label twice.

        Two places that are never equal are a place for each class too, since otherwise every row
        would have both labels.
        """
        widths = list(self.sizes)
        return self.only_bits and len(widths) == 1 and (self.repeats or widths[0] == 2)
