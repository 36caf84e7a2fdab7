"""Labels.

Which there are, in which order, of which problem type, and what a value in the data stands for.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .problems import BadRow, has_surrogates, shown

PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")
WHOLE = re.compile(r"[+-]?\d+(\.0*)?")


def label_name(value: Any) -> str:
    """The name of a label: 1, 1.0, "1" and "1.0" are the same one.

    Raises:
        BadRow: there is no value.
    """
    if is_missing(value):
        raise BadRow("missing label")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value).strip()
    if has_surrogates(text):
        raise BadRow("broken UTF-8", f"label {shown(text)}")
    return str(int(float(text))) if WHOLE.fullmatch(text) and "." in text else text


def is_missing(value: Any) -> bool:
    """None, NaN (as data frames write what is missing) or an empty text."""
    return (
        value is None
        or (isinstance(value, float) and value != value)
        or (isinstance(value, str) and not value.strip())
    )


def number_of(value: Any) -> float | None:
    """The value as a finite number; None where it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if abs(number) < float("inf") else None


def in_order(names: Iterable[str]) -> list[str]:
    """Whole numbers by size.

    Entity tags with O first, then by type with B- before I-; anything else sorted.
    """
    names = set(names)
    if all(WHOLE.fullmatch(name) for name in names):
        return sorted(names, key=int)
    prefixes = {"B": 0, "I": 1, "L": 2, "E": 2, "U": 3, "S": 3}

    def place(name: str) -> tuple[bool, str, int]:
        prefix, dash, kind = name.partition("-")
        return (
            (name != "O", kind, prefixes[prefix])
            if dash and prefix in prefixes
            else (name != "O", name, 0)
        )

    return sorted(names, key=place)


def complete_tags(names: Iterable[str]) -> list[str]:
    """Tags of IOB2 with both B- and I- for each type, though the training data may have only one of
    them.

    A rare type may have only entities of one word there; its longer ones elsewhere are no mistake.
    Other schemes (BILOU, parts of speech) stay as they are.
    """
    names = set(names)
    if not all(name == "O" or name.startswith(("B-", "I-")) for name in names):
        return in_order(names)
    kinds = {name[2:] for name in names if name != "O"}
    return in_order({*names, *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI")})


def class_names_of(feature: Any) -> list[str] | None:
    """Names that a data set's feature holds: of a ClassLabel, or of a list of them."""
    while feature is not None and not hasattr(feature, "names"):
        feature = getattr(
            feature, "feature", feature[0] if isinstance(feature, list) and feature else None
        )
    return list(feature.names) if feature is not None else None


def as_list(value: Any) -> list[Any]:
    """A cell that holds several.

    A list, JSON of one, or names with | (or, without one, commas) between.
    """
    if isinstance(value, (list, tuple)):
        return list(value)
    if is_missing(value):
        return []
    text = str(value).strip()
    if text.startswith("["):
        try:
            return list(json.loads(text))
        except json.JSONDecodeError as error:
            raise BadRow("broken list of labels", f"{shown(text)}: {error}") from error
    return [part.strip() for part in text.split("|" if "|" in text else ",") if part.strip()]


@dataclass
class Labels:
    """What the values of a label column stand for.

    Attributes:
        names: of the classes, in the order of their numbers; None in regression.
        problem_type: one of `PROBLEM_TYPES`.
        class_names: what the data's own whole numbers stand for, where the data set says so
            (ClassLabel).
        multi_hot: in multi-label data, whether a row is a list of 0 and 1, one a class, not a list
            of labels.
    """

    names: list[str] | None
    problem_type: str = "single_label_classification"
    class_names: list[str] | None = None
    multi_hot: bool = False
    numbers: dict[str, int] = field(init=False)

    def __post_init__(self):
        if self.names is not None and len(set(self.names)) != len(self.names):
            raise ValueError(f"labels must differ from each other, got {self.names}")
        self.numbers = {name: number for number, name in enumerate(self.names or [])}

    def one(self, value: Any) -> int:
        """Number of one class.

        A whole number stands for the class of that name, or, where there is none, for the class of
        that number.

        Raises:
            BadRow: the label is missing or unknown.
        """
        name = label_name(value)
        if self.class_names is not None and WHOLE.fullmatch(name) and isinstance(value, int):
            name = self.class_names[int(name)] if 0 <= int(name) < len(self.class_names) else name
        if name in self.numbers:
            return self.numbers[name]
        if (
            name.isdecimal()
            and int(name) < len(self.numbers)
            and not any(map(WHOLE.fullmatch, self.numbers))
        ):
            return int(name)
        known = ", ".join(list(self.numbers)[:20]) + (", …" if len(self.numbers) > 20 else "")
        raise BadRow("unknown label", f"{shown(value)}; known are {known}")

    def encode(self, value: Any) -> int | float | list[float]:
        """The canonical label of a row: a class, a number, or one 0.0 or 1.0 a class.

        Raises:
            BadRow: the label is missing, unknown, or no finite number in regression.
        """
        if self.problem_type == "single_label_classification":
            return self.one(value)
        if self.problem_type == "regression":
            if is_missing(value):
                raise BadRow("missing label")
            if (number := number_of(value)) is None:
                raise BadRow("label is not a finite number", shown(value))
            return number
        if value is None:
            raise BadRow("missing label")
        items = as_list(value)
        if self.multi_hot:
            if len(items) != len(self.numbers) or not all(
                number_of(item) in (0.0, 1.0) for item in items
            ):
                raise BadRow("label is not a list of 0 and 1, one a class", shown(value))
            return [float(item) for item in items]
        chosen = {self.one(item) for item in items}
        return [float(number in chosen) for number in range(len(self.numbers))]


def find_labels(
    values: Iterable[Any],
    *,
    names: Sequence[str] | None = None,
    problem_type: str | None = None,
    class_names: list[str] | None = None,
) -> Labels:
    """Problem type and labels of a column; only what differs is kept in memory.

    Lists are multi-label; numbers of which at least one is not whole are regression; anything else
    is single-label.

    Args:
        values: of the training data's label column.
        names: known labels, which are then not looked for.
        problem_type: known type.
        class_names: names that the data set itself holds.

    Raises:
        ValueError: `problem_type` is unknown, or no label was found.
    """
    if problem_type not in (None, *PROBLEM_TYPES):
        raise ValueError(
            f"problem_type must be one of {', '.join(PROBLEM_TYPES)}, got {problem_type!r}"
        )
    seen = Seen()
    for value in values:
        seen.add(value, split=problem_type == "multi_label_classification")
    problem_type = problem_type or seen.problem_type(names=names or class_names)
    if problem_type == "regression":
        return Labels(None, problem_type)
    multi_hot = problem_type == "multi_label_classification" and seen.multi_hot
    found = list(map(str, names)) if names else class_names or seen.ordered(multi_hot)
    if not found:
        raise ValueError(
            "labels must occur in the training data, got none; or give them as labels=[…]"
        )
    return Labels(found, problem_type, class_names, multi_hot)


class Seen:
    """What a label column has held so far."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.lists = self.flat = False
        self.all_numbers, self.some_fraction = True, False
        self.widths: set[int] = set()
        self.only_bits, self.repeats = True, False

    def add(self, value: Any, *, split: bool) -> None:
        """Take one row's label into account.

        What is missing or broken is reported later, with its row.
        """
        try:
            if isinstance(value, (list, tuple)) or (split and not is_missing(value)):
                items = as_list(value)
                self.lists = True
                self.widths.add(len(items))
                self.only_bits &= all(number_of(item) in (0.0, 1.0) for item in items)
                self.repeats |= len(set(map(str, items))) < len(items)
                self.names.update(map(label_name, items))
                return
            name = label_name(value)
        except BadRow:
            return
        self.flat = True
        self.names.add(name)
        number = number_of(name)
        self.all_numbers &= number is not None
        self.some_fraction |= number is not None and not number.is_integer()

    def problem_type(self, *, names: Sequence[str] | None) -> str:
        """The type that the values show. Known names speak against regression."""
        if self.lists:
            return "multi_label_classification"
        fits = self.flat and self.all_numbers and self.some_fraction and not names
        return "regression" if fits else "single_label_classification"

    @property
    def multi_hot(self) -> bool:
        """Lists of one length with 0 and 1 only, and one repeated.

        No list of labels would say a label twice.
        """
        return self.only_bits and len(self.widths) == 1 and self.repeats

    def ordered(self, multi_hot: bool) -> list[str]:
        """The names in their order; the numbers of the positions where the rows hold 0 and 1."""
        if multi_hot:
            return [str(number) for number in range(max(self.widths))]
        return in_order(self.names)
