"""What the commands `bertlite evaluate` and `bertlite predict` share."""

import argparse
import os
from pathlib import Path
from typing import Any

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


def check_output(output: str | None) -> None:
    """Refuse, with a ValueError and before any work, what is no file that can be written."""
    if output is None:
        return
    path = Path(output)
    if path.is_dir():
        raise ValueError(f"--output must be a file to write to, got the folder {output}")
    above = next(each for each in path.absolute().parents if each.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise ValueError(
            f"--output must be a file in a folder that can be written, got {output} and {above}"
        )
