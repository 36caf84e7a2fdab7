"""Labels.

Which there are, in which order, of which problem type, and what a value in the data stands for.
"""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .cells import written_list
from .problems import BROKEN, BadRow, has_surrogates, shown

PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")
WHOLE = re.compile(r"[+-]?\d+(\.0*)?")
NOTHING = {"", "nan", "<na>", "nat", "#n/a"}  # what pandas and spreadsheets write for no value


def label_name(value: Any) -> str:
    """The name of a label: 1, 1.0, "1" and "1.0" are the same one.

    Raises:
        BadRow: there is no value, or it holds several.
    """
    if is_missing(value):
        raise BadRow("missing label", "" if value is None or value != value else shown(value))
    if isinstance(value, Mapping | list | tuple | set | bytes):
        raise BadRow("label is not one value", shown(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value).strip()
    if has_surrogates(text):
        raise BadRow(BROKEN, f"label {shown(text)}")
    return str(int(float(text))) if WHOLE.fullmatch(text) and "." in text else text


def is_missing(value: Any) -> bool:
    """None, NaN (as data frames write what is missing, in files too) or an empty text."""
    if isinstance(value, str):
        return value.strip().casefold() in NOTHING
    return value is None or (isinstance(value, float) and value != value)


def number_of(value: Any) -> float | None:
    """The value as a finite number; None where it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if abs(number) < float("inf") else None


def folded(name: str) -> str:
    """A name without what people write now one way, now another: capitals and white space."""
    return " ".join(name.casefold().split())


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


def as_list(value: Any, separator: str | None = None) -> list[Any]:
    """A cell that holds several.

    A list, one that is written out (as JSON, or as Python and numpy print theirs), or names with
    `separator` between; where that is None, | or, without one, commas.
    """
    if isinstance(value, (list, tuple)):
        return list(value)
    if is_missing(value):
        return []
    text = str(value).strip()
    if (found := written_list(text)) is not None:
        return found
    if text.startswith("["):
        raise BadRow("broken list of labels", shown(text))
    return split_names(text, separator or ("|" if "|" in text else ","))


def split_names(text: str, separator: str) -> list[str]:
    """The names between the separators, without those that are empty."""
    return [part.strip() for part in text.split(separator) if part.strip()]


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
        separator: between the labels of a text; None: | or a comma.
        notes: what was decided about them, a sentence each.
        warnings: what is doubtful about them, a sentence each.
        taken: values that are no label's name but for capital letters, each with that name.
    """

    names: list[str] | None
    problem_type: str = "single_label_classification"
    class_names: list[str] | None = None
    multi_hot: bool = False
    separator: str | None = None
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(init=False)
    taken: Counter[tuple[str, str]] = field(init=False)

    def __post_init__(self):
        if self.names is not None and len(set(self.names)) != len(self.names):
            raise ValueError(f"labels must differ from each other, got {self.names}")
        self.numbers = {name: number for number, name in enumerate(self.names or [])}
        self.taken = Counter()

    def one(self, value: Any) -> int:
        """Number of one class.

        A whole number stands for the class of that name, or, where there is none, for the class of
        that number. A name in other capitals stands for the one class that it can mean. A list of
        one is that one.

        Raises:
            BadRow: the label is missing or unknown.
        """
        if isinstance(value, (list, tuple)) and len(value) == 1:
            value = value[0]
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
        alike = [known for known in self.numbers if folded(known) == folded(name)]
        if len(alike) == 1:
            self.taken[name, alike[0]] += 1
            return self.numbers[alike[0]]
        known = ", ".join(list(self.numbers)[:20]) + (", …" if len(self.numbers) > 20 else "")
        near = difflib.get_close_matches(name, self.numbers, 1)
        hint = f"; is {shown(near[0])} meant?" if near else ""
        raise BadRow("unknown label", f"{shown(value)}; known are {known}{hint}")

    def encode(self, value: Any) -> int | float | list[float]:
        """The canonical label of a row: a class, a number, or one 0.0 or 1.0 a class.

        Raises:
            BadRow: the label is missing, unknown, or no finite number in regression.
        """
        if self.problem_type == "single_label_classification":
            return self.one(value)
        if self.problem_type == "regression":
            if is_missing(value):
                label_name(value)  # says so
            if (number := number_of(value)) is None:
                raise BadRow("label is not a finite number", shown(value))
            return number
        if value is None:
            raise BadRow("missing label")
        whole = isinstance(value, str) and value.strip() in self.numbers  # its commas are its own
        items = [value] if whole else as_list(value, self.separator)
        if self.multi_hot:
            if len(items) != len(self.numbers) or not all(
                number_of(item) in (0.0, 1.0) for item in items
            ):
                raise BadRow("label is not a list of 0 and 1, one a class", shown(value))
            return [float(item) for item in items]
        chosen = {self.one(item) for item in items}
        return [float(number in chosen) for number in range(len(self.numbers))]
