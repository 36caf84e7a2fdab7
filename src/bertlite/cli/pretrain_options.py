"""What `bertlite pretrain` may be told."""

from .command_parser import CommandParser
from .tokenizer import add_accent_options

DESCRIPTION = """\
Pretrain a BERT on your own text: masked words and next sentences, as in the paper, at any size; or
go on from a trained one (--model), so that it knows the language of your field before you
fine-tune it.

Text is written as token ids beside the model, so it may be larger than memory. Some documents are
held out (--held-out-share) and measured along the way. Stop it when you like: the same command
with --resume goes on from the last whole checkpoint and comes out at the same weights.
"""
EPILOG = """\
what may be read:
  texts.txt, folder/, "texts/*.txt.gz"   documents with blank lines between them
  rows.jsonl.gz, rows.csv, rows.parquet  a document a row, in the field --field
  hub:NAME or hub:NAME:CONFIG            the train split of a data set of the hub, streamed
  --lines sentence                       each line is a sentence; without it, lines are
                                         paragraphs and are split

examples:
  bertlite pretrain texts/ --output-dir out/my-bert
      a mini BERT, its tokenizer trained too
  bertlite pretrain texts/ --output-dir out/my-bert --resume
      go on after a stop; with a larger --max-steps, also after the end
  bertlite pretrain rows.jsonl.gz --preset bert-tiny --max-steps 200 --output-dir out/quick
      a first look
  bertlite pretrain texts/ --model google-bert/bert-base-uncased --max-steps 2000 \\
      --output-dir out/my-field
      a trained BERT goes on with your text
  bertlite pretrain hub:wikipedia:20220301.en --tokenizer google-bert/bert-base-uncased \\
      --preset bert-base --max-lengths 128 512 --tokens-per-batch 131072 --max-steps 1000000 \\
      --bf16 --output-dir out/base
  torchrun --standalone --nproc-per-node 8 -m bertlite.cli.main pretrain texts/ \\
      --batches-per-update 8 --output-dir out/big

The output folder holds the model and tokenizer (load them with BertLiteForMaskedLM.from_pretrained,
or fine-tune with any BertLiteFor... class), a model card, curves.png, metrics.json, log.json,
checkpoint-N folders and the tokens.
"""
# What an option is where it is not given: from random weights, and from --model.
SCRATCH = {
    "preset": "bert-mini",
    "vocab_size": 30_522,
    "task": "next_sentence",
    "learning_rate": 1e-4,
    "max_steps": 10_000,
}
FROM_MODEL = {**SCRATCH, "preset": None, "vocab_size": None, "learning_rate": 5e-5}
# Whole numbers of the training: what they are where nothing is said, and the help.
COUNTS: dict[str, tuple[int | None, str]] = {
    "--max-steps": (None, "updates in all (default: 10000; with --resume, as before)"),
    "--tokens-per-batch": (4096, "real tokens a batch (default: %(default)s)"),
    "--batches-per-update": (
        1,
        "batches of one update, over all processes; more are accumulated (default: 1)",
    ),
    "--save-steps": (500, "updates between checkpoints (default: %(default)s)"),
    "--eval-steps": (500, "updates between measurements (default: %(default)s)"),
    "--logging-steps": (50, "updates between log lines (default: %(default)s)"),
    "--keep-checkpoints": (2, "the last N, at least 2 (default: 2)"),
    "--num-workers": (0, "that make batches beside the training (default: 0)"),
    "--seed": (0, "of weights, dropout, rows and masks (default: %(default)s)"),
}


def make_parser() -> CommandParser:
    """The options of `bertlite pretrain`."""
    parser = CommandParser(
        prog="bertlite pretrain",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    parser.add_argument("inputs", nargs="+", help="files, folders, patterns or hub:NAME; see below")
    parser.add_argument(
        "--output-dir", required=True, metavar="FOLDER", help="where everything is written"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in the output folder"
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="folder or hub name of a BERT to go on from, with its tokenizer (default: random "
        "weights)",
    )
    _add_text_options(parser.add_argument_group("text"))
    _add_tokenizer_options(parser.add_argument_group("tokenizer"))
    _add_task_options(parser.add_argument_group("rows and masks"))
    _add_training_options(parser.add_argument_group("training"))
    return parser


def _add_text_options(group) -> None:
    add = group.add_argument
    add(
        "--field",
        default="text",
        help="field of the text in JSON, CSV, Parquet and hub rows (default: %(default)s)",
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


def _add_tokenizer_options(group) -> None:
    add = group.add_argument
    add(
        "--tokenizer",
        help="folder or hub name of a tokenizer (default: that of --model, or WordPiece is trained "
        "on the same text)",
    )
    add("--vocab-size", type=int, help="of the tokenizer to train (default: 30522)")
    add("--cased", action="store_true", help="the tokenizer to train keeps capitals and accents")
    add_accent_options(group)


def _add_task_options(group) -> None:
    add = group.add_argument
    add(
        "--task",
        choices=("next_sentence", "sentence_order", "none"),
        help="beside masked words: BERT's pairs, ALBERT's, or full sentences without pairs "
        "(default: next_sentence; none for a --model without a next-sentence head)",
    )
    add(
        "--max-lengths",
        type=int,
        nargs="+",
        default=[128],
        metavar="N",
        help="tokens of a row; two numbers, as 128 512, are BERT's two phases (default: 128)",
    )
    shares = {
        "--long-share": (0.1, "of the updates, with the second length (default: 0.1)"),
        "--short-probability": (0.1, "of documents with shorter rows (default: 0.1)"),
        "--mask-probability": (0.15, "share of tokens to predict (default: 0.15)"),
    }
    for name, (default, text) in shares.items():
        add(name, type=float, default=default, help=text)
    add(
        "--max-predictions",
        type=int,
        metavar="N",
        help="at most so many a row (default: no limit but the share)",
    )
    add("--whole-words", action="store_true", help="mask whole words instead of pieces")


def _add_training_options(group) -> None:
    add = group.add_argument
    add(
        "--preset",
        metavar="NAME",
        help="size of the model, bert-tiny to bert-large (default: bert-mini)",
    )
    add(
        "--learning-rate",
        type=float,
        help="AdamW's at its peak (default: 1e-4, the paper's; 5e-5 with --model)",
    )
    add(
        "--warmup",
        type=float,
        default=0.01,
        help="share of the updates in which it rises (default: 0.01)",
    )
    for name, (default, text) in COUNTS.items():
        add(name, type=int, default=default, metavar="N", help=text)
    add("--bf16", action="store_true", help="mixed precision")
    add(
        "--report-to",
        nargs="+",
        default=[],
        metavar="NAME",
        help="tensorboard, trackio, ... if installed",
    )
    add("--cpu", action="store_true", help="leave an accelerator alone")
