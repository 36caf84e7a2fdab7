"""Summarisation, by an encoder-decoder."""

from typing import ClassVar

from .. import metrics
from ..inference import summarize
from .writing import PairRows, Writing


class SummarizationRows(PairRows):
    """`source`, `target`: a document and its summary."""

    task = "summarization"
    names: ClassVar = {
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
    }


class Summarization(Writing):
    """From a text to a short one; figures are ROUGE."""

    name = SummarizationRows.task
    rows = SummarizationRows
    main_metric = "rougeL"
    pipeline_tag = "summarization"
    max_target_length = 128
    function = summarize
    usage = 'bertlite.summarize("A text.", "FOLDER OR HUB NAME")'

    def score(self, rows, predictions, model):
        texts, references = [each["text"] for each in predictions], [row["target"] for row in rows]
        found = metrics.load("rouge").compute(predictions=texts, references=references)
        tokenizer = found.pop("tokenizer")
        return {**found, "rouge_tokenizer": tokenizer}
