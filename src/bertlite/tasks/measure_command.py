"""The commands `bertlite evaluate` and `bertlite predict`."""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from transformers import HfArgumentParser

from .base import Row, TaskOptions
from .evaluation import evaluate, infer_task, predict
from .options import DataOptions
from .parsing import parse_given
from .registry import TASKS

EVALUATE = """examples:
  bertlite evaluate out/sentiment --test held_out.csv
  bertlite evaluate MODEL --task question-answering --test dev.json --output figures.json
"""
PREDICT = """examples:
  bertlite predict out/sentiment --text "A dull, lifeless film." "I laughed."
  bertlite predict out/ner texts.txt --output entities.jsonl
  bertlite predict out/qa --question "Who wrote it?" --text "It was written by Ada."
  bertlite predict out/en-de rows.jsonl --columns source=en

a .txt file holds one text a line. Each line of the answer is JSON: scores, and start and end of what was found.
"""


def command_parser(name: str, description: str, epilog: str, kinds: list[Any]) -> HfArgumentParser:
    """The parser of one command, model first."""
    parser = HfArgumentParser(
        kinds, prog=f"bertlite {name}", description=description, epilog=epilog, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter
    )  # fmt: skip
    parser.add_argument("model", help="folder or hub name of a trained model")
    parser.add_argument("--task", choices=sorted(TASKS), help="default: told from the model")
    parser.add_argument("--output", help="file to write to (default: the screen)")
    return parser


def evaluate_main(argv: list[str]) -> int:
    """Run `bertlite evaluate`."""
    kinds: list[Any] = [DataOptions, TaskOptions]
    parser = command_parser("evaluate", "Measure a trained model on labelled rows.", EVALUATE, kinds)
    given = parse_given(parser, argv)
    output, model = given.pop("output", None), given.pop("model", None)
    if model is None:
        raise ValueError("model must be given: bertlite evaluate MODEL --test FILE")
    figures = evaluate(model, **given)
    write_lines(output, [json.dumps(figures, indent=2)])
    return 0


def predict_main(argv: list[str]) -> int:
    """Run `bertlite predict`."""
    parser = command_parser("predict", "A trained model's answers, one JSON object a line.", PREDICT, [TaskOptions])
    parser.add_argument("file", nargs="?", help="rows without labels, in any format of finetune, or .txt")
    parser.add_argument("--text", nargs="+", help="texts, each in quotes (of questions: the texts to search)")
    parser.add_argument("--text_pair", nargs="+", help="the second text of each pair")
    parser.add_argument("--question", nargs="+", help="one for each text, or one for all")
    parser.add_argument("--choices", nargs="+", help="multiple choice: what to choose from for --question")
    parser.add_argument("--columns", nargs="+", help="columns that cannot be guessed, such as text=Review")
    given = parse_given(parser, argv)
    output, model, file = given.pop("output", None), given.pop("model", None), given.pop("file", None)
    if model is None:
        raise ValueError("model must be given: bertlite predict MODEL FILE")
    task = given.pop("task", None) or infer_task(model)
    words = {name: given.pop(name, None) for name in ("text", "text_pair", "question", "choices")}
    columns = given.pop("columns", [])
    if (file is None) == (words["text"] is None and words["choices"] is None):
        raise ValueError("predict takes a file or --text, and not both")
    rows = rows_of_words(task, words) if file is None else rows_of_file(task, file, columns)
    answers = predict(model, rows, task=task, **given)
    write_lines(output, (json.dumps(each, ensure_ascii=False) for each in answers))
    return 0


def rows_of_words(task: str, words: dict[str, Any]) -> list[Row]:
    """Rows of what stands on the command line.

    Raises:
        ValueError: a question is missing, or as many of one as of the other.
    """
    texts, questions = words["text"] or [], words["question"] or []
    if task == "multiple-choice":
        if len(questions) != 1 or not words["choices"]:
            raise ValueError("multiple choice needs one --question and its --choices")
        return [{"question": questions[0], "choices": words["choices"]}]
    if task == "question-answering":
        questions = questions * len(texts) if len(questions) == 1 else questions
        texts = texts * len(questions) if len(texts) == 1 else texts
        if not texts or len(questions) != len(texts):
            raise ValueError(f"--question must be one, or as many as --text, got {len(questions)} and {len(texts)}")
        return [{"question": one, "context": other} for one, other in zip(questions, texts, strict=True)]
    name = "source" if task in ("translation", "summarization") else "text"
    rows = [{name: text} for text in texts]
    if words["text_pair"] is not None:
        if len(words["text_pair"]) != len(texts):
            raise ValueError(f"--text_pair must be as many as --text, {len(texts)}, got {len(words['text_pair'])}")
        rows = [{**row, "text_pair": pair} for row, pair in zip(rows, words["text_pair"], strict=True)]
    return rows


def rows_of_file(task: str, file: str, columns: list[str]) -> Iterable[Row]:
    """Rows of a file, checked by `bertlite.data`; a `.txt` file has one text a line."""
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"file must be one that is there, got {file}")
    if path.suffix == ".txt":
        name = "source" if task in ("translation", "summarization") else "text"
        return [{name: line} for line in path.read_text(encoding="utf-8").splitlines()]
    data = DataOptions(test=file, columns=columns).prepare(task, require_labels=False)
    return data.test


def write_lines(output: str | None, lines: Iterable[str] | Iterator[str]) -> None:
    """To the screen, or to a file that is there only when it is whole."""
    if output is None:
        for line in lines:
            sys.stdout.write(line + "\n")
        return
    target = Path(output)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    with part.open("w", encoding="utf-8") as file:
        for line in lines:
            file.write(line + "\n")
    os.replace(part, target)
