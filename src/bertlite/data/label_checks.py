"""What is doubtful about the labels that a column holds: errors where one must ask, warnings."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from .labels import WHOLE, folded

NAMED = 5  # labels that a message names
MANY = 20  # labels from which their number is looked at
OPTIONS = ("single_label_classification", "multi_label_classification")


def settle(what: str) -> ValueError:
    """The error for labels that may be of either kind."""
    options = " or ".join(f'"{option}"' for option in OPTIONS)
    words = " or ".join(f"--problem_type {option}" for option in OPTIONS)
    return ValueError(f"label: {what}; say which with problem_type={options} ({words})")


def check_names(
    names: Sequence[str], counts: Counter[str], single: bool, *, surely: bool
) -> list[str]:
    """Look at the labels that were found.

    Args:
        names: of the labels.
        counts: in how many rows each is.
        single: whether each row has one label.
        surely: whether the caller has said what kind they are, so that many are meant.

    Returns:
        Warnings.

    Raises:
        ValueError: labels that differ in capitals only; more than half as many labels as
            rows.
    """
    check_spelling(names, counts)
    return many_labels(names, counts, refuse=single and not surely) if single else []


def check_several(names: Sequence[str] | None, column: object) -> None:
    """Refuse a single class, of which there is nothing to learn."""
    if names is not None and len(names) == 1:
        raise ValueError(
            f"label: the data hold one label only, {names[0]!r} in {column}, so there is nothing "
            "to learn; name another column with columns={…} (--columns …), or all labels with "
            "labels=[…] (--labels …)"
        )


def check_spelling(names: Sequence[str], counts: Counter[str]) -> None:
    """Refuse labels that differ in capitals or white space only."""
    spellings = defaultdict(list)
    for name in names:
        spellings[folded(name)].append(name)
    twins = [alike for alike in spellings.values() if len(alike) > 1]
    if twins:
        listed = "; ".join(
            " and ".join(f"{name!r} ({counts[name]:,})" for name in alike)
            for alike in twins[:NAMED]
        )
        raise ValueError(
            f"label: some differ in capitals or spaces only: {listed}; name the labels that are "
            "meant with labels=[…] (--labels …): one spelling makes them one, all spellings keep "
            "them apart"
        )


def many_labels(names: Sequence[str], counts: Counter[str], *, refuse: bool) -> list[str]:
    """Warn of labels that are too many for the rows, or refuse them.

    Raises:
        ValueError: more than half as many labels as rows.
    """
    rows = counts.total()
    numbers = all(WHOLE.fullmatch(name) for name in names)
    scores = '; problem_type="regression" (--problem_type regression) takes numbers as scores'
    if len(names) < MANY:
        return []
    found = f"{len(names):,} labels for {rows:,} rows, such as {', '.join(names[:NAMED])}"
    if len(names) * 2 > rows and refuse:
        raise ValueError(
            f"label: {found}: is it the column that is meant (--columns label=…)? "
            f'problem_type="{OPTIONS[0]}" (--problem_type {OPTIONS[0]}) takes each as a class'
            f"{scores if numbers else ''}"
        )
    if numbers or len(names) * 2 > rows:
        return [f"{found}, are taken as classes{scores if numbers else ''}"]
    once = [name for name in names if counts[name] == 1]
    return (
        [f"labels that occur once only: {', '.join(once[:NAMED])} ({len(once):,} in all)"]
        if once
        else []
    )


def number_warnings(
    numbers: Sequence[str], others: Sequence[str], counts: Counter[str]
) -> list[str]:
    """Warn of labels of which most are numbers, and some are not."""
    among = sum(counts[name] for name in others)
    if not numbers or not others or among * 2 > counts.total():
        return []
    listed = ", ".join(repr(name) for name in others[:NAMED])
    return [f"labels are numbers but for {listed} ({among:,} ×), each of which is a class too"]


def multi_warnings(parts: Counter[str], sizes: Counter[int], *, multi_hot: bool) -> list[str]:
    """Warn of rows that have several labels by their form only."""
    if not multi_hot and set(sizes) == {1}:
        return [
            "every row has a list of one label, and is taken as multi-label; "
            f'problem_type="{OPTIONS[0]}" (--problem_type {OPTIONS[0]}) takes it as one class'
        ]
    if not multi_hot and len(parts) == 1:
        return [f"the data hold one label only, {next(iter(parts))!r}: it is given or not"]
    return []
