"""What a task's rows are.

From a row as it stands in the data to the canonical row of its task, or to a `BadRow`. Each task
has a class of its own, beside what else is known of it in `bertlite.tasks`. An object of it is made
for one split by `open`, which finds the columns; its `read(row)` checks and converts a row.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from .cells import parse_cell
from .columns import find_columns, missing, with_remembered
from .labels import Labels
from .problems import BROKEN, BadRow, has_surrogates, shown
from .sources import Opening, Source


@dataclass(frozen=True)
class Wanted:
    """What the caller says of the rows; the rest is found in them.

    Attributes:
        columns: role → column.
        languages: of source and target.
        labels: known label names.
        problem_type: known type.
        require_labels: whether canonical rows have labels.
        found: labels of an earlier split, which then hold here too.
        remembered: role → column as in an earlier run; used where the data have that column, and
            nothing else is said.
    """

    columns: Mapping[str, Any] | None = None
    languages: tuple[str | None, str | None] = (None, None)
    labels: Sequence[str] | None = None
    problem_type: str | None = None
    require_labels: bool = True
    found: Labels | None = None
    remembered: Mapping[str, Any] | None = None


@dataclass
class TaskRows(ABC):
    """Base of the tasks' rows.

    Attributes:
        columns: role → column.
        labels: what labels stand for; None where the task has none, or they are not wanted.
        require_labels: whether the canonical rows have labels (targets, answers).
    """

    columns: dict[str, Any]
    labels: Labels | None = None
    require_labels: bool = True

    task: ClassVar[str]  # its name, for messages
    # Role: the names that its column is known by. The role's own name, first, wins over the others;
    # two others are ambiguous.
    names: ClassVar[Mapping[str, tuple[str, ...]]]
    required: ClassVar[tuple[str, ...]]  # roles whose columns must be there
    target: ClassVar[str]  # the role that is learned; not needed without labels
    optional: ClassVar[tuple[str, ...]] = ()  # roles that are looked for, and may be missing
    inputs: ClassVar[tuple[str, ...]]  # canonical columns that a model reads
    label: ClassVar[str | None] = None  # canonical column that holds numbers of classes
    has_problem_type: ClassVar[bool] = False  # whether labels may be numbers, or several a row
    line_column: ClassVar[str | None] = None  # what a line of plain text is, without labels
    parallel: ClassVar[bool] = False  # whether two text files, line by line, are rows
    plain_suffix: ClassVar[str | None] = None  # of the format that a .txt file then has

    @classmethod
    def open(cls, source: Source, wanted: Wanted) -> Self:
        """The reader of one split.

        Args:
            source: the split's rows; looked at to find columns and labels.
            wanted: what is known of them.

        Raises:
            ValueError: a column is missing or ambiguous, or labels cannot be found.
        """
        available = source.columns()
        needed = cls.needed(wanted.require_labels)
        columns = cls.find_columns(source, available, wanted)
        for role in needed:
            if role not in columns:
                hint = cls.hint(role, source)
                raise missing(role, cls.names.get(role, (role,)), available, hint)
        labels = cls.find_labels(source, columns, wanted) if wanted.require_labels else None
        return cls.made_for(source, columns, labels, wanted.require_labels)

    @classmethod
    def opening(cls, require_labels: bool) -> Opening:
        """How files with this task's rows are opened."""
        line_column = None if require_labels else cls.line_column
        return Opening(cls.parallel, cls.plain_suffix, line_column=line_column)

    def hold(self, wanted: Wanted) -> Wanted:
        """What the next split must know of this one."""
        return replace(wanted, found=self.labels)

    @classmethod
    def needed(cls, require_labels: bool) -> list[str]:
        """Roles whose columns must be there."""
        return [*cls.required, *((cls.target,) if require_labels else ())]

    @classmethod
    def find_columns(
        cls, source: Source, available: Sequence[str], wanted: Wanted
    ) -> dict[str, Any]:
        """Column of each role, of those that are found; errors as of `columns.find_columns`."""
        roles = [*cls.needed(wanted.require_labels), *cls.optional]
        given = with_remembered(wanted.columns, wanted.remembered, available, roles)
        return find_columns(cls.task, cls.names, available, given, roles=roles)

    @classmethod
    def hint(cls, role: str, source: Source) -> str:
        """What else may be meant where no column plays a role, for the error."""
        return ""

    @classmethod
    def find_labels(
        cls, source: Source, columns: Mapping[str, Any], wanted: Wanted
    ) -> Labels | None:
        """What labels stand for; None where the task has no classes."""
        return None

    @classmethod
    def made_for(
        cls, source: Source, columns: dict[str, Any], labels: Labels | None, require_labels: bool
    ) -> Self:
        """The reader, when columns and labels are known."""
        return cls(columns, labels, require_labels)

    def restart(self) -> None:  # noqa: B027  most remember no row
        """Forget the rows read so far: the same split is read from its start again."""

    @abstractmethod
    def features(self) -> dict[str, Any]:
        """Types of the canonical columns, for `datasets.Features`."""

    @abstractmethod
    def read(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The canonical row.

        Raises:
            BadRow: the row cannot be used.
        """


def text_feature() -> Any:
    """The type of a text."""
    import datasets

    return datasets.Value("string")


def text_of(row: Mapping[str, Any], column: str, role: str) -> str:
    """A text that is there, is not blank, and is UTF-8.

    Raises:
        BadRow: it is not so.
    """
    value = row.get(column)
    if value is None or value != value:
        raise BadRow("missing value", f"{role} ({column})")
    if not isinstance(value, str):
        if isinstance(value, (bool, list, dict, tuple)):
            raise BadRow("not a text", f"{role} ({column}) is {shown(value)}")
        value = str(value)
    if not value.strip():
        raise BadRow("empty text", f"{role} ({column})")
    if has_surrogates(value):
        raise BadRow(BROKEN, f"{role} ({column}) is {shown(value)}")
    return value


def items_of(row: Mapping[str, Any], column: str, role: str) -> list[Any]:
    """A list that is not empty.

    A text is taken apart at its spaces, or as a list where it begins with a bracket.

    Raises:
        BadRow: it is missing or empty.
    """
    value = row.get(column)
    if value is None or (isinstance(value, float) and value != value):
        raise BadRow("missing value", f"{role} ({column})")
    if isinstance(value, str):
        parsed = parse_cell(value, role) if value.lstrip().startswith("[") else None
        value = parsed if isinstance(parsed, list) else value.split()
    if not isinstance(value, (list, tuple)):
        raise BadRow("not a list", f"{role} ({column}) is {shown(value)}")
    if not value:
        raise BadRow("empty text", f"{role} ({column})")
    return list(value)
