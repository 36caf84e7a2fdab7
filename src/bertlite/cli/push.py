"""The command `bertlite push`."""

import sys

from .command_parser import CommandParser

DESCRIPTION = """\
Check a saved folder, and send it to the hub in one commit. It is loaded in fresh processes by every
Auto class that fits, with bertlite and without; their outputs are compared with each other and with
the folder's probe; its card is checked. Only then is anything sent: weights in safetensors, config,
tokenizer, card, figures and probe. Optimizer states, pickles, checkpoints and logs stay here.
"""
EPILOG = """\
examples:
  bertlite push out/sentiment me/sentiment --dry-run     check, and show what would be sent
  bertlite push out/sentiment me/sentiment --private     to a repository that only you see
  bertlite push out/sentiment me/sentiment --revision v2 to a branch

The token is that of `hf auth login` or of the variable HF_TOKEN; there is no option for it, since
other users of a machine can read a command line. A connection that breaks leaves the repository as
it was: run the command again.
"""


def main(argv: list[str]) -> int:
    """Run `bertlite push`."""
    arguments = make_parser().read(argv)
    from ..hub.push import describe, push

    result = push(
        arguments.folder,
        arguments.name,
        revision=arguments.revision,
        private=True if arguments.private else None,
        message=arguments.message,
        dry_run=arguments.dry_run,
        say=lambda line: print(line, file=sys.stderr),
    )
    print(describe(result, arguments.folder))
    if result.url:
        print(result.url)
    return 0


def make_parser() -> CommandParser:
    """The options."""
    parser = CommandParser(
        prog="bertlite push",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument("folder", metavar="FOLDER", help="where a model is saved")
    parser.add_argument("name", metavar="NAME", help="of the repository, such as me/sentiment")
    parser.add_argument(
        "--dry-run", action="store_true", help="check, and show what would be sent; send nothing"
    )
    parser.add_argument(
        "--private", action="store_true", help="make a new repository one that only you see"
    )
    parser.add_argument("--revision", "--branch", help="the branch to send to (default: main)")
    parser.add_argument("--message", default="Upload model", help="of the commit")
    return parser
