"""The command `bertlite`: each sub-command is a module with a `main(argv)` of its own, imported only when chosen."""

import argparse
import importlib
import sys

from .version import VERSION

COMMANDS = {
    "demo": ("bertlite.demo", "fine-tune a real BERT on film reviews, and classify your sentences with it"),
}

EPILOG = """examples:
  bertlite demo
  bertlite demo "A dull, lifeless film." "I laughed from start to finish."
  bertlite demo --help
"""


def main(argv: list[str] | None = None) -> int:
    """Run one sub-command. Returns its exit status; 2, with one line on stderr, where an argument is refused."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="bertlite",
        description="BERT and the Transformer with transformers' own conventions.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"bertlite {VERSION}")
    choices = parser.add_subparsers(dest="command", metavar="command", required=True)
    for name, (_, help_line) in COMMANDS.items():
        choices.add_parser(name, help=help_line, add_help=False)
    arguments = parser.parse_args(argv[:1])
    module = importlib.import_module(COMMANDS[arguments.command][0])
    try:
        return module.main(argv[1:])
    except ValueError as error:
        print(f"bertlite {arguments.command}: error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
