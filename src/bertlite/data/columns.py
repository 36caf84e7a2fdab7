"""Which column plays which role: found by the usual names, or given.

Capitals do not count, nor whether a space, a dash or an underscore stands in a name.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
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
        if role not in names:
            raise ValueError(
                f"columns: the roles of {task} are {', '.join(sorted(names))}, got {role!r}"
            )
        if not isinstance(column, str | list | tuple):
            column = str(column)  # a data frame may number its columns
        if isinstance(column, str) and "," in column and not matching(column, available):
            column = [name.strip() for name in column.split(",")]
        if isinstance(column, str):
            chosen[role] = one_column(role, column, available, listed)
        else:
            chosen[role] = [one_column(role, str(name), available, listed) for name in column]
    taken = {column for column in chosen.values() if isinstance(column, str)}
    for role in roles:
        if role not in chosen and (column := find(role, names[role], available, taken, listed)):
            chosen[role] = column
            taken.add(column)
    return chosen


def with_remembered(
    given: Mapping[str, Any] | None,
    remembered: Mapping[str, Any] | None,
    available: Sequence[str],
    roles: Iterable[str],
) -> dict[str, Any]:
    """The columns that are given, and those of an earlier run for these roles where all are there.

    A given column is not taken for another role.
    """
    found = dict(given or {})
    for role in roles:
        column = (remembered or {}).get(role)
        names = [column] if isinstance(column, str) else column or []
        there = names and all(matching(name, available) for name in names)
        if role not in found and there and column not in found.values():
            found[role] = column
    return found


def key_of(name: str) -> str:
    """A column's name without what is written now one way, now another: capitals, spaces, marks.

    >>> key_of(" Text-Pair") == key_of("text_pair")
    True
    """
    return re.sub(r"[\s_-]+", "_", name.strip("\ufeff \t").casefold())


def matching(name: str, available: Iterable[str]) -> list[str]:
    """The columns of this name: that one, or else those that differ in capitals and the like."""
    available = list(available)
    if name in available:
        return [name]
    return [column for column in available if key_of(column) == key_of(name)]


def one_column(role: str, name: str, available: list[str], listed: str) -> str:
    """The column that is meant; a ValueError where there is none, or more than one."""
    found = matching(name, available)
    if len(found) > 1:
        raise ValueError(f"columns: {role} could be {' or '.join(found)}; {listed}")
    if not found:
        raise ValueError(f"columns: {role} must be a column of the data, got {name!r}; {listed}")
    return found[0]


def find(
    role: str, names: tuple[str, ...], available: list[str], taken: set[str], listed: str
) -> str | None:
    """The one column that is named as this role usually is; None where there is none.

    Raises:
        ValueError: several are, and none has the role's own name.
    """
    found = [
        column for name in names for column in matching(name, available) if column not in taken
    ]
    found = list(dict.fromkeys(found))
    sure = found and key_of(found[0]) == key_of(role)
    if len(found) > 1 and (not sure or key_of(found[1]) == key_of(role)):
        hint = f'say which with columns={{"{role}": …}} (--columns {role}=…)'
        raise ValueError(f"columns: {role} could be {' or '.join(found)}; {hint}; {listed}")
    return found[0] if found else None


def missing(
    role: str, names: Iterable[str], available: Iterable[str], hint: str = ""
) -> ValueError:
    """The error for a role that no column plays; `names` are those that its column usually has."""
    usual = ", ".join(names)
    return ValueError(
        f"columns: no column for {role} was found (usual names: {usual}); say which with "
        f'columns={{"{role}": …}} '
        f"(--columns {role}=…); the columns are {', '.join(available)}{hint}"
    )
