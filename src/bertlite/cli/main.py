"""The command `bertlite`.

Each sub-command is a module with a `main(argv)` of its own, imported only when chosen.
"""

import argparse
import contextlib
import difflib
import importlib
import os
import sys

from ..version import VERSION
from .errors import in_one_line
from .option_names import check_words

# Name: module, which has `main(argv) -> exit status`, and the line of the help.
COMMANDS = {
    "demo": (
        "bertlite.cli.demo",
        "fine-tune a real BERT on film reviews, and classify your sentences with it",
    ),
    "finetune": (
        "bertlite.cli.finetune",
        "train a model for one of six tasks on your data, and measure it",
    ),
    "evaluate": ("bertlite.cli.evaluate", "measure a trained model on labelled rows"),
    "predict": ("bertlite.cli.predict", "a trained model's answers to texts or to a file of rows"),
    "check-labels": (
        "bertlite.cli.check_labels",
        "find rows whose label is probably wrong",
    ),
    "explain": (
        "bertlite.cli.explain",
        "which words a model's answer leans on, and who attends to whom, as a page",
    ),
    "prune": (
        "bertlite.cli.prune",
        "make a trained model faster: cut what it leans on least",
    ),
    "tokenizer": (
        "bertlite.cli.tokenizer",
        "train a tokenizer of your own: WordPiece or BPE",
    ),
    "pretrain": ("bertlite.cli.pretrain", "pretrain a BERT on raw text of your own"),
    "encode": ("bertlite.cli.encode", "vectors of the texts of a file"),
    "serve": ("bertlite.cli.serve", "answer requests over HTTP, many at a time"),
    "check": (
        "bertlite.cli.check",
        "does a saved folder load for everyone, and compute what it did",
    ),
    "card": ("bertlite.cli.card", "write a model's card from what its run recorded, or check it"),
    "push": ("bertlite.cli.push", "check a saved folder, and send it to the hub"),
    "convert": (
        "bertlite.cli.convert",
        "Google's TensorFlow checkpoints to bertlite folders, and back",
    ),
    "export": ("bertlite.cli.export", "folders for ONNX Runtime, OpenVINO, CTranslate2 and torch"),
}

EPILOG = """examples:
  bertlite demo                                      the whole way in a few minutes, no network
  bertlite demo "A dull film." "A joy to watch."     the same, and classify these two sentences
  bertlite demo --help                               its options
  bertlite finetune --help                           train on your own data
  bertlite predict out/demo --text "A fine film."    ask a trained model
  bertlite convert uncased_L-12_H-768_A-12 out/bert  Google's TensorFlow release to our folder

Each command explains its options: bertlite COMMAND --help. Names of options may be written with
dashes or underscores. bertlite --traceback COMMAND ... shows where an error comes from.
"""
CLOSED_PIPE = 141  # 128 and the number of SIGPIPE, as a shell has it


def main(argv: list[str] | None = None) -> int:
    """Run one sub-command.

    Args:
        argv: the words after `bertlite`; None takes those of the process.

    Returns:
        The exit status: that of the sub-command; 2, with one line on stderr, where it met bad input
        or something else that a user can mend, such as a full disk or a package that is missing;
        130 where the user interrupted it; 141 where whoever reads its output has stopped.
    """
    argv = sys.argv[1:] if argv is None else argv
    shown = argv[:1] == ["--traceback"]
    argv = argv[1:] if shown else argv
    parser = make_parser()
    if not argv:
        parser.print_help(sys.stderr)
        return 2
    if not argv[0].startswith("-") and argv[0] not in COMMANDS:
        print(f"bertlite: error: {unknown_command(argv[0])}", file=sys.stderr)
        return 2
    command = parser.parse_args(argv[:1]).command
    try:
        check_words(command, argv[1:])
        status = importlib.import_module(COMMANDS[command][0]).main(argv[1:])
        sys.stdout.flush()  # a full disk or a closed pipe shows here, not when the process ends
        return status
    except BrokenPipeError:
        silence_output()
        return CLOSED_PIPE
    except KeyboardInterrupt:
        print(f"\nbertlite {command}: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        line = in_one_line(error)
        if shown or line is None:
            raise
        print(f"bertlite {command}: error: {line}", file=sys.stderr)
        silence_output()
        return 2


def unknown_command(word: str) -> str:
    """What is said of a word that is no command."""
    near = difflib.get_close_matches(word.replace("_", "-"), COMMANDS, 1)
    hint = f"; is {near[0]} meant?" if near else ""
    return f"command must be one of {', '.join(COMMANDS)}, got {word!r}{hint}"


def silence_output() -> None:
    """What is still to be written goes nowhere, so that the end of the process tries it no more."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def make_parser() -> argparse.ArgumentParser:
    """Knows the commands' names and help lines only; each command reads its own options."""
    parser = argparse.ArgumentParser(
        prog="bertlite",
        description="BERT and the Transformer with transformers' own conventions.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--traceback", action="store_true", help="show where an error comes from; comes first"
    )
    parser.add_argument("--version", action="version", version=f"bertlite {VERSION}")
    choices = parser.add_subparsers(dest="command", metavar="command", required=True)
    for name, (_, help_line) in COMMANDS.items():
        choices.add_parser(name, help=help_line, add_help=False)
    return parser


if __name__ == "__main__":
    sys.exit(main())
