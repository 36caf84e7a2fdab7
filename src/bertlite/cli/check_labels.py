"""The command `bertlite check-labels`."""

import argparse
import os
import sys
from typing import Any

from ..data.places import check_output_file
from ..data.problems import ON_BAD_ROW
from ..inference.embedding_recipe import read_recipe
from ..inference.loading import read_config
from ..training.label_errors import check_labels
from ..training.options import DataOptions
from .parsing import OptionParser, parse_given
from .tables import write_rows

EPILOG = """examples:
  bertlite check-labels reviews.csv --model sentence-transformers/all-MiniLM-L6-v2 \\
      --output suspects.csv
  bertlite check-labels reviews.csv --output suspects.csv       words alone, without a model
  bertlite check-labels rows.jsonl --columns text=Review label=Stars

Writes the suspect rows, the most suspect first: row (from 1), where, given and suggested label, the
confidence in each (0 to 1), and the text. Each row is judged by classifiers that have not seen it.
Needs cleanlab: pip install "bertlite[labels]".

It finds single mistakes among rows with one class each. It does not find what is wrong throughout,
says nothing of several labels a row, of scores or of words, and changes nothing: look at the rows.
The model must not be one that was trained on these labels, since it has learnt their mistakes.
"""


def main(argv: list[str]) -> int:
    """Run `bertlite check-labels`."""
    given = parse_given(make_parser(), argv)
    output, file = given.pop("output", None), given.pop("file", None)
    if file is None:
        raise ValueError("file must be given: bertlite check-labels FILE")
    check_output_file("--output", output)
    given["columns"] = DataOptions(columns=given.pop("columns", [])).column_map()
    if (model := given.get("model")) is not None:
        warn_if_trained(model)
    found = check_labels(file, show_progress=True, **given)
    write_rows(output, found.suspects)
    print(found, file=sys.stderr)
    return 0


def make_parser() -> OptionParser:
    """The options of `bertlite check-labels`."""
    parser = OptionParser(
        [],
        prog="bertlite check-labels",
        usage="%(prog)s FILE [options]",
        description="Find rows whose label is probably wrong.",
        epilog=EPILOG,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("file", help="labelled texts in any format of finetune")
    add("--model", help="folder or hub name of an encoder (default: words alone)")
    add("--output", help="file to write to, such as suspects.csv (default: the screen)")
    add("--columns", nargs="+", help="columns that cannot be guessed, such as text=Review")
    add(
        "--on_bad_row",
        "--on-bad-row",
        choices=ON_BAD_ROW,
        help="what a bad row does: stop everything, or be left out and counted (default: stop)",
    )
    add("--encoding", help="of a text file, such as cp1252 (default: UTF-8)")
    add("--folds", type=int, help="parts that rows are cut into (default: 5)")
    add("--max_length", "--max-length", type=int, help="tokens of a text that the model reads")
    add("--seed", type=int, help="draws the parts (default: 42)")
    add("--device", help="where to run, such as cpu, cuda or cuda:1")
    return parser


def warn_if_trained(model: str) -> None:
    """Say on stderr that a classifier may know these labels, mistakes included."""
    inner = read_recipe(model).folder  # of sentence-transformers, where the weights lie
    source = os.path.join(model, inner) if inner else model
    named: Any = read_config("check_labels", source).get("architectures") or []
    if any(name.endswith("ForSequenceClassification") for name in named):
        print(
            f"{model} is a trained classifier: if it was trained on these rows, it has learnt "
            "their mistakes too, and few will be found; take the model that it started from",
            file=sys.stderr,
        )
