"""Multiple choice: the shapes that data sets have (SWAG, ARC, RACE, COPA, Winogrande), as one."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .labels import is_missing
from .problems import BadRow, shown
from .rows import TaskRows, items_of, text_feature, text_of

NUMBERED = re.compile(r"(choice|ending|option|answer|sol|solution)_?(\d+)")


def numbered_columns(available: Iterable[str]) -> list[str]:
    """`choice0`, `choice1`, … (or ending, option, answer, sol) in their order.

    None where there are fewer than two.
    """
    families: dict[str, dict[int, str]] = {}
    for name in available:
        if match := NUMBERED.fullmatch(name):
            families.setdefault(match[1], {})[int(match[2])] = name
    best = max(families.values(), key=len, default={})
    return [best[number] for number in sorted(best)] if len(best) > 1 else []


@dataclass
class ChoiceRows(TaskRows):
    """`question`, `choices`, `label`: the number of the right choice, from 0.

    Every row must have equally many choices, since a model reads them as one table (rows, choices,
    tokens): as many as most of the first rows have. A `context` (RACE's article) is put before the
    question, a `start` (SWAG's `sent2`) before each choice.

    Attributes:
        number_of_choices: what each row must have.
        first_number: what the label of the first choice is: 0, or 1 where the data counts from 1.
    """

    number_of_choices: int | None = None
    first_number: int = 0

    inputs = ("question", "choices")
    label = "label"

    def features(self) -> dict[str, Any]:
        """See `TaskRows`."""
        import datasets

        found = {"question": text_feature(), "choices": datasets.List(text_feature())}
        return {**found, "label": datasets.Value("int64")} if self.require_labels else found

    def read(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """See `TaskRows`."""
        parts = [
            text_of(row, self.columns[role], role)
            for role in ("context", "question")
            if role in self.columns
        ]
        choices, names = self.choices(row)
        if self.number_of_choices not in (None, len(choices)):
            raise BadRow(
                "another number of choices",
                f"{len(choices)}, but most rows have {self.number_of_choices}",
            )
        found: dict[str, Any] = {"question": " ".join(parts), "choices": choices}
        if self.require_labels:
            found["label"] = self.number(row.get(self.columns["label"]), choices, names)
        return found

    def choices(self, row: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        """The texts, and the names that the data gives them (ARC's "A", "B", …; none elsewhere)."""
        columns = self.columns["choices"]
        names: list[str] = []
        if isinstance(columns, str):
            value = row.get(columns)
            if isinstance(value, Mapping):
                names = [str(name) for name in value.get("label", [])]
                row = {**row, columns: value.get("text")}
            texts = [{columns: text} for text in items_of(row, columns, "choices")]
        else:
            texts = [{columns[0]: row.get(name)} for name in columns]
        key = columns if isinstance(columns, str) else columns[0]
        start = (
            f"{text_of(row, self.columns['start'], 'start')} " if "start" in self.columns else ""
        )
        return [
            f"{start}{text_of(text, key, f'choice {number}')}" for number, text in enumerate(texts)
        ], names

    def number(self, value: Any, choices: list[str], names: list[str]) -> int:
        """The right choice's number: by name, by number, by letter or by its own text.

        Raises:
            BadRow: there is no label, or no such choice.
        """
        if is_missing(value):
            raise BadRow("missing label")
        text = str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()
        if text in names:
            return names.index(text)
        if re.fullmatch(r"-?\d+", text):
            number = int(text) - self.first_number
        elif re.fullmatch("[A-Za-z]", text):
            number = ord(text.upper()) - ord("A")
        else:
            number = choices.index(text) if text in choices else -1
        if not 0 <= number < len(choices):
            raise BadRow("label out of range", f"{shown(value)} of {len(choices)} choices")
        return number


def usual_number(rows: Iterable[Mapping[str, Any]], reader: ChoiceRows) -> int | None:
    """How many choices most of these rows have."""
    counts: Counter[int] = Counter()
    for row in rows:
        try:
            counts[len(reader.choices(row)[0])] += 1
        except BadRow:
            continue
    return counts.most_common(1)[0][0] if counts else None


def counts_from(rows: Iterable[Mapping[str, Any]], label: str, columns: Any) -> int:
    """1 where the choices' columns are numbered from 1 and no label among these rows is 0.

    Otherwise 0.
    """
    if isinstance(columns, str) or not str(columns[0]).endswith("1"):
        return 0
    return 0 if any(str(row.get(label)).strip() == "0" for row in rows) else 1
