"""What the commands `bertlite evaluate` and `bertlite predict` share."""

import argparse
from typing import Any

from ..inference.loading import read_config
from ..tasks.registry import TASKS
from .parsing import OptionParser


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
    parser.add_argument("--device", help="where to run, such as cpu, cuda or cuda:1")
    return parser


def kind_of_folder(model: str) -> str | None:
    """The problem type that a classifier's folder says; None where it leaves it open."""
    config = read_config("", model)
    if config.get("problem_type") is None and len(config.get("id2label") or ()) == 1:
        return "regression"
    return config.get("problem_type")
