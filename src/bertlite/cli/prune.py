"""The command `bertlite prune`."""

import sys
from typing import Any

from .parsing import parse_given

EPILOG = """examples:
  bertlite prune out/sentiment --speed 2 --data train.csv --validation held_out.csv \\
      --output out/sentiment-fast
  bertlite prune out/ner --data train.conll --validation 0.1 --test test.conll --baseline \\
      --output out/ner-fast

What it does: measures how much the model leans on each head and each inner neuron, cuts what it
leans on least until the rest is as fast as asked (measured here, on the validation texts), and
trains what is left for a short time, with the unpruned model as its teacher. The folder holds the
smaller model, its tokenizer, pruning.json with all figures, the curve of metric against speed, and
a card. --baseline drops whole layers for the same speed too, to compare.
"""


def main(argv: list[str]) -> int:
    """Run `bertlite prune`; a ValueError refuses bad input before any work."""
    from ..inspection.prune_options import PruneOptions
    from ..tasks.base import TaskOptions
    from ..training.options import DataOptions
    from .measure import command_parser

    kinds: list[Any] = [PruneOptions, DataOptions, TaskOptions]
    usage = "FOLDER --speed 2 --data FILE --validation FILE --output FOLDER [options]"
    about = "Make a trained model faster: cut what it leans on least, and let it recover."
    parser = command_parser("prune", usage, about, EPILOG, kinds)
    parser.add_argument("--data", nargs="+", metavar="FILE", help="the same as --train")
    given = parse_given(parser, argv)
    if (model := given.pop("model", None)) is None:
        raise ValueError("model must be given: bertlite prune FOLDER --data FILE --output FOLDER")
    if (output := given.pop("output", None)) is None:
        raise ValueError("--output must name the folder to write to, got none")
    if "data" in given:
        if "train" in given:
            raise ValueError("--data and --train are one option, got both")
        given["train"] = given.pop("data")
    task, device = given.pop("task", None), given.pop("device", None)
    chosen: list[Any] = [
        kind(**{name: given.pop(name) for name in list(given) if name in kind.__dataclass_fields__})
        for kind in kinds
    ]
    options, data, cut = chosen
    from ..inspection.compression import compress  # after the options are known to be good

    made = compress(
        model,
        output_dir=output,
        task=task,
        data_options=data,
        task_options=cut,
        options=options,
        device=device,
        say=say,
    )
    for way, figures in made.test.items():
        say(f"test          {made.metric} {figures[made.metric]:.4f} ({way})")
    say(f"written       {output}")
    return 0


def say(text: str) -> None:
    """Write a line for the user at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
