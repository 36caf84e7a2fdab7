"""The reader of one split: columns found, labels found, the class of rows of the task."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from transformers.utils import logging

from .choice_rows import ChoiceRows, counts_from, numbered_columns, usual_number
from .columns import find_columns, missing
from .labels import Labels, class_names_of, complete_tags, find_labels
from .problems import BadRow
from .rows import ClassificationRows, PairRows, QuestionRows, TaskRows, TokenRows, items_of
from .sources import Source

logger = logging.get_logger(__name__)

ROWS: dict[str, type[TaskRows]] = {
    "sequence-classification": ClassificationRows,
    "token-classification": TokenRows,
    "question-answering": QuestionRows,
    "multiple-choice": ChoiceRows,
    "translation": PairRows,
    "summarization": PairRows,
}
LABEL_ROLES = {
    "sequence-classification": ("label",),
    "token-classification": ("tags",),
    "question-answering": ("answers",),
    "multiple-choice": ("label",),
    "translation": ("target",),
    "summarization": ("target",),
}
INPUT_ROLES = {
    "sequence-classification": ("text",),
    "token-classification": ("tokens",),
    "question-answering": ("question", "context"),
    "multiple-choice": ("question",),
    "translation": ("source",),
    "summarization": ("source",),
}
OPTIONAL_ROLES = {"question-answering": ("id",), "multiple-choice": ("choices", "context", "start")}


def make_reader(
    task: str,
    source: Source,
    *,
    columns: Mapping[str, Any] | None,
    languages: tuple[str | None, str | None],
    labels: Sequence[str] | None,
    problem_type: str | None,
    require_labels: bool,
    found: Labels | None = None,
) -> TaskRows:
    """Reader for a split.

    Args:
        task: the task.
        source: the split's rows; looked at to find columns and labels.
        columns: role → column, as given.
        languages: of source and target.
        labels: known label names.
        problem_type: known type.
        require_labels: whether canonical rows have labels.
        found: labels of an earlier split, which then hold here too.

    Raises:
        ValueError: a column is missing or ambiguous, or labels cannot be found.
    """
    available = source.columns()
    needed = [*INPUT_ROLES[task], *(LABEL_ROLES[task] if require_labels else ())]
    if task in ("translation", "summarization"):
        chosen = pair_columns(task, source, available, columns, languages, needed)
    else:
        chosen = find_columns(
            task, available, columns, needed=[*needed, *OPTIONAL_ROLES.get(task, ())]
        )
    if (
        task == "multiple-choice"
        and "choices" not in chosen
        and (numbered := numbered_columns(available))
    ):
        chosen["choices"] = numbered
    for role in [*needed, *(["choices"] if task == "multiple-choice" else [])]:
        if role not in chosen:
            raise missing(role, task, available)
    if task in ("sequence-classification", "token-classification") and require_labels:
        kind = labels_of(task, source, chosen, labels, problem_type, found)
        return ROWS[task](chosen, kind, require_labels)
    if task != "multiple-choice":
        return ROWS[task](chosen, None, require_labels)
    rows = source.peek()
    first = counts_from(rows, chosen["label"], chosen["choices"]) if require_labels else 0
    number = usual_number(rows, ChoiceRows(chosen, None, require_labels))
    return ChoiceRows(chosen, None, require_labels, number, first)


def labels_of(
    task: str,
    source: Source,
    columns: dict[str, Any],
    names: Sequence[str] | None,
    problem_type: str | None,
    found: Labels | None,
) -> Labels:
    """What the labels of a split stand for.

    As in an earlier split, as given, or found in these rows.
    """
    role = LABEL_ROLES[task][0]
    column = columns[role]
    feature = (source.features or {}).get(column) if isinstance(column, str) else None
    class_names = class_names_of(feature)
    if found is not None:
        return Labels(found.names, found.problem_type, class_names, found.multi_hot)
    if not isinstance(column, str):  # one column of 0 and 1 a class
        return Labels(list(names or column), "multi_label_classification", None, multi_hot=True)
    if task == "token-classification" and (names or class_names):
        return Labels(list(names or class_names or ()), class_names=class_names)
    known = Labels(list(names), problem_type, class_names) if names and problem_type else None
    if known is not None and problem_type == "single_label_classification":
        return known
    values = label_values(source, column, tokens=task == "token-classification")
    progress = logging.tqdm(values, desc="finding labels", unit=" labels", delay=2)
    if task == "token-classification":
        kind = find_labels(progress, problem_type="single_label_classification")
        return Labels(complete_tags(kind.names or ()))
    return find_labels(progress, names=names, problem_type=problem_type, class_names=class_names)


def label_values(source: Source, column: str, *, tokens: bool) -> Iterator[Any]:
    """The label column of every row that can be read.

    In token classification, the tag of every token.
    """
    for _, row in source:
        if isinstance(row, BadRow):
            continue
        if not tokens:
            yield row.get(column)
            continue
        try:
            yield from items_of(row, column, "tags")
        except BadRow:
            continue


def pair_columns(
    task: str,
    source: Source,
    available: list[str],
    columns: Mapping[str, Any] | None,
    languages: tuple[str | None, str | None],
    needed: list[str],
) -> dict[str, Any]:
    """Columns of source and target; inside a `translation` column, its keys.

    Raises:
        ValueError: a language is not there, or it cannot be told which text is which.
    """
    given = dict(columns or {})
    wanted = dict(zip(("source", "target"), languages, strict=True))
    nested = given.pop("translation", None) or (
        "translation" if "translation" in available else None
    )
    if task == "translation" and nested in available and not given:
        rows = [row[nested] for row in source.peek() if isinstance(row.get(nested), Mapping)]
        keys = list(rows[0]) if rows else []
        if len(keys) < len(needed):
            raise ValueError(
                f"columns: {nested} must hold one text a language, got {keys or 'something else'}"
            )
        if len(keys) > 2 and None in languages:
            raise ValueError(
                f"source_language and target_language must say which of {', '.join(keys)} are meant"
            )
        return {"translation": nested, **chosen_languages(wanted, keys, needed)}
    for role, language in wanted.items():
        if language is not None and role not in given and language in available:
            given[role] = language
    return find_columns(task, available, given, needed=needed)


def chosen_languages(
    wanted: dict[str, str | None], keys: list[str], needed: list[str]
) -> dict[str, str]:
    """The key of each side.

    As given; otherwise the first for the source, and the other one for the target.
    """
    for role, language in wanted.items():
        if language is not None and language not in keys:
            raise ValueError(f"{role}_language must be one of {', '.join(keys)}, got {language!r}")
    source = wanted["source"] or next(key for key in keys if key != wanted["target"])
    target = wanted["target"] or next(key for key in keys if key != source)
    if source == target:
        raise ValueError(f"source_language and target_language must differ, got {source!r} twice")
    logger.info(f"translating from {source} to {target}")
    return {"source": source, "target": target} if "target" in needed else {"source": source}
