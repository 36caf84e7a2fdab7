"""The command `bertlite check`."""

from .command_parser import CommandParser

DESCRIPTION = """\
Does a saved folder load for everyone, and does it still compute what it did? Every Auto class that
fits loads it in fresh processes, with bertlite and without it, and their outputs are compared: with
each other, and with the probe that was kept beside the weights when they were saved.
"""
EPILOG = """\
examples:
  bertlite check out/sentiment
  bertlite check out/sentiment --write-probe             keep what it computes today
  bertlite check out/sentiment --python other/bin/python with what is installed there

The exit status is 1 where something is not as it should be.
"""


def main(argv: list[str]) -> int:
    """Run `bertlite check`."""
    arguments = make_parser().read(argv)
    from ..hub.checking import check_folder
    from ..hub.probe import write_probe

    if arguments.write_probe:
        print(f"written: {write_probe(arguments.folder)}")
    options = {} if arguments.python is None else {"python": arguments.python}
    report = check_folder(arguments.folder, **options)
    for line in report.facts:
        print(f"ok: {line}")
    for line in report.problems:
        print(f"PROBLEM: {line}")
    return 1 if report.problems else 0


def make_parser() -> CommandParser:
    """The options."""
    parser = CommandParser(
        prog="bertlite check",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument("folder", metavar="FOLDER", help="where a model is saved")
    parser.add_argument(
        "--write-probe", action="store_true", help="keep what the model computes as its probe"
    )
    parser.add_argument(
        "--python", metavar="FILE", help="the interpreter of the processes (default: this one)"
    )
    return parser
