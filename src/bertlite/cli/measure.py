"""The commands `bertlite evaluate` and `bertlite predict`."""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..data.formats import lines_of, open_text, suffix_of
from ..inference.loading import check_text
from ..tasks.base import Row, TaskOptions
from ..tasks.registry import TASKS, task_named
from ..training.evaluation import OF_TRAINING, evaluate, infer_task, predict
from ..training.options import DataOptions
from .parsing import OptionParser, parse_given

EVALUATE = """examples:
  bertlite evaluate out/sentiment --test held_out.csv
  bertlite evaluate MODEL --task question-answering --test dev.json --output figures.json
"""
PREDICT = """examples:
  bertlite predict out/sentiment --text "A dull, lifeless film." "A joy to watch."
  bertlite predict out/ner texts.txt --output entities.jsonl
  bertlite predict out/qa --question "Who wrote it?" --text "It was written by Ada."
  bertlite predict out/en-de rows.jsonl --columns source=en

a .txt file holds one text a line. Each line of the answer is JSON: scores, and start and end of what was found.
"""


WORDS = ("text", "text_pair", "question", "choices")  # rows on the command line


def command_parser(
    name: str, usage: str, description: str, epilog: str, kinds: list[Any]
) -> OptionParser:
    """The parser of one command, model first."""
    parser = OptionParser(
        kinds,
        prog=f"bertlite {name}",
        usage=f"%(prog)s {usage}",
        description=description,
        epilog=epilog,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="folder or hub name of a trained model")
    parser.add_argument("--task", choices=sorted(TASKS), help="default: told from the model")
    parser.add_argument("--output", help="file to write to (default: the screen)")
    return parser


def evaluate_main(argv: list[str]) -> int:
    """Run `bertlite evaluate`."""
    kinds: list[Any] = [DataOptions, TaskOptions]
    usage = "MODEL --test FILE [options]"
    parser = command_parser(
        "evaluate", usage, "Measure a trained model on labelled rows.", EVALUATE, kinds
    )
    for action in parser._actions:
        if action.dest in OF_TRAINING:
            action.help = argparse.SUPPRESS
    given = parse_given(parser, argv)
    output, model = given.pop("output", None), given.pop("model", None)
    if model is None:
        raise ValueError("model must be given: bertlite evaluate MODEL --test FILE")
    check_output(output)
    figures = evaluate(model, **given)
    write_lines(output, [json.dumps(figures, indent=2)])
    return 0


def predict_main(argv: list[str]) -> int:
    """Run `bertlite predict`."""
    usage = "MODEL FILE [options], or bertlite predict MODEL --text TEXT ... [options]"
    answers = "A trained model's answers, one JSON object a line."
    parser = command_parser("predict", usage, answers, PREDICT, [TaskOptions])
    parser.add_argument(
        "file", nargs="?", help="rows without labels, in any format of finetune, or .txt"
    )
    parser.add_argument(
        "--text", nargs="+", help="texts, each in quotes (of questions: the texts to search)"
    )
    parser.add_argument("--text_pair", nargs="+", help="the second text of each pair")
    parser.add_argument("--question", nargs="+", help="one for each text, or one for all")
    parser.add_argument(
        "--choices", nargs="+", help="multiple choice: what to choose from for --question"
    )
    parser.add_argument(
        "--columns", nargs="+", help="columns that cannot be guessed, such as text=Review"
    )
    given = parse_given(parser, argv)
    output, model, file = (
        given.pop("output", None),
        given.pop("model", None),
        given.pop("file", None),
    )
    if model is None:
        raise ValueError("model must be given: bertlite predict MODEL FILE")
    check_output(output)
    task = given.pop("task", None) or infer_task(model)
    words = {name: given.pop(name) for name in WORDS if name in given}
    columns = given.pop("columns", [])
    if (file is None) == (not words):
        raise ValueError(
            "predict takes a file or --text, and not both, got "
            f"{'neither' if file is None else 'both'}"
        )
    if columns and file is None:
        raise ValueError("--columns must come with a file, whose columns it names, got --text")
    rows = rows_of_words(task, words) if file is None else rows_of_file(task, file, columns)
    found = predict(model, rows, task=task, **given)
    write_lines(output, (json.dumps(each, ensure_ascii=False) for each in found))
    return 0


def rows_of_words(task: str, words: dict[str, Any]) -> list[Row]:
    """Rows of what stands on the command line.

    Raises:
        ValueError: words that the task does not read, a question is missing, or as many of one as
            of the other.
    """
    chosen = task_named(task)
    for name in words:
        if name not in chosen.words:
            raise ValueError(
                f"{task} reads {' and '.join(f'--{each}' for each in chosen.words)}, got --{name}"
            )
    return chosen.rows_of_words(words)


def rows_of_file(task: str, file: str, columns: list[str]) -> Iterable[Row]:
    """Rows of a file, checked by `bertlite.data`; a `.txt` file has one text a line.

    Raises:
        ValueError: no such file, a bad row, or a text file where a row is more than a text.
    """
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"file must be one that is there, got {file}")
    if suffix_of(path) == ".txt":
        if (name := task_named(task).line_column) is None:
            raise ValueError(
                f"file must have columns for {task}, as a .jsonl or .csv file has, got {file}"
            )
        return rows_of_lines(path, name)
    data = DataOptions(test=file, columns=columns).prepare(task, require_labels=False)
    return data.test


def rows_of_lines(path: Path, name: str) -> list[Row]:
    """One row a line.

    A ValueError, with the line's number, for one without a text, for each line has an answer.
    """
    rows: list[Row] = []
    with open_text(path) as file:
        for number, line in enumerate(lines_of(file), start=1):
            check_text(f"{path.name} line {number}", line)
            rows.append({name: line})
    if not rows:
        raise ValueError(f"file must hold a text a line, got the empty {path}")
    return rows


def check_output(output: str | None) -> None:
    """Refuse, with a ValueError and before any work, a folder as the file to write to."""
    if output is not None and Path(output).is_dir():
        raise ValueError(f"--output must be a file to write to, got the folder {output}")


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
