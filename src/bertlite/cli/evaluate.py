"""The command `bertlite evaluate`."""

import argparse
import json
import sys
from typing import Any

from ..metrics.class_report import draw_confusion, report_table
from ..tasks.base import TaskOptions
from ..training.evaluation import OF_TRAINING, evaluate
from ..training.options import DataOptions
from .measure import check_output, command_parser
from .parsing import parse_given
from .tables import write_rows

EPILOG = """examples:
  bertlite evaluate out/sentiment --test held_out.csv
  bertlite evaluate out/sentiment --test held_out.csv --confusion_picture confusion.png
  bertlite evaluate MODEL --task question-answering --test dev.json --output figures.json

Figures come as JSON; of a classifier, those of each class and the confusion matrix too, and once
more as a table on stderr; of texts' classes also the calibration error and the Brier score, which
say how far scores can be trusted.
"""


def main(argv: list[str]) -> int:
    """Run `bertlite evaluate`."""
    kinds: list[Any] = [DataOptions, TaskOptions]
    usage = "MODEL --test FILE [options]"
    parser = command_parser(
        "evaluate", usage, "Measure a trained model on labelled rows.", EPILOG, kinds
    )
    parser.add_argument(
        "--confusion_picture",
        "--confusion-picture",
        metavar="FILE",
        help="draw the confusion matrix (needs matplotlib)",
    )
    for action in parser._actions:
        if action.dest in OF_TRAINING:
            action.help = argparse.SUPPRESS
    given = parse_given(parser, argv)
    output, model = given.pop("output", None), given.pop("model", None)
    picture = given.pop("confusion_picture", None)
    if model is None:
        raise ValueError("model must be given: bertlite evaluate MODEL --test FILE")
    check_output(output)
    figures = evaluate(model, per_class=True, **given)
    if "per_class" in figures:
        print(report_table(figures), file=sys.stderr)
    if picture is not None:
        if "confusion_matrix" not in figures:
            raise ValueError("--confusion_picture must come with a classifier of one label a row")
        draw_confusion(figures["confusion_matrix"], picture)
    write_rows(output, [figures], whole=json.dumps(figures, indent=2, ensure_ascii=False))
    return 0
