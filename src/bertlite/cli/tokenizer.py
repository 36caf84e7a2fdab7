"""`bertlite tokenizer`: train a tokenizer on texts of your own, measure it, save it."""

import argparse
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from .command_parser import CommandParser

MEASURED = 10_000  # held-out texts at most
VOCAB_SIZES = {"wordpiece": 30_522, "bpe": 8_000}
DESCRIPTION = """\
Train a tokenizer on your own texts, measure it on others that it has not seen, and save it.

wordpiece   BERT's: for pretraining a BERT, or one in a new language or field.
bpe         joint byte-pair encoding: for translation and summarisation; give source and target
            texts together.
"""
EPILOG = """\
examples:
  bertlite tokenizer train wordpiece books.txt --output-dir out/tokenizer
  bertlite tokenizer train wordpiece articles.jsonl.gz --field text --cased --output-dir out/cased
  bertlite tokenizer train wordpiece texte.txt --keep-accents --output-dir out/german
  bertlite tokenizer train bpe train.jsonl.gz --field translation.en --field translation.de \\
      --output-dir out/en-de
  bertlite tokenizer train bpe train.en train.de --vocab-size 8000 --output-dir out/en-de

then, in Python:
  tokenizer = transformers.AutoTokenizer.from_pretrained("out/en-de")

how many tokens: more make shorter inputs and larger embeddings, of which rare ones learn little.
BERT has 30,522 for 3.3 billion words; 4,000 to 16,000 suit up to some million words. "tokens per
word" below 1.6 is usual.

case and accents: without --cased, text is put in lower case, and accents go with it, as in BERT
("schön" becomes "schon"). --keep-accents keeps them in lower case, --strip-accents takes them away
from text that keeps its case.
"""


def main(argv: list[str]) -> int:
    """Run `bertlite tokenizer`.

    See its `--help`. A ValueError refuses bad input before any work.
    """
    arguments = make_parser().read(argv)
    check(arguments)
    from transformers import PreTrainedTokenizerBase
    from transformers.utils.logging import tqdm

    from ..tokenization import measure, read_texts, train_joint_bpe, train_wordpiece

    options = {
        "vocab_size": arguments.vocab_size or VOCAB_SIZES[arguments.type],
        "min_frequency": arguments.min_frequency,
        "model_max_length": arguments.model_max_length,
    }
    held_out: list[str] = []
    texts = tqdm(training_texts(arguments, held_out), desc="reading", unit=" texts")
    tokenizer: PreTrainedTokenizerBase
    if arguments.type == "wordpiece":
        tokenizer = train_wordpiece(
            texts,
            lowercase=not arguments.cased,
            strip_accents=arguments.strip_accents,
            limit_alphabet=arguments.limit_alphabet,
            show_progress=True,
            **options,
        )
    else:
        tokenizer = train_joint_bpe(texts, show_progress=True, **options)
    if arguments.held_out_files:
        held_out = list(islice(read_texts(arguments.held_out_files, arguments.field), MEASURED))
    output = Path(arguments.output_dir)
    tokenizer.save_pretrained(output)
    sys.stdout.write(f"{measure(tokenizer, held_out)}\nsaved in          {output}\n")
    return 0


def check(arguments: argparse.Namespace) -> None:
    """Refuse what cannot work, before anything is read.

    Raises:
        ValueError: an output folder that holds something, a file that is not there, a number out
            of its range, or an option of the other kind of tokenizer.
    """
    output = Path(arguments.output_dir)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"--output-dir must be new or empty, got {output}")
    if arguments.held_out < 2:
        raise ValueError(f"--held-out must be at least 2, got {arguments.held_out}")
    for name in [*arguments.files, *(arguments.held_out_files or [])]:
        if not Path(name).is_file():
            raise ValueError(f"files must exist, got {name}")
    if arguments.type == "wordpiece":
        return
    given = {
        "--cased": arguments.cased,
        "--keep-accents or --strip-accents": arguments.strip_accents is not None,
        "--limit-alphabet": arguments.limit_alphabet is not None,
    }
    for option in (option for option, value in given.items() if value):
        raise ValueError(
            f"{option} must be given with wordpiece only, got it with {arguments.type}"
        )


def training_texts(arguments: argparse.Namespace, held_out: list[str]) -> Iterator[str]:
    """Texts to train on.

    Every `held_out`th goes into the list instead, unless there are files to measure on.
    """
    from ..tokenization import read_texts

    for number, text in enumerate(read_texts(arguments.files, arguments.field), start=1):
        if (
            not arguments.held_out_files
            and number % arguments.held_out == 0
            and len(held_out) < MEASURED
        ):
            held_out.append(text)
        else:
            yield text


def make_parser() -> CommandParser:
    """The options of `bertlite tokenizer train`."""
    parser = CommandParser(
        prog="bertlite tokenizer", description="Train a tokenizer on your own texts."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser(
        "train",
        help="train, measure and save one",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    add = train.add_argument
    add("type", choices=sorted(VOCAB_SIZES), help="which kind, see above")
    add(
        "files",
        nargs="+",
        help="plain text (one a line), or JSON lines, CSV, TSV, Parquet with --field; also .gz",
    )
    add("--output-dir", required=True, metavar="FOLDER", help="where it is saved; new or empty")
    add(
        "--field",
        action="append",
        default=[],
        metavar="NAME",
        help="field that holds texts, may be given again; translation.en is en inside translation",
    )
    _add_number_options(train)
    add("--cased", action="store_true", help="wordpiece: keep case and accents (default: neither)")
    add_accent_options(train)
    add(
        "--held-out-files",
        nargs="+",
        metavar="FILE",
        help="measure on these instead, with the same fields",
    )
    return parser


def _add_number_options(train: argparse.ArgumentParser) -> None:
    numbers: dict[str, tuple[int | None, str]] = {
        "--vocab-size": (None, "tokens at most (default: 30522 for wordpiece, 8000 for bpe)"),
        "--min-frequency": (2, "do not join pairs that are rarer (default: %(default)s)"),
        "--model-max-length": (
            512,
            "tokens of the longest input of your model (default: %(default)s)",
        ),
        "--limit-alphabet": (
            None,
            "wordpiece: characters to keep, the most frequent (default: a quarter of the "
            "vocabulary)",
        ),
        "--held-out": (
            100,
            "measure on every Nth text, which is not trained on (default: %(default)s)",
        ),
    }
    for name, (default, text) in numbers.items():
        train.add_argument(name, type=int, default=default, metavar="N", help=text)


def add_accent_options(parser: Any) -> None:
    """`--strip-accents` and `--keep-accents`, which exclude each other; neither: as case says."""
    accents = parser.add_mutually_exclusive_group()
    texts = {
        "--strip-accents": (True, "take accents away (default: where case goes too, as in BERT)"),
        "--keep-accents": (False, "keep them though text is put in lower case"),
    }
    for name, (value, text) in texts.items():
        accents.add_argument(
            name,
            dest="strip_accents",
            action="store_const",
            const=value,
            default=None,
            help=text,
        )
