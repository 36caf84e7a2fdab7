"""`bertlite convert`: Google's TensorFlow checkpoints to bertlite folders, and back."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from ..conversion.names import HEADS
from .command_parser import CommandParser
from .tokenizer import add_accent_options

DESCRIPTION = """\
Read Google's original TensorFlow BERT (bert_model.ckpt.*, bert_config.json, vocab.txt) and write a
bertlite folder with its tokenizer; or read a bertlite or BERT folder and write such a checkpoint,
with the original names. The direction follows from what SOURCE is. Every variable is accounted
for: one that is unknown, missing or of another shape is an error that names it. An optimizer's
variables (adam_m, adam_v, global_step, ...) are passed over.
TensorFlow is needed for it: pip install "bertlite[tensorflow]"
"""
# TensorFlow's own lines on processors, drivers and rounding, which do not matter where nothing is
# computed.
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0"}
EPILOG = """\
examples:
  bertlite convert uncased_L-12_H-768_A-12 out/bert-base
      Google's release to a bertlite folder
  bertlite convert uncased_L-12_H-768_A-12 out/encoder --head none
      the same without the pretraining heads
  bertlite convert mrpc/model.ckpt-343 out/mrpc \\
      --config uncased_L-12_H-768_A-12/bert_config.json \\
      --vocab uncased_L-12_H-768_A-12/vocab.txt --labels different same
      a classifier that run_classifier.py trained
  bertlite convert ner/model.ckpt-900 out/ner --head token-classification
  bertlite convert out/bert-base out/google
      back: out/google/bert_model.ckpt.*

A classifier's output_weights say neither what they classify nor the labels' names: --head and
--labels do.
Lower case: a vocabulary with capital letters keeps case; one without puts text in lower case,
unless the folder's name says `cased`. The command says which it chose; --cased or --uncased
decides. Accents go where case goes, as in Google's code, unless --keep-accents or --strip-accents
says otherwise.
"""


def main(argv: list[str]) -> int:
    """Convert.

    See `bertlite convert --help`. A ValueError refuses, before anything is written, what does not
    fit.
    """
    arguments = make_parser().read(argv)
    check(arguments)
    from ..conversion.files import is_tensorflow

    reads = is_tensorflow(arguments.source) if arguments.to is None else arguments.to == "bertlite"
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        return to_bertlite(arguments) if reads else to_tensorflow(arguments)
    except ImportError as error:
        raise ValueError(str(error)) from error


def say(text: str) -> None:
    """A line for the user."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def make_parser() -> CommandParser:
    """The options."""
    parser = CommandParser(
        prog="bertlite convert",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    add = parser.add_argument
    add(
        "source",
        metavar="SOURCE",
        help="a checkpoint's folder or prefix; or a bertlite or BERT folder",
    )
    add("output", metavar="OUTPUT", help="the folder to write; new or empty")
    add(
        "--to",
        choices=["bertlite", "tensorflow"],
        help="the direction, where SOURCE holds both kinds of files",
    )
    add(
        "--head",
        choices=list(HEADS),
        help="what the model predicts (default: the head that is there)",
    )
    _add_file_options(parser)
    add(
        "--labels",
        nargs="+",
        metavar="NAME",
        help="names of a classifier's labels, in the order of its rows",
    )
    add(
        "--ignore",
        nargs="+",
        default=[],
        metavar="NAME",
        help="variables to pass over, by name or pattern ('mine/*')",
    )
    return parser


def _add_file_options(parser: argparse.ArgumentParser) -> None:
    """The files beside a checkpoint; and case and accents, which none of them tells."""
    add = parser.add_argument
    add(
        "--config", metavar="FILE", help="bert_config.json (default: the one beside the checkpoint)"
    )
    add("--vocab", metavar="FILE", help="vocab.txt (default: the one beside the checkpoint)")
    case = parser.add_mutually_exclusive_group()
    case.add_argument(
        "--cased", dest="lower", action="store_false", default=None, help="the tokenizer keeps case"
    )
    case.add_argument(
        "--uncased",
        dest="lower",
        action="store_true",
        default=None,
        help="it puts text in lower case",
    )
    add_accent_options(parser)


def check(arguments: argparse.Namespace) -> None:
    """Refuse, with a ValueError, a source that is not there and an output that holds files, before
    any work.
    """
    from ..conversion.files import is_tensorflow

    source, output = Path(arguments.source), Path(arguments.output)
    if not source.exists() and not is_tensorflow(source) and not source.parent.is_dir():
        raise ValueError(
            f"SOURCE must be a folder or a checkpoint's prefix, got {source}, which is not there"
        )
    if (
        source.is_dir()
        and arguments.to is None
        and is_tensorflow(source)
        and (source / "config.json").exists()
    ):
        raise ValueError(
            f"--to must be given: {source} holds a TensorFlow checkpoint and a config.json"
        )
    if output.exists() and not output.is_dir():
        raise ValueError(f"OUTPUT must be a folder, got the file {output}")
    if output.is_dir() and any(output.iterdir()):
        raise ValueError(f"OUTPUT must be new or empty, got {output}, which holds files")


def to_bertlite(arguments: argparse.Namespace) -> int:
    """TensorFlow checkpoint to bertlite folder."""
    from ..conversion.files import find_prefix, read_config
    from ..conversion.reading import describe, load, open_checkpoint
    from ..models.files import whole_folder

    prefix = find_prefix(arguments.source)
    config = Path(arguments.config or prefix.with_name("bert_config.json"))
    vocab = Path(arguments.vocab or prefix.with_name("vocab.txt"))
    fields, unread = read_config(config)
    if unread:
        say(f"{config.name}: not read, as in Google's code: {', '.join(unread)}")
    tokenizer, lines = read_tokenizer(arguments, vocab, fields)
    loaded = load(
        open_checkpoint(prefix),
        arguments.head,
        config=config,
        ignore=arguments.ignore,
        labels=arguments.labels,
    )
    for line in [*describe(loaded.account), *lines]:
        say(line)
    loaded.model.config.pad_token_id = tokenizer.pad_token_id
    output = Path(arguments.output)
    with whole_folder(output) as folder:
        loaded.model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    say(f"{type(loaded.model).__name__} and tokenizer: {output}")
    return 0


def read_tokenizer(arguments: argparse.Namespace, vocab: Path, fields: dict[str, Any]):
    """The tokenizer of a `vocab.txt`, and what was decided about it, a line each."""
    from ..conversion.files import decide_case, make_tokenizer, read_vocabulary

    vocabulary, without = read_vocabulary(vocab, fields["vocab_size"])
    lower, reason = decide_case(vocabulary, vocab.parent, arguments.lower)
    strip = lower if arguments.strip_accents is None else arguments.strip_accents
    lines = [
        f"tokenizer: {'lower case' if lower else 'case kept'}, since {reason}; accents "
        f"{'taken away' if strip else 'kept'}"
    ]
    if without:
        named = ", ".join(map(str, without[:10])) + (", ..." if len(without) > 10 else "")
        lines.append(f"{vocab.name}: blank or repeated lines, whose ids no text has: {named}")
    tokenizer = make_tokenizer(
        vocabulary,
        lower,
        fields["max_position_embeddings"],
        strip_accents=arguments.strip_accents,
    )
    return tokenizer, lines


def to_tensorflow(arguments: argparse.Namespace) -> int:
    """BERT or bertlite folder to TensorFlow checkpoint."""
    from ..conversion.files import CHECKPOINT, is_tensorflow
    from ..conversion.reading import head_of
    from ..conversion.writing import load_folder, save_tensorflow_checkpoint
    from ..inference.loading import tokenizer_from

    source = Path(arguments.source)
    options = {"lower": "cased and --uncased", "strip_accents": "strip-accents and --keep-accents"}
    for name in ("config", "vocab", "lower", "strip_accents", "labels"):
        if getattr(arguments, name) is not None:
            option = options.get(name, name)
            raise ValueError(
                f"--{option} are for reading a TensorFlow checkpoint, and {source} is none"
            )
    if not (source / "config.json").is_file():
        kind = "a TensorFlow checkpoint without config.json" if is_tensorflow(source) else "neither"
        raise ValueError(
            f"SOURCE must be a checkpoint's folder or prefix, or a BERT folder, got {kind}: "
            f"{source}"
        )
    model = load_folder(source, arguments.head, arguments.ignore)
    tokenizer = None
    if any((source / name).is_file() for name in ("vocab.txt", "tokenizer.json")):
        tokenizer = tokenizer_from("convert", str(source), keep=False)
    prefix = save_tensorflow_checkpoint(
        model, Path(arguments.output, CHECKPOINT), tokenizer=tokenizer
    )
    if tokenizer is None:
        say(f"no vocab.txt was written: {source} has no tokenizer")
    else:
        say_case(tokenizer)
    if "pooler" not in HEADS[head_of(type(model))][1]:
        say(
            "no pooler was written: this head has none, and Google's, which starts it anew, does "
            "not read it"
        )
    say(f"{type(model).__name__}: {prefix}.index, .meta and .data, with bert_config.json")
    return 0


def say_case(tokenizer) -> None:
    """What Google's code must be told of a tokenizer, and what it cannot be told."""
    lower = getattr(tokenizer, "do_lower_case", None)
    if lower is None:
        return
    say(f"tokenizer: Google's code needs --do_lower_case={bool(lower)}")
    strip = getattr(tokenizer, "strip_accents", None)
    if strip not in (None, bool(lower)):
        say(
            "tokenizer: Google's code takes accents away where, and only where, it puts text in "
            f"lower case; this tokenizer {'takes them away' if strip else 'keeps them'}, and "
            "splits such words otherwise"
        )
