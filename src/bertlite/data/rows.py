"""From a row as it stands in the data to the canonical row of its task, or to a `BadRow`.

One class a task. Each is made with the columns of one split, and its `read(row)` checks and
converts a row.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from .labels import Labels, is_missing
from .problems import BadRow, has_surrogates, shown


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
        raise BadRow("broken UTF-8", f"{role} ({column}) is {shown(value)}")
    return value


@dataclass
class TaskRows:
    """Base of the classes below.

    Attributes:
        columns: role → column.
        labels: what labels stand for; None where the task has none, or they are not wanted.
        require_labels: whether the canonical rows have labels (targets, answers).
    """

    columns: dict[str, Any]
    labels: Labels | None = None
    require_labels: bool = True

    inputs: ClassVar[tuple[str, ...]] = ()  # canonical columns that a model reads
    label: ClassVar[str | None] = None  # canonical column that holds numbers of classes

    def restart(self) -> None:
        """Forget the rows read so far: the same split is read from its start again."""

    def features(self) -> dict[str, Any]:
        """Types of the canonical columns, for `datasets.Features`."""
        raise NotImplementedError

    def read(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The canonical row.

        Raises:
            BadRow: the row cannot be used.
        """
        raise NotImplementedError


def text_feature() -> Any:
    """The type of a text."""
    import datasets

    return datasets.Value("string")


class ClassificationRows(TaskRows):
    """`text`, `text_pair` where there is one, `label`."""

    inputs = ("text", "text_pair")
    label = "label"

    def features(self) -> dict[str, Any]:
        """See `TaskRows`; the label's type follows the problem type."""
        import datasets

        found = {role: text_feature() for role in self.inputs if role in self.columns}
        if self.labels is None:
            return found
        kind: Any = datasets.Value("float32")
        if self.labels.problem_type == "single_label_classification":
            kind = datasets.ClassLabel(names=self.labels.names)
        elif self.labels.problem_type == "multi_label_classification":
            kind = datasets.List(kind)
        return {**found, "label": kind}

    def read(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """See `TaskRows`."""
        found: dict[str, Any] = {
            role: text_of(row, self.columns[role], role)
            for role in self.inputs
            if role in self.columns
        }
        if self.labels is not None:
            column = self.columns["label"]
            value = (
                row.get(column) if isinstance(column, str) else [row.get(name) for name in column]
            )
            found["label"] = self.labels.encode(value)
        return found


class TokenRows(TaskRows):
    """`tokens`, `tags`."""

    inputs = ("tokens",)
    label = "tags"

    def features(self) -> dict[str, Any]:
        """See `TaskRows`."""
        import datasets

        found = {"tokens": datasets.List(text_feature())}
        if self.labels is None:
            return found
        return {**found, "tags": datasets.List(datasets.ClassLabel(names=self.labels.names))}

    def read(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """See `TaskRows`."""
        tokens = items_of(row, self.columns["tokens"], "tokens")
        words = [
            text_of({"tokens": token}, "tokens", f"token {number}")
            for number, token in enumerate(tokens, 1)
        ]
        if self.labels is None:
            return {"tokens": words}
        tags = items_of(row, self.columns["tags"], "tags")
        if len(tags) != len(tokens):
            raise BadRow(
                "tokens and tags of unequal length", f"{len(tokens)} tokens, {len(tags)} tags"
            )
        return {"tokens": words, "tags": [self.labels.one(tag) for tag in tags]}


def items_of(row: Mapping[str, Any], column: str, role: str) -> list[Any]:
    """A list that is not empty.

    A text is taken apart at its spaces, or as JSON where it begins with a bracket.

    Raises:
        BadRow: it is missing or empty.
    """
    value = row.get(column)
    if value is None or (isinstance(value, float) and value != value):
        raise BadRow("missing value", f"{role} ({column})")
    if isinstance(value, str):
        parsed = parsed_json(value, role) if value.lstrip().startswith("[") else None
        value = parsed if isinstance(parsed, list) else value.split()
    if not isinstance(value, (list, tuple)):
        raise BadRow("not a list", f"{role} ({column}) is {shown(value)}")
    if not value:
        raise BadRow("empty text", f"{role} ({column})")
    return list(value)


def parsed_json(text: str, role: str) -> Any:
    """What a cell with JSON holds.

    Raises:
        BadRow: it is not JSON.
    """
    import json

    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BadRow("broken JSON", f"{role} is {shown(text)}: {error}") from error


@dataclass
class QuestionRows(TaskRows):
    """`id`, `question`, `context`, `answers` {"text", "answer_start"} (both empty.

    No answer in the context).
    """

    inputs = ("question", "context")
    ids: set[str] = field(default_factory=set)

    def restart(self) -> None:
        """See `TaskRows`."""
        self.ids.clear()

    def features(self) -> dict[str, Any]:
        """See `TaskRows`."""
        import datasets

        found: dict[str, Any] = {role: text_feature() for role in ("id", "question", "context")}
        if not self.require_labels:
            return found
        answers = {
            "text": datasets.List(text_feature()),
            "answer_start": datasets.List(datasets.Value("int32")),
        }
        return {**found, "answers": answers}

    def read(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """See `TaskRows`. Without an id in the data, the number of the good row is its id."""
        found: dict[str, Any] = {
            role: text_of(row, self.columns[role], role) for role in self.inputs
        }
        if self.require_labels:
            found["answers"] = self.answers(row, found["context"])
        name = (
            text_of(row, self.columns["id"], "id") if "id" in self.columns else str(len(self.ids))
        )
        if name in self.ids:
            raise BadRow("id stands twice", shown(name))  # the metric knows a question by its id
        self.ids.add(name)
        return {"id": name, **found}

    def answers(self, row: Mapping[str, Any], context: str) -> dict[str, list[Any]]:
        """The answers, each of which stands in the context at its start."""
        value = row.get(self.columns["answers"])
        if isinstance(value, str):
            value = parsed_json(value, "answers")
        if value is None:
            raise BadRow("missing value", f"answers ({self.columns['answers']})")
        if isinstance(value, (list, tuple)) and all(
            isinstance(answer, Mapping) for answer in value
        ):
            value = {key: [answer.get(key) for answer in value] for key in ("text", "answer_start")}
        if not isinstance(value, Mapping) or not {"text", "answer_start"} <= set(value):
            raise BadRow("answers are not {text, answer_start}", shown(value))
        texts, starts = (as_items(value[key]) for key in ("text", "answer_start"))
        if len(texts) != len(starts):
            raise BadRow("answers of unequal length", f"{len(texts)} texts, {len(starts)} starts")
        for text, start in zip(texts, starts, strict=True):
            check_answer(text, start, context)
        return {"text": texts, "answer_start": [int(start) for start in starts]}


def as_items(value: Any) -> list[Any]:
    """A list as it is; a single answer as a list of one."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def check_answer(text: Any, start: Any, context: str) -> None:
    """Raise a BadRow unless the text stands in the context at this character."""
    if not isinstance(text, str) or not isinstance(start, int) or isinstance(start, bool):
        raise BadRow(
            "answers are not {text, answer_start}",
            f"text {shown(text)}, answer_start {shown(start)}",
        )
    if not text.strip():
        raise BadRow("empty text", "answer")
    if start < 0 or context[start : start + len(text)] != text:
        there = context[max(start, 0) : max(start, 0) + len(text)]
        right = context.find(text)
        hint = f"it stands at {right}" if right >= 0 else "the context does not hold it"
        raise BadRow(
            "answer not at answer_start",
            f"{shown(text)} at {start}, where {shown(there)} is; {hint}",
        )


class PairRows(TaskRows):
    """`source`, `target`: translation and summarisation."""

    inputs = ("source",)

    def features(self) -> dict[str, Any]:
        """See `TaskRows`."""
        return {
            role: text_feature() for role in ("source", "target")[: 2 if self.require_labels else 1]
        }

    def read(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """See `TaskRows`."""
        roles = ("source", "target")[: 2 if self.require_labels else 1]
        if "translation" in self.columns:
            column = self.columns["translation"]
            texts = row.get(column)
            if not isinstance(texts, Mapping):
                raise BadRow(
                    "missing value" if is_missing(texts) else "not one text a language", column
                )
            row = texts
        return {role: text_of(row, self.columns[role], role) for role in roles}
