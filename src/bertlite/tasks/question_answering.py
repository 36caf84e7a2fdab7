"""The passage of a context that answers a question, as in SQuAD, or that there is none, as in SQuAD
2.
"""

from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from .. import metrics
from ..inference import answer
from ..inference.windows import EncodedText, cut_windows
from .base import Task


class QuestionAnswering(Task):
    """Rows have `id`, `question`, `context` and `answers` (`text` and `answer_start`.

    Empty lists: no answer).
    """

    name = "question-answering"
    head = "ForQuestionAnswering"
    columns = ("id", "question", "context", "answers")
    main_metric = "f1"
    max_length = 384
    doc_stride = 128
    pipeline_tag = "question-answering"

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
        return [{**name, **each} for name, each in zip(ids, found, strict=True)]

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
