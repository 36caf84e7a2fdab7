"""The passage of a context that answers a question, as in SQuAD, or that there is none, as in SQuAD
2.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from .. import metrics
from ..data.cells import parse_cell
from ..data.problems import BadRow, shown
from ..data.rows import TaskRows, text_feature, text_of
from ..inference import answer
from ..inference.windows import EncodedText, cut_windows
from .base import Task


@dataclass
class QuestionRows(TaskRows):
    """`id`, `question`, `context`, `answers` {"text", "answer_start"}.

    Both empty: the context holds no answer.
    """

    task = "question-answering"
    names: ClassVar = {
        "question": ("question", "query"),
        "context": ("context", "passage", "paragraph", "document", "text"),
        "answers": ("answers", "answer"),
        "id": ("id", "qid", "question_id"),
    }
    required = ("question", "context")
    target = "answers"
    optional = ("id",)
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
            value = parse_cell(value, "answers")
        if value is None:
            raise BadRow("missing value", f"answers ({self.columns['answers']})")
        if isinstance(value, (list, tuple)) and all(
            isinstance(answer, Mapping) for answer in value
        ):
            value = {key: [answer.get(key) for answer in value] for key in ("text", "answer_start")}
        if not isinstance(value, Mapping) or not {"text", "answer_start"} <= set(value):
            raise BadRow("answers are not {text, answer_start}", shown(value))
        texts, starts = (as_items(value[key]) for key in ("text", "answer_start"))
        starts = [as_whole(start) for start in starts]
        if len(texts) != len(starts):
            raise BadRow("answers of unequal length", f"{len(texts)} texts, {len(starts)} starts")
        for text, start in zip(texts, starts, strict=True):
            check_answer(text, start, context)
        return {"text": texts, "answer_start": [int(start) for start in starts]}


def as_items(value: Any) -> list[Any]:
    """A list as it is; a single answer as a list of one."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def as_whole(number: Any) -> Any:
    """3.0, as a table with gaps writes it, as 3; anything else as it is."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


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


class QuestionAnswering(Task):
    """Rows have `id`, `question`, `context` and `answers` (`text` and `answer_start`.

    Empty lists: no answer).
    """

    name = QuestionRows.task
    rows = QuestionRows
    head = "ForQuestionAnswering"
    main_metric = "f1"
    ranks = True
    max_length = 384
    doc_stride = 128
    pipeline_tag = "question-answering"
    reads = (("question", "context"),)
    words = ("question", "text")
    usage = 'bertlite.answer("A question?", "A text.", "FOLDER OR HUB NAME")'

    def rows_of_words(self, words):
        for name in self.words:
            if not words.get(name):
                raise ValueError(f"{self.name} needs --question and --text, got no --{name}")
        texts, questions = words["text"], words["question"]
        questions = questions * len(texts) if len(questions) == 1 else questions
        texts = texts * len(questions) if len(texts) == 1 else texts
        if len(questions) != len(texts):
            raise ValueError(
                f"--question must be one, or as many as --text, got {len(questions)} and "
                f"{len(texts)}"
            )
        return [
            {"question": one, "context": other} for one, other in zip(questions, texts, strict=True)
        ]

    def encode(self, rows, tokenizer, model, options):
        encoded = cut_windows(
            tokenizer,
            [row["question"] for row in rows],
            [row["context"] for row in rows],
            cut_pair=[True] * len(rows),
            max_length=self.limit(model, tokenizer, options),
            doc_stride=self.stride(options),
            names=("question", "context"),
        )
        return [
            feature
            for text, row in zip(encoded, rows, strict=True)
            for feature in place_answer(tokenizer, text, row["answers"])
        ]

    def collator(self, tokenizer, model):
        return DataCollatorWithPadding(tokenizer)

    def predict(self, rows, model, tokenizer, options, *, show_progress=True, device=None):
        possible = options.allow_no_answer
        if possible is None:
            possible = any(
                "answers" in row and not (row["answers"] or {}).get("text") for row in rows
            )
        found = answer(
            [row["question"] for row in rows],
            [row["context"] for row in rows],
            model,
            tokenizer,
            top_k=options.top_k or 1,
            max_length=options.max_length or self.max_length,
            doc_stride=self.stride(options),
            max_answer_length=options.max_answer_length,
            handle_impossible_answer=possible,
            null_score_diff_threshold=options.null_score_diff_threshold,
            batch_size=options.prediction_batch_size,
            device=device,
            show_progress=show_progress,
        )
        ids = [{"id": row["id"]} if "id" in row else {} for row in rows]
        answers = [
            {**each[0], "candidates": each} if isinstance(each, list) else each for each in found
        ]
        return [{**name, **each} for name, each in zip(ids, answers, strict=True)]

    def score(self, rows, predictions, model):
        # Numbers stand for the ids: those of a file need not be unique.
        answers = [
            {"id": str(place), "answers": {"text": row["answers"]["text"]}}
            for place, row in enumerate(rows)
        ]
        chosen = [
            {"id": str(place), "prediction_text": each["answer"]}
            for place, each in enumerate(predictions)
        ]
        if all(row["answers"]["text"] for row in answers):
            return metrics.load("squad").compute(predictions=chosen, references=answers)
        for each, prediction in zip(chosen, predictions, strict=True):
            each["no_answer_probability"] = prediction.get("no_answer_probability", 0.0)
        return metrics.load("squad_v2").compute(predictions=chosen, references=answers)


def place_answer(
    tokenizer: PreTrainedTokenizerBase, text: EncodedText, answers: dict
) -> list[dict]:
    """The windows of a context with `start_positions` and `end_positions` of the first answer.

    A window that does not hold the whole answer, and every window where there is none, points to
    [CLS].
    """
    span = None
    if answers["text"]:
        start = answers["answer_start"][0]
        span = tokens_of(text, start, start + len(answers["text"][0]))
    features = []
    for window in text.windows:
        ids = window.inputs["input_ids"]
        places = [ids.index(tokenizer.cls_token_id) if tokenizer.cls_token_id in ids else 0] * 2
        if span is not None and window.start <= span[0] and span[1] < window.start + window.length:
            places = [window.first + token - window.start for token in span]
        features.append({**window.inputs, "start_positions": places[0], "end_positions": places[1]})
    return features


def tokens_of(text: EncodedText, start: int, end: int) -> tuple[int, int] | None:
    """First and last token that share a character with `[start, end)` of the text.

    None where none does.
    """
    found = [
        place for place, (first, last) in enumerate(text.offsets) if first < end and last > start
    ]
    return (found[0], found[-1]) if found else None
