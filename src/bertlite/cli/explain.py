"""`bertlite explain`: which words an answer leans on, and who attends to whom."""

import sys
from typing import Any

from .command_parser import CommandParser

DESCRIPTION = """\
Explain what a model says of a text: the score of each word, by several methods, how faithful each
is to the model, and the attention of every head. Without -o the scores are printed; with it one
HTML file is written that needs no network.
"""
EPILOG = """examples:
  bertlite explain out/sentiment --text "A dull, lifeless film."
  bertlite explain out/sentiment --text "A dull film." "A joy to watch." -o page.html
  bertlite explain out/ner --text "Ada lived in London." --word London -o page.html
  bertlite explain out/qa --text "Who wrote it?" --text_pair "It was written by Ada." -o page.html
  bertlite explain out/en-de --text "The file is open." -o page.html
  bertlite explain out/encoder --text "A cat sleeps." --text_pair "A kitten naps."

A score above 0 is for the target, below 0 against it. Attention says where heads look, not what the
answer depends on. What a method can be trusted for: docs/inspection.md
"""
METHODS = (
    "integrated_gradients",
    "occlusion",
    "attention_x_gradient",
    "gradient_x_input",
    "lime",
    "kernel_shap",
)


def main(argv: list[str]) -> int:
    """Run `bertlite explain`.

    Raises:
        ValueError: a text, model, target or file that does not fit.
    """
    given = vars(make_parser().read(argv))
    output = given.pop("output")
    if output and not output.endswith((".html", ".htm")):
        raise ValueError(f"--output must be a file that ends in .html, got {output}")
    from transformers.utils import logging

    from ..data.places import check_output_file
    from ..inspection import explain

    check_output_file("--output", output)
    logging.disable_progress_bar()
    found = explain(**arguments(given))
    if output is None:
        sys.stdout.write(f"{found}\n")
        return 0
    found.save(output)
    sys.stdout.write(f"{output}: open it in a browser\n")
    return 0


def arguments(given: dict[str, Any]) -> dict[str, Any]:
    """Those of `explain`; methods are given in the order of the command line, each once."""
    methods = given.pop("methods")
    chosen = {} if methods is None else {"methods": tuple(dict.fromkeys(methods))}
    return {
        "texts": given.pop("text"),
        "measure": not given.pop("no_faithfulness"),
        **given,
        **chosen,
    }


def make_parser() -> CommandParser:
    """The options."""
    parser = CommandParser(
        prog="bertlite explain",
        usage="%(prog)s MODEL --text TEXT ... [options]",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="folder or hub name of a model, with any head or none")
    add("--text", nargs="+", required=True, help="texts, each in quotes; several are compared")
    add("--text-pair", metavar="TEXT", help="the second text, the context of a question, or the "
        "text to compare with")  # fmt: skip
    add("--written", metavar="TEXT", help="what a translator is to have written (default: its own)")
    add("--target", help="the label, the token of a mask, or start or end of an answer (default: "
        "all, the likeliest first)")  # fmt: skip
    add("--word", help="the word whose label is explained, or the token that was written, by its "
        "text or its number from 0")  # fmt: skip
    add("--methods", nargs="+", choices=METHODS, metavar="METHOD",
        help=f"of {', '.join(METHODS)} (default: the first four)")  # fmt: skip
    add("--no-faithfulness", action="store_true", help="do not measure it, which takes longest")
    add("--max-length", type=int, metavar="N", help="cut texts to N tokens (default: refuse "
        "what is too long)")  # fmt: skip
    add("--device", help="where to run, such as cpu or cuda")
    add("-o", "--output", metavar="FILE", help="the page to write (default: print)")
    return parser
