"""Bad rows: what is wrong, where, how often; and whether that stops the work or not."""

from collections import Counter
from dataclasses import dataclass, field

NAMED = 10  # rows that a report names one by one
ON_BAD_ROW = ("stop", "skip")
BROKEN = "broken UTF-8"  # the kind of a row with bytes that are not of the encoding


class BadRow(ValueError):
    """A row that cannot be used.

    Args:
        kind: what is wrong, in words that are the same for every row with this fault: the report
            counts by them.
        detail: what this row holds.
    """

    def __init__(self, kind: str, detail: str = ""):
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind
        self.detail = detail


def shown(value: object, width: int = 60) -> str:
    """A value for a message.

    Its `repr` (so that a broken character can be printed), cut to `width` characters.
    """
    text = ascii(value) if has_surrogates(str(value)) else repr(value)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def has_surrogates(text: str) -> bool:
    """Whether the text holds bytes that were not UTF-8 (read as lone surrogates), or such an escape
    of JSON.
    """
    if text.isascii():
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


@dataclass
class Problems:
    """The report of bad rows. `str(problems)` is made to be printed.

    Attributes:
        on_bad_row: "stop" or "skip".
        counts: how many rows had each kind of fault.
        examples: the first ten, each with its place, its fault and what it holds.
        by_split: `counts` of each split.
        may_skip: whether rows can be left out: of a prediction, each row has its answer.
    """

    on_bad_row: str = "stop"
    counts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    by_split: dict[str, Counter[str]] = field(default_factory=dict)
    may_skip: bool = True

    def __post_init__(self):
        if self.on_bad_row not in ON_BAD_ROW:
            raise ValueError(
                f"on_bad_row must be one of {', '.join(ON_BAD_ROW)}, got {self.on_bad_row!r}"
            )

    @property
    def total(self) -> int:
        """Bad rows in all."""
        return sum(self.counts.values())

    def add(self, where: str, bad: BadRow, split: str = "") -> None:
        """Count a bad row, and keep it as an example while there are few."""
        self.counts[bad.kind] += 1
        self.by_split.setdefault(split, Counter())[bad.kind] += 1
        if len(self.examples) < NAMED:
            self.examples.append(f"{where}: {bad}")

    def __bool__(self) -> bool:
        return self.total > 0

    def __str__(self) -> str:
        if not self:
            return "no bad rows"
        kinds = ", ".join(f"{count:,} × {kind}" for kind, count in self.counts.most_common())
        more = (
            f"\n  … and {self.total - len(self.examples):,} more"
            if self.total > len(self.examples)
            else ""
        )
        examples = "".join(f"\n  {example}" for example in self.examples)
        return f"{self.total:,} bad row{'s' if self.total > 1 else ''} ({kinds}):{examples}{more}"

    def raise_if_any(self) -> None:
        """Stop before training where bad rows were found and `on_bad_row` is "stop".

        Raises:
            ValueError: the first ten bad rows with their places, and the total by kind.
        """
        if self and self.on_bad_row == "stop":
            advice = "Correct them"
            if self.may_skip:
                advice += ', or leave them out with on_bad_row="skip" (--on_bad_row skip)'
            if BROKEN in self.counts:
                advice += "; text in another encoding needs encoding=… (--encoding …), as cp1252"
            raise ValueError(f"{self}.\n{advice}")
