"""The command `bertlite evaluate`."""

import argparse
import json
import sys
from typing import Any

from ..data.places import check_output_file
from ..metrics.class_report import report_table
from ..metrics.pictures import check_picture, draw_confusion, draw_reliability
from ..tasks.base import TaskOptions
from ..tasks.registry import task_named
from ..training.calibration import MULTI
from ..training.evaluation import OF_TRAINING, evaluate, infer_task
from ..training.options import DataOptions
from .measure import command_parser, kind_of_folder
from .parsing import parse_given
from .tables import write_rows

EPILOG = """examples:
  bertlite evaluate out/sentiment --test held_out.csv
  bertlite evaluate out/sentiment --test held_out.csv --confusion_picture confusion.png \\
      --reliability_picture reliability.png
  bertlite evaluate MODEL --task question-answering --test dev.json --output figures.json

Figures come as JSON; of a classifier, those of each class and the confusion matrix too, and once
more as a table on stderr; of texts' classes also the calibration error, the Brier score and the
bins of a reliability diagram, which say how far scores can be trusted.
"""
ONE_LABEL, OF_TEXTS = "a classifier of one label a row", "a classifier of texts"
PICTURES = {"confusion": "the confusion matrix", "reliability": "the reliability diagram"}


def main(argv: list[str]) -> int:
    """Run `bertlite evaluate`."""
    kinds: list[Any] = [DataOptions, TaskOptions]
    usage = "MODEL --test FILE [options]"
    parser = command_parser(
        "evaluate", usage, "Measure a trained model on labelled rows.", EPILOG, kinds
    )
    drawn = {
        "--confusion_picture": "--confusion-picture",
        "--reliability_picture": "--reliability-picture",
    }
    for (option, dashed), what in zip(drawn.items(), PICTURES.values(), strict=True):
        parser.add_argument(
            option,
            dashed,
            metavar="FILE",
            help=f"draw {what} (needs matplotlib: pip install 'bertlite[figures]')",
        )
    for action in parser._actions:
        if action.dest in OF_TRAINING:
            action.help = argparse.SUPPRESS
    given = parse_given(parser, argv)
    output, model = given.pop("output", None), given.pop("model", None)
    pictures = {name: given.pop(f"{name}_picture", None) for name in PICTURES}
    if model is None:
        raise ValueError("model must be given: bertlite evaluate MODEL --test FILE")
    check_output_file("--output", output)
    for name, path in pictures.items():
        check_picture(f"--{name}_picture", path)
    check_pictured(model, given.get("task"), [name for name, path in pictures.items() if path])
    figures = evaluate(model, per_class=True, **given)
    if "per_class" in figures:
        print(report_table(figures), file=sys.stderr)
    write_rows(output, [figures], whole=json.dumps(figures, indent=2, ensure_ascii=False))
    draw(figures, **pictures)
    return 0


def check_pictured(model: str, task: str | None, wanted: list[str]) -> None:
    """Refuse, with a ValueError and before any work, pictures that the model's kind has not."""
    if not wanted:
        return
    chosen, kind = task_named(task or infer_task(model)), kind_of_folder(model)
    of_texts = chosen.rows.has_problem_type
    several = of_texts and kind == MULTI
    if not chosen.labelled or (of_texts and kind == "regression"):
        raise ValueError(f"--{wanted[0]}_picture must come with a classifier, got {model}")
    if "confusion" in wanted and several:
        raise ValueError(f"--confusion_picture must come with {ONE_LABEL}, got {model}")
    if "reliability" in wanted and not of_texts:
        raise ValueError(f"--reliability_picture must come with {OF_TEXTS}, got {model}")


def draw(figures: dict[str, Any], confusion: str | None, reliability: str | None) -> None:
    """Draw what was asked for; a ValueError where the model is of another kind."""
    if confusion is not None:
        if "confusion_matrix" not in figures:
            raise ValueError(f"--confusion_picture must come with {ONE_LABEL}")
        draw_confusion(figures["confusion_matrix"], confusion)
    if reliability is not None:
        if "reliability" not in figures:
            raise ValueError(f"--reliability_picture must come with {OF_TEXTS}")
        draw_reliability(figures["reliability"], reliability)
