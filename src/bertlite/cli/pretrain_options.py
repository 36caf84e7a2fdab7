"""What `bertlite pretrain` may be told, and what it refuses before any work."""

import argparse
import importlib.util
from itertools import islice

from bertlite.models.presets import PRESETS

SEARCHED = 100_000  # documents at most, to see that there is text to train on and to measure on
DESCRIPTION = """Pretrain a BERT on your own text: masked words and next sentences, as in the paper, at any size.

Text is written as token ids beside the model, so it may be larger than memory. Some documents are held
out (--held-out-share) and measured along the way. Stop it when you like: the same command with --resume goes on from
the last whole checkpoint and comes out at the same weights.
"""
EPILOG = """what may be read:
  texts.txt, folder/, "texts/*.txt.gz"   documents with blank lines between them
  rows.jsonl.gz, rows.parquet            a document a row, in the field --field
  hub:NAME or hub:NAME:CONFIG            the train split of a data set of the hub, streamed
  --lines sentence                       each line is a sentence; without it, lines are paragraphs and are split

examples:
  bertlite pretrain texts/ --output-dir out/my-bert                          a mini BERT, its tokenizer trained too
  bertlite pretrain texts/ --output-dir out/my-bert --resume                 go on after a stop
  bertlite pretrain rows.jsonl.gz --preset bert-tiny --max-steps 200 --output-dir out/quick        a first look
  bertlite pretrain hub:wikipedia:20220301.en --tokenizer google-bert/bert-base-uncased --preset bert-base \\
      --max-lengths 128 512 --tokens-per-batch 131072 --max-steps 1000000 --bf16 --output-dir out/base
  torchrun --standalone --nproc-per-node 8 -m bertlite.cli pretrain texts/ --batches-per-update 8 --output-dir out/big

The output folder holds the model and tokenizer (load them with BertLiteForMaskedLM.from_pretrained, or fine-tune with
any BertLiteFor... class), curves.png, metrics.json, log.json, checkpoint-N folders and the tokens.
"""


def make_parser() -> argparse.ArgumentParser:
    """The options of `bertlite pretrain`."""
    parser = argparse.ArgumentParser(
        prog="bertlite pretrain",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("inputs", nargs="+", help="files, folders, patterns or hub:NAME; see below")
    parser.add_argument(
        "--output-dir", required=True, metavar="FOLDER", help="where everything is written"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in the output folder"
    )
    _add_text_options(parser.add_argument_group("text"))
    _add_task_options(parser.add_argument_group("rows and masks"))
    _add_training_options(parser.add_argument_group("training"))
    return parser


def _add_text_options(group) -> None:
    add = group.add_argument
    add(
        "--field",
        default="text",
        help="field of the text in JSON, Parquet and hub rows (default: %(default)s)",
    )
    add(
        "--lines",
        choices=("paragraph", "sentence"),
        default="paragraph",
        help="what a line is (default: %(default)s)",
    )
    add(
        "--held-out-inputs",
        nargs="+",
        metavar="INPUT",
        help="text to measure on, instead of a share of the inputs",
    )
    add(
        "--held-out-share",
        type=float,
        default=0.01,
        help="of the documents, chosen by their text (default: 0.01)",
    )
    add(
        "--held-out-batches",
        type=int,
        default=20,
        metavar="N",
        help="measured each time (default: %(default)s)",
    )
    add(
        "--tokenizer",
        help="folder or hub name of a tokenizer (default: WordPiece is trained on the same text)",
    )
    add(
        "--vocab-size",
        type=int,
        default=30522,
        help="of the tokenizer to train (default: %(default)s)",
    )
    add("--cased", action="store_true", help="the tokenizer to train keeps capitals and accents")


def _add_task_options(group) -> None:
    add = group.add_argument
    add(
        "--task",
        choices=("next_sentence", "sentence_order", "none"),
        default="next_sentence",
        help="beside masked words: BERT's pairs, "
        "ALBERT's, or full sentences (default: %(default)s)",
    )
    add(
        "--max-lengths",
        type=int,
        nargs="+",
        default=[128],
        metavar="N",
        help="tokens of a row; two numbers, as 128 512, are BERT's two phases (default: 128)",
    )
    add(
        "--long-share",
        type=float,
        default=0.1,
        help="of the updates, with the second length (default: 0.1)",
    )
    add(
        "--short-probability",
        type=float,
        default=0.1,
        help="of documents with shorter rows (default: 0.1)",
    )
    add(
        "--mask-probability",
        type=float,
        default=0.15,
        help="share of tokens to predict (default: 0.15)",
    )
    add(
        "--max-predictions",
        type=int,
        metavar="N",
        help="at most so many a row (default: no limit but the share)",
    )
    add("--whole-words", action="store_true", help="mask whole words instead of pieces")


def _add_training_options(group) -> None:
    add = group.add_argument
    sizes = sorted(name for name in PRESETS if name.startswith("bert-"))
    add(
        "--preset",
        choices=sizes,
        default="bert-mini",
        help="size of the model (default: %(default)s)",
    )
    add(
        "--max-steps",
        type=int,
        default=10000,
        metavar="N",
        help="updates in all (default: %(default)s)",
    )
    add(
        "--tokens-per-batch",
        type=int,
        default=4096,
        metavar="N",
        help="real tokens a batch (default: %(default)s)",
    )
    add(
        "--batches-per-update",
        type=int,
        default=1,
        metavar="N",
        help="batches of one update, over all processes; more are accumulated (default: 1)",
    )
    add(
        "--learning-rate",
        type=float,
        default=1e-4,
        help="AdamW's at its peak (default: 1e-4, the paper's)",
    )
    add(
        "--warmup",
        type=float,
        default=0.01,
        help="share of the updates in which it rises (default: 0.01)",
    )
    add("--bf16", action="store_true", help="mixed precision")
    add(
        "--save-steps",
        type=int,
        default=500,
        metavar="N",
        help="updates between checkpoints (default: %(default)s)",
    )
    add(
        "--eval-steps",
        type=int,
        default=500,
        metavar="N",
        help="updates between measurements (default: %(default)s)",
    )
    add(
        "--logging-steps",
        type=int,
        default=50,
        metavar="N",
        help="updates between log lines (default: %(default)s)",
    )
    add(
        "--keep-checkpoints",
        type=int,
        default=2,
        metavar="N",
        help="the last N, at least 2 (default: 2)",
    )
    add(
        "--num-workers",
        type=int,
        default=0,
        metavar="N",
        help="that make batches beside the training (default: 0)",
    )
    add(
        "--report-to",
        nargs="+",
        default=[],
        metavar="NAME",
        help="tensorboard, trackio, ... if installed",
    )
    add(
        "--seed",
        type=int,
        default=0,
        help="of weights, dropout, rows and masks (default: %(default)s)",
    )
    add("--cpu", action="store_true", help="leave an accelerator alone")


def check(arguments: argparse.Namespace) -> None:
    """Refuse what cannot work, before any work.

    Raises:
        ValueError: a number out of its range, inputs that are not there, hold no text or too
            little, lengths that the model has no positions for; it names the option.
    """
    _check_numbers(arguments)
    lengths = arguments.max_lengths
    if len(lengths) > 2 or not 8 <= min(lengths) <= max(lengths) <= 512:
        raise ValueError(f"--max-lengths must be one or two numbers from 8 to 512, got {lengths}")
    if arguments.tokens_per_batch < max(lengths):
        came = f"{arguments.tokens_per_batch} with --max-lengths {max(lengths)}"
        raise ValueError(f"--tokens-per-batch must hold a row, got {came}")
    if not arguments.held_out_inputs and not arguments.held_out_share:
        raise ValueError(
            "--held-out-share must be above 0 where no --held-out-inputs are given, got 0"
        )
    stream_options(arguments)
    for name in arguments.report_to:
        _check_reporter(name)
    _check_text(arguments)


def _check_numbers(arguments: argparse.Namespace) -> None:
    from bertlite.tokenization.wordpiece import BERT_SPECIAL_TOKENS

    least: dict[str, float] = dict.fromkeys(
        ("max_steps", "tokens_per_batch", "batches_per_update", "save_steps"), 1
    )
    least |= {
        "eval_steps": 1,
        "logging_steps": 1,
        "held_out_batches": 1,
        "keep_checkpoints": 2,
        "num_workers": 0,
    }
    least |= {"vocab_size": len(BERT_SPECIAL_TOKENS) + 1, "max_predictions": 1}
    for name, lowest in least.items():
        value = getattr(arguments, name)
        if value is not None and value < lowest:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {lowest}, got {value}")
    for name in ("held_out_share", "long_share", "warmup"):
        if not 0 <= getattr(arguments, name) < 1:
            raise ValueError(
                f"--{name.replace('_', '-')} must lie in [0, 1), got {getattr(arguments, name)}"
            )
    if not 0 <= arguments.short_probability <= 1:
        raise ValueError(
            f"--short-probability must lie in [0, 1], got {arguments.short_probability}"
        )
    if not 0 < arguments.mask_probability <= 1:
        raise ValueError(
            f"--mask-probability must be above 0 and at most 1, got {arguments.mask_probability}"
        )
    if not arguments.learning_rate > 0:
        raise ValueError(f"--learning-rate must be above 0, got {arguments.learning_rate}")


def _check_reporter(name: str) -> None:
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    if name not in INTEGRATION_TO_CALLBACK:
        raise ValueError(
            f"--report-to must name any of {', '.join(sorted(INTEGRATION_TO_CALLBACK))}, got "
            f"{name!r}"
        )
    modules = {
        "tensorboard": ("tensorboard", "tensorboardX"),
        "azure_ml": ("azureml",),
        "comet_ml": ("comet_ml",),
    }
    if not any(importlib.util.find_spec(module) for module in modules.get(name, (name,))):
        package = modules.get(name, (name,))[0]
        raise ValueError(
            f"--report-to {name} needs the package {package}; install it with: pip install "
            f"{package}"
        )


def _check_text(arguments: argparse.Namespace) -> None:
    """There is text to train on and to measure on. Reads on only until it has seen enough."""
    from ..pretraining.documents import find_inputs, read_documents
    from ..pretraining.token_store import is_held_out

    needed = (
        2 if arguments.task == "next_sentence" else 1
    )  # a random next sentence is another document's
    given = {"inputs": arguments.inputs, "--held-out-inputs": arguments.held_out_inputs}
    for option, inputs in given.items():
        if not inputs:
            continue
        try:
            find_inputs(inputs)
            documents = islice(
                read_documents(inputs, field=arguments.field, lines=arguments.lines), SEARCHED
            )
            found = {False: 0, True: 0}
            share = 0.0 if arguments.held_out_inputs else arguments.held_out_share
            for document in documents:
                found[is_held_out(document, share)] += 1
                if found[False] >= needed and (found[True] >= needed or not share):
                    break
        except ValueError as error:
            raise ValueError(f"{option}: {error}") from error
        _check_counts(option, inputs, found, needed, share)


def _check_counts(
    option: str, inputs: list[str], found: dict[bool, int], needed: int, share: float
) -> None:
    total = sum(found.values())
    if total < needed + (needed if share else 0):
        wanted = f"{needed} to train on" + (f" and {needed} to measure on" if share else "")
        came = f"{total} in {' '.join(inputs)}"
        raise ValueError(
            f"{option} must hold documents, which blank lines divide in text files: {wanted}, got "
            f"{came}"
        )
    if share and found[True] < needed and total < SEARCHED:
        came = f"{found[True]} of {total} with {share}; raise it, or give --held-out-inputs"
        raise ValueError(
            f"--held-out-share must leave at least {needed} documents to measure on, got {came}"
        )
    if found[False] < needed:
        came = f"{found[False]} of {total} with {share}"
        raise ValueError(
            f"--held-out-share must leave at least {needed} documents to train on, got {came}"
        )


def stream_options(arguments: argparse.Namespace):
    """The `StreamOptions` that the command line asks for.

    Their ValueErrors name what does not fit.
    """
    from ..pretraining.batch_stream import Phase, StreamOptions
    from ..pretraining.sentence_pairs import PairOptions
    from ..pretraining.token_masking import MaskingOptions

    lengths, steps = arguments.max_lengths, arguments.max_steps
    late = round(steps * arguments.long_share) if len(lengths) == 2 else 0
    planned = [(lengths[0], steps - late), (lengths[-1], late)]
    return StreamOptions(
        phases=tuple(Phase(length, updates) for length, updates in planned if updates),
        tokens_per_batch=arguments.tokens_per_batch,
        batches_per_update=arguments.batches_per_update,
        seed=arguments.seed,
        pairs=PairOptions(task=arguments.task, short_probability=arguments.short_probability),
        masking=MaskingOptions(
            probability=arguments.mask_probability,
            max_predictions=arguments.max_predictions,
            whole_words=arguments.whole_words,
        ),
    )
