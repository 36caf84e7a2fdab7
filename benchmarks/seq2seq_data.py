"""Data, tokenizer and scores of the sequence-to-sequence benchmark.

A data folder holds train.jsonl.gz and validation.jsonl.gz. Where such data come from:

- translation: the English help of LibreOffice 7.4 and its German translation, aligned by paragraph
  (MPL-2.0), from the
  Debian packages libreoffice-help-en-us and libreoffice-help-de; rows are {"translation": {"en":
  ..., "de": ...}}.
- summarization: long descriptions and one-line synopses of Debian packages (mixed free licences),
  as `apt-cache
  dumpavail` prints them; rows are {"document": ..., "summary": ...}.

Split by document (help page, source package), so that no text lies on both sides.
"""

import gzip
import json
import random
from dataclasses import dataclass
from pathlib import Path

from bertlite import metrics


@dataclass(frozen=True)
class Task:
    """What is read and written, and by which figure the curve is drawn.

    Args:
        name: of the task.
        source_limit: tokens of a source that are read, the end token included.
        target_limit: tokens of a target that are learnt, the end token included.
        figure: the score on the curve.
    """

    name: str
    source_limit: int
    target_limit: int
    figure: str

    def pair(self, row: dict) -> tuple[str, str]:
        """Source and target of a row of the file."""
        if self.name == "translation":
            return row["translation"]["en"], row["translation"]["de"]
        return row["document"], row["summary"]


TASKS = {
    "translation": Task("translation", source_limit=128, target_limit=128, figure="bleu"),
    "summarization": Task("summarization", source_limit=72, target_limit=32, figure="rouge1"),
}


def read_pairs(folder: str | Path, split: str, task: Task) -> list[tuple[str, str]]:
    """Sources and targets of `split` ("train" or "validation").

    Raises:
        ValueError: no such file.
    """
    path = Path(folder, f"{split}.jsonl.gz")
    if not path.is_file():
        raise ValueError(f"data must hold {path.name}, got the folder {folder}")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [task.pair(json.loads(line)) for line in file]


def subset(pairs: list[tuple[str, str]], rows: int, seed: int = 0) -> list[tuple[str, str]]:
    """The same `rows` of them in every call, drawn by `seed`.

    All of them where there are no more, or `rows` is 0.
    """
    if not 0 < rows < len(pairs):
        return pairs
    chosen = sorted(random.Random(seed).sample(range(len(pairs)), rows))
    return [pairs[row] for row in chosen]


def encode_pairs(tokenizer, pairs: list[tuple[str, str]], task: Task) -> list[dict]:
    """Rows of `input_ids` and `labels`, each cut to the task's limit."""
    options = {"truncation": True, "add_special_tokens": True}
    sources = tokenizer([source for source, _ in pairs], max_length=task.source_limit, **options)[
        "input_ids"
    ]
    targets = tokenizer([target for _, target in pairs], max_length=task.target_limit, **options)[
        "input_ids"
    ]
    return [
        {"input_ids": source, "labels": target}
        for source, target in zip(sources, targets, strict=True)
    ]


def lead(text: str, words: int = 10) -> str:
    """The first words of a text: the summary that needs no model."""
    return " ".join(text.split()[:words])


def scores(task: Task, predictions: list[str], references: list[str]) -> dict[str, float | str]:
    """BLEU and chrF (0 to 100) of a translation.

    ROUGE-1, -2 and -L (0 to 1, no stemming) of a summary.
    """
    given = {"predictions": predictions, "references": references}
    if task.name == "summarization":
        return metrics.load("rouge").compute(**given, rouge_types=("rouge1", "rouge2", "rougeL"))
    bleu, chrf = metrics.load("sacre_bleu").compute(**given), metrics.load("chrf").compute(**given)
    return {
        "bleu": bleu["score"],
        "chrf": chrf["score"],
        "brevity": bleu["bp"],
        "signature": bleu["signature"],
    }
