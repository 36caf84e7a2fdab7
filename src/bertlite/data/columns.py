"""Which column plays which role: found by the usual names, or given."""

from collections.abc import Iterable, Mapping
from typing import Any


def find_columns(
    task: str,
    names: Mapping[str, tuple[str, ...]],
    available: Iterable[str],
    given: Mapping[str, Any] | None,
    *,
    roles: Iterable[str],
) -> dict[str, Any]:
    """Column of each role.

    Args:
        task: its name, for messages.
        names: role → the names that its column usually has, the role's own first.
        available: names of the data's columns.
        given: role → column as the caller wants it (or several, as a list or with commas between);
            the other roles are found.
        roles: that are looked for; those of which no column has the name are left out.

    Returns:
        role → name of the column (or a list of columns, where a list was given).

    Raises:
        ValueError: a role or a column that does not exist, or two that could be
            meant.
    """
    available = list(available)
    listed = f"the columns are {', '.join(available)}"
    chosen = dict(given or {})
    for role, column in chosen.items():
        if isinstance(column, str) and column not in available and "," in column:
            column = chosen[role] = [name.strip() for name in column.split(",")]
        if role not in names:
            raise ValueError(
                f"columns: the roles of {task} are {', '.join(sorted(names))}, got {role!r}"
            )
        for name in [column] if isinstance(column, str) else column:
            if name not in available:
                raise ValueError(
                    f"columns: {role} must be a column of the data, got {name!r}; {listed}"
                )
    taken = {column for column in chosen.values() if isinstance(column, str)}
    for role in roles:
        if role not in chosen and (column := find(role, names[role], available, taken, listed)):
            chosen[role] = column
            taken.add(column)
    return chosen


def find(
    role: str, names: tuple[str, ...], available: list[str], taken: set[str], listed: str
) -> str | None:
    """The one column that is named as this role usually is; None where there is none.

    Raises:
        ValueError: several are, and none has the role's own name.
    """
    found = [name for name in names if name in available and name not in taken]
    if len(found) > 1 and found[0] != role:
        hint = f'say which with columns={{"{role}": …}} (--columns {role}=…)'
        raise ValueError(f"columns: {role} could be {' or '.join(found)}; {hint}; {listed}")
    return found[0] if found else None


def missing(role: str, names: Iterable[str], available: Iterable[str]) -> ValueError:
    """The error for a role that no column plays; `names` are those that its column usually has."""
    usual = ", ".join(names)
    return ValueError(
        f"columns: no column for {role} was found (usual names: {usual}); say which with "
        f'columns={{"{role}": …}} '
        f"(--columns {role}=…); the columns are {', '.join(available)}"
    )
