"""The command `bertlite card`."""

from .command_parser import CommandParser

DESCRIPTION = """\
Write the card (README.md) of a folder from what its run recorded: data and their fingerprints,
rows, recipe, seeds and spread, hardware, time, figures with the rule that chose the checkpoint,
limits. What the run cannot know, licences and languages, is given here. `bertlite push` refuses a
card with blanks.
"""
EPILOG = """\
examples:
  bertlite card out/sentiment --license apache-2.0 --language en \\
      --data-license "CC-BY 4.0" --base-license "Apache-2.0"
  bertlite card out/sentiment --check                    what is missing; nothing is written
  bertlite card out/glue --benchmark nyu-mll/glue mrpc accuracy
      and a result for the leaderboard of a benchmark that the hub has registered

The exit status is 1 where something is missing in the card.
"""


def main(argv: list[str]) -> int:
    """Run `bertlite card`."""
    arguments = make_parser().read(argv)
    from ..hub.card import Published
    from ..hub.card_check import card_problems
    from ..hub.record_card import write_benchmark_result, write_card_of

    if not arguments.check:
        if arguments.benchmark is not None:  # it refuses a figure that was not measured
            print(f"written: {write_benchmark_result(arguments.folder, *arguments.benchmark)}")
        published = Published(
            license=arguments.license,
            language=arguments.language or (),
            data_license=arguments.data_license,
            base_license=arguments.base_license,
        )
        print(f"written: {write_card_of(arguments.folder, published)}")
    problems = card_problems(arguments.folder)
    for line in problems:
        print(f"MISSING: {line}")
    return 1 if problems else 0


def make_parser() -> CommandParser:
    """The options."""
    parser = CommandParser(
        prog="bertlite card",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument("folder", metavar="FOLDER", help="of a run")
    parser.add_argument("--license", help="of the model, as the hub names it, such as apache-2.0")
    parser.add_argument("--language", nargs="+", metavar="CODE", help="of the data, such as en")
    parser.add_argument("--data-license", metavar="TEXT", help="of the data, in words")
    parser.add_argument(
        "--base-license", metavar="TEXT", help="of the weights it started from, in words"
    )
    parser.add_argument(
        "--benchmark",
        nargs=3,
        metavar=("DATASET", "TASK", "METRIC"),
        help="also write .eval_results/ for a registered benchmark, from a figure of the test rows",
    )
    parser.add_argument("--check", action="store_true", help="only look at the card that is there")
    return parser
