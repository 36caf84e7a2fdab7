"""Which column plays which role: found by the usual names, or given."""

from collections.abc import Iterable, Mapping
from typing import Any

# Role: the names it is known by. The role's own name, first, wins over the others; two others are
# ambiguous.
CLASSIFICATION: dict[str, tuple[str, ...]] = {
    "text": (
        "text",
        "sentence",
        "review",
        "content",
        "tweet",
        "comment",
        "document",
        "body",
        "message",
        "question",
        "utterance",
        "headline",
    ),
    "label": (
        "label",
        "labels",
        "class",
        "category",
        "sentiment",
        "target",
        "score",
        "stars",
        "rating",
        "intent",
        "emotion",
        "polarity",
    ),
}
PAIRS = (
    ("text", "text_pair"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("question", "sentence"),
    ("query", "passage"),
    ("sentence_A", "sentence_B"),
)
NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    "sequence-classification": CLASSIFICATION,
    "token-classification": {
        "tokens": ("tokens", "words", "token", "word"),
        "tags": ("tags", "ner_tags", "labels", "label", "pos_tags", "upos", "chunk_tags", "tag"),
    },
    "question-answering": {
        "question": ("question", "query"),
        "context": ("context", "passage", "paragraph", "document", "text"),
        "answers": ("answers", "answer"),
        "id": ("id", "qid", "question_id"),
    },
    "multiple-choice": {
        "question": ("question", "sent1", "ctx", "premise", "sentence", "question_stem"),
        "choices": ("choices", "endings", "options"),
        "label": ("label", "answerKey", "answer", "gold", "correct"),
        "context": ("context", "article", "passage", "premise"),
        "start": ("start", "sent2"),
    },
    "translation": {
        "translation": ("translation",),
        "source": ("source", "src", "input"),
        "target": ("target", "tgt", "reference", "output"),
    },
    "summarization": {
        "source": ("source", "document", "text", "article", "dialogue", "content", "body", "input"),
        "target": (
            "target",
            "summary",
            "highlights",
            "abstract",
            "synopsis",
            "title",
            "headline",
            "output",
        ),
    },
}


def find_columns(
    task: str, available: Iterable[str], given: Mapping[str, Any] | None, *, needed: Iterable[str]
) -> dict[str, Any]:
    """Column of each role.

    Args:
        task: one of `NAMES`.
        available: names of the data's columns.
        given: role → column as the caller wants it (or several, as a list or with commas between);
            the other roles are found.
        needed: roles that must be found; those that are not needed are left out where no column has
            their name.

    Returns:
        role → name of the column (or a list of columns, where a list was given).

    Raises:
        ValueError: a role or a column that does not exist, a needed one that is not found, or two
            that could be meant.
    """
    available = list(available)
    listed = f"the columns are {', '.join(available)}"
    names = NAMES[task]
    chosen = dict(given or {})
    known = {*names, *(["text_pair"] if task == "sequence-classification" else [])}
    for role, column in chosen.items():
        if isinstance(column, str) and column not in available and "," in column:
            column = chosen[role] = [name.strip() for name in column.split(",")]
        if role not in known:
            raise ValueError(
                f"columns: the roles of {task} are {', '.join(sorted(known))}, got {role!r}"
            )
        for name in [column] if isinstance(column, str) else column:
            if name not in available:
                raise ValueError(
                    f"columns: {role} must be a column of the data, got {name!r}; {listed}"
                )
    if task == "sequence-classification" and "text" not in chosen and "text_pair" not in chosen:
        chosen.update(find_pair(available))
    taken = {column for column in chosen.values() if isinstance(column, str)}
    for role in needed:
        if role not in chosen and (column := find(role, names[role], available, taken, listed)):
            chosen[role] = column
            taken.add(column)
    return chosen


def find_pair(available: list[str]) -> dict[str, str]:
    """Text and text_pair where the data has two columns that usually are such a pair."""
    for first, second in PAIRS:
        if first in available and second in available:
            return {"text": first, "text_pair": second}
    return {}


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


def missing(role: str, task: str, available: Iterable[str], more: str = "") -> ValueError:
    """The error for a role that no column plays."""
    usual = ", ".join(NAMES[task].get(role, (role,)))
    return ValueError(
        f"columns: no column for {role} was found (usual names: {usual}); say which with "
        f'columns={{"{role}": …}} '
        f"(--columns {role}=…); the columns are {', '.join(available)}{more}"
    )
