"""A request as rows of ids, and what becomes of the model's outputs for them."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..inference.batching import Row

Run = Callable[[list[Any]], list[Any]]


@dataclass(frozen=True)
class Pass:
    """How rows go through a model.

    Attributes:
        key: rows of passes with equal keys may go through together.
        run: outputs of rows, one each, in their order.
        most_rows: that go through together; None: as many as the tokens allow.
    """

    key: Hashable
    run: Run
    most_rows: int | None = None


@dataclass
class Work:
    """A request, cut into rows.

    Attributes:
        way: through the model.
        rows: of the request.
        finish: the reply, of the outputs for all rows.
        notes: for the user, such as which texts were cut.
    """

    way: Pass
    rows: Sequence[Row]
    finish: Callable[[list[Any]], Any]
    notes: list[str] = field(default_factory=list)

    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [len(row["input_ids"]) for row in self.rows]
