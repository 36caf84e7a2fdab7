"""`bertlite pretrain`: from raw text to a BERT that fine-tunes."""

import argparse
import json
import logging
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from bertlite.presets import PRESETS

logger = logging.getLogger(__name__)
RUN_FILE = "pretraining.json"
MEASURED_SENTENCES = 20_000  # of the held-out text, to report on a tokenizer
# What must stay as it was for a resumed run to be the same run; the rest, such as workers, may change.
FIXED: tuple[str, ...] = ("inputs", "held_out_inputs", "field", "lines", "held_out_share", "held_out_batches")
FIXED += ("tokenizer", "vocab_size")
FIXED += ("cased", "preset", "task", "short_probability", "whole_words", "mask_probability", "max_predictions")
FIXED += ("max_lengths", "long_share", "tokens_per_batch", "max_steps", "learning_rate", "warmup", "seed", "bf16")
DESCRIPTION = """Pretrain a BERT on your own text: masked words and next sentences, as in the paper, at any size.

Text is read once and written as token ids beside the model, so it may be larger than memory. Some documents are held
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


def main(argv: list[str]) -> int:
    """Run `bertlite pretrain`; see its `--help`. A ValueError refuses bad input before any work."""
    arguments = make_parser().parse_args(argv)
    check(arguments)
    logging.basicConfig(level=logging.INFO if is_main_process() else logging.WARNING, format="%(message)s")
    output = prepare_output(arguments)
    from accelerate import PartialState

    state = PartialState(cpu=arguments.cpu)
    with state.main_process_first():  # one process makes tokenizer and tokens, the others find them there
        tokenizer = get_tokenizer(arguments, output)
        stores = get_stores(arguments, tokenizer, output)
    trainer, checkpoint = make_trainer(arguments, tokenizer, stores, output, state)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    figures = trainer.evaluate()
    trainer.save_model(str(output))
    if state.is_main_process:
        write_results(trainer, figures, output)
    state.wait_for_everyone()
    return 0


def is_main_process() -> bool:
    """By what torchrun and accelerate tell a process."""
    return os.environ.get("RANK", "0") == "0"


def make_parser() -> argparse.ArgumentParser:
    """The options of `bertlite pretrain`."""
    parser = argparse.ArgumentParser(
        prog="bertlite pretrain", description=DESCRIPTION, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("inputs", nargs="+", help="files, folders, patterns or hub:NAME; see below")
    parser.add_argument("--output-dir", required=True, metavar="FOLDER", help="where everything is written")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the output folder")
    _add_text_options(parser.add_argument_group("text"))
    _add_task_options(parser.add_argument_group("rows and masks"))
    _add_training_options(parser.add_argument_group("training"))
    return parser


def _add_text_options(group) -> None:
    add = group.add_argument
    add("--field", default="text", help="field of the text in JSON, Parquet and hub rows (default: %(default)s)")
    add("--lines", choices=("paragraph", "sentence"), default="paragraph", help="what a line is (default: %(default)s)")
    add("--held-out-inputs", nargs="+", metavar="INPUT", help="text to measure on, instead of a share of the inputs")
    add("--held-out-share", type=float, default=0.01, help="of the documents, chosen by their text (default: 0.01)")
    add("--held-out-batches", type=int, default=20, metavar="N", help="measured each time (default: %(default)s)")
    add("--tokenizer", help="folder or hub name of a tokenizer (default: WordPiece is trained on the same text)")
    add("--vocab-size", type=int, default=30522, help="of the tokenizer to train (default: %(default)s)")
    add("--cased", action="store_true", help="the tokenizer to train keeps capitals and accents")


def _add_task_options(group) -> None:
    add = group.add_argument
    add("--task", choices=("next_sentence", "sentence_order", "none"), default="next_sentence",
        help="beside masked words: BERT's pairs, ALBERT's, or full sentences (default: %(default)s)")  # fmt: skip
    add("--max-lengths", type=int, nargs="+", default=[128], metavar="N",
        help="tokens of a row; two numbers, as 128 512, are BERT's two phases (default: 128)")  # fmt: skip
    add("--long-share", type=float, default=0.1, help="of the updates, with the second length (default: 0.1)")
    add("--short-probability", type=float, default=0.1, help="of documents with shorter rows (default: 0.1)")
    add("--mask-probability", type=float, default=0.15, help="share of tokens to predict (default: 0.15)")
    add("--max-predictions", type=int, metavar="N", help="at most so many a row (default: no limit but the share)")
    add("--whole-words", action="store_true", help="mask whole words instead of pieces")


def _add_training_options(group) -> None:
    add = group.add_argument
    sizes = sorted(name for name in PRESETS if name.startswith("bert-"))
    add("--preset", choices=sizes, default="bert-mini", help="size of the model (default: %(default)s)")
    add("--max-steps", type=int, default=10000, metavar="N", help="updates in all (default: %(default)s)")
    add("--tokens-per-batch", type=int, default=4096, metavar="N", help="real tokens a batch (default: %(default)s)")
    add("--batches-per-update", type=int, default=1, metavar="N",
        help="batches of one update, over all processes; more are accumulated (default: 1)")  # fmt: skip
    add("--learning-rate", type=float, default=1e-4, help="AdamW's at its peak (default: 1e-4, the paper's)")
    add("--warmup", type=float, default=0.01, help="share of the updates in which it rises (default: 0.01)")
    add("--bf16", action="store_true", help="mixed precision")
    add("--save-steps", type=int, default=500, metavar="N", help="updates between checkpoints (default: %(default)s)")
    add("--eval-steps", type=int, default=500, metavar="N", help="updates between measurements (default: %(default)s)")
    add("--logging-steps", type=int, default=50, metavar="N", help="updates between log lines (default: %(default)s)")
    add("--keep-checkpoints", type=int, default=2, metavar="N", help="the last N, at least 2 (default: 2)")
    add("--num-workers", type=int, default=0, metavar="N", help="that make batches beside the training (default: 0)")
    add("--report-to", nargs="+", default=[], metavar="NAME", help="tensorboard, trackio, ... if installed")
    add("--seed", type=int, default=0, help="of weights, dropout, rows and masks (default: %(default)s)")
    add("--cpu", action="store_true", help="leave an accelerator alone")


def check(arguments: argparse.Namespace) -> None:
    """Refuse what cannot work, before any work.

    Raises:
        ValueError: a number out of its range, inputs that are not there, lengths that the model has no positions for.
    """
    from .documents import find_inputs

    least: dict[str, float] = dict.fromkeys(("max_steps", "tokens_per_batch", "batches_per_update", "save_steps"), 1)
    least |= {"eval_steps": 1, "logging_steps": 1, "held_out_batches": 1, "keep_checkpoints": 2, "num_workers": 0}
    for name, lowest in least.items():
        if getattr(arguments, name) < lowest:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {lowest}, got {getattr(arguments, name)}")
    for name in ("held_out_share", "long_share", "warmup"):
        if not 0 <= getattr(arguments, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must lie in [0, 1), got {getattr(arguments, name)}")
    if not arguments.learning_rate > 0:
        raise ValueError(f"--learning-rate must be above 0, got {arguments.learning_rate}")
    if len(arguments.max_lengths) > 2 or max(arguments.max_lengths) > 512:
        raise ValueError(f"--max-lengths must be one or two numbers up to 512, got {arguments.max_lengths}")
    if not arguments.held_out_inputs and not arguments.held_out_share:
        raise ValueError("--held-out-share must be above 0 where no --held-out-inputs are given, got 0")
    for inputs in (arguments.inputs, arguments.held_out_inputs or []):
        find_inputs(inputs)
    stream_options(arguments)
    for name in arguments.report_to:
        _check_reporter(name)


def _check_reporter(name: str) -> None:
    import importlib.util

    module = {"tensorboard": "tensorboard", "trackio": "trackio"}.get(name, name)
    if importlib.util.find_spec(module) is None:
        raise ValueError(f"--report-to {name} needs the package {module}; install it with: pip install {module}")


def stream_options(arguments: argparse.Namespace):
    """The `StreamOptions` that the command line asks for; their ValueErrors name what does not fit."""
    from .batch_stream import Phase, StreamOptions
    from .sentence_pairs import PairOptions
    from .token_masking import MaskingOptions

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
            probability=arguments.mask_probability, max_predictions=arguments.max_predictions,
            whole_words=arguments.whole_words,
        ),
    )  # fmt: skip


def prepare_output(arguments: argparse.Namespace) -> Path:
    """Make the output folder, or find in it the run to resume.

    Raises:
        ValueError: it holds something and `--resume` is not given; or the options are not those of its run.
    """
    output = Path(arguments.output_dir)
    chosen = {name: getattr(arguments, name) for name in FIXED} | {"batches_per_update": arguments.batches_per_update}
    note = output / RUN_FILE
    if note.exists() and arguments.resume:
        earlier = json.loads(note.read_text())
        for name, value in chosen.items():
            if earlier.get(name) != value:
                option = f"--{name.replace('_', '-')}"
                raise ValueError(f"--resume: {option} must be {earlier.get(name)!r}, as before, got {value!r}")
    elif arguments.resume:
        raise ValueError(f"--resume: --output-dir must hold a run to go on with, got {output} without {RUN_FILE}")
    elif output.exists() and (output.is_file() or any(output.iterdir())) and is_main_process():
        raise ValueError(f"--output-dir must be new or empty, got {output}; give --resume to go on with a run there")
    if is_main_process():
        output.mkdir(parents=True, exist_ok=True)
        part = note.with_suffix(".part")
        part.write_text(json.dumps(chosen, indent=2) + "\n")
        os.replace(part, note)
    return output


def documents_of(arguments: argparse.Namespace, held_out: bool) -> Iterator[list[str]]:
    """Documents to train on, or those that are held out."""
    from .documents import read_documents
    from .token_store import is_held_out

    options = {"field": arguments.field, "lines": arguments.lines}
    if arguments.held_out_inputs:
        return read_documents(arguments.held_out_inputs if held_out else arguments.inputs, **options)
    documents = read_documents(arguments.inputs, **options)
    return (each for each in documents if is_held_out(each, arguments.held_out_share) == held_out)


def get_tokenizer(arguments: argparse.Namespace, output: Path):
    """The tokenizer that was named, or that the run has; or one trained on the training text, and measured."""
    from transformers import AutoTokenizer

    from bertlite.tokenizer_training import measure, train_wordpiece

    if arguments.tokenizer or (output / "tokenizer.json").exists():
        return AutoTokenizer.from_pretrained(arguments.tokenizer or output)
    logger.info("Training a WordPiece tokenizer on the training text")
    texts = (sentence for document in documents_of(arguments, False) for sentence in document)
    lowercase = not arguments.cased
    tokenizer = train_wordpiece(texts, vocab_size=arguments.vocab_size, lowercase=lowercase, show_progress=True)
    held_out = (sentence for document in documents_of(arguments, True) for sentence in document)
    report = measure(tokenizer, islice(held_out, MEASURED_SENTENCES))
    logger.info("On the held-out text: %s", report)
    (output / "tokenizer_report.txt").write_text(f"{report}\n")
    tokenizer.save_pretrained(output)
    return tokenizer


def get_stores(arguments: argparse.Namespace, tokenizer, output: Path) -> dict[str, Any]:
    """The token stores of both kinds of text, written where they are not there yet."""
    from .token_store import DESCRIPTION as STORE
    from .token_store import TokenStore, write_token_store

    stores = {}
    for name, held_out in (("train", False), ("held_out", True)):
        folder = output / "tokens" / name
        if (folder / STORE).exists():
            stores[name] = TokenStore(folder)
        else:
            documents = documents_of(arguments, held_out)
            stores[name] = write_token_store(documents, tokenizer, folder, description=f"tokenizing {name}")
        found = stores[name].description
        unknown = f"{found['unknown'] / found['tokens']:.4%} unknown"
        counts = "{documents:,} documents, {sentences:,} sentences, {tokens:,} tokens".format(**found)
        logger.info("%s: %s, %s", name, counts, unknown)
    return stores


def make_trainer(arguments: argparse.Namespace, tokenizer, stores: dict[str, Any], output: Path, state):
    """The trainer, and the checkpoint to resume from, or None."""
    from dataclasses import replace

    from transformers import set_seed

    from bertlite.models.modeling_bertlite import BertLiteForPreTraining
    from bertlite.presets import preset
    from bertlite.recipes import bert_optimizer

    from .batch_stream import BatchStream, Phase
    from .training import PretrainingTrainer, ProcessorTime, last_complete_checkpoint, step_of

    options = stream_options(arguments)
    if options.batches_per_update % state.num_processes:
        came = f"{options.batches_per_update} with {state.num_processes} processes"
        raise ValueError(f"--batches-per-update must be a multiple of the number of processes, got {came}")
    checkpoint = last_complete_checkpoint(output) if arguments.resume else None
    start = 0 if checkpoint is None else step_of(checkpoint) * options.batches_per_update
    place = {"process_index": state.process_index, "num_processes": state.num_processes}
    stream = BatchStream(stores["train"], tokenizer, options, start=start, **place)
    # Never the seed of the training rows; and the length that the model is at last trained with.
    phase = Phase(options.phases[-1].max_length, arguments.held_out_batches)
    measured = replace(options, phases=(phase,), batches_per_update=1, seed=options.seed + 1)
    held_out = list(islice(BatchStream(stores["held_out"], tokenizer, measured), arguments.held_out_batches))
    set_seed(arguments.seed)
    config = preset(arguments.preset, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    model = BertLiteForPreTraining(config)  # type: ignore[arg-type]
    if not arguments.cpu:
        model = model.to(state.device)  # before its optimizer is made, so that it can be fused
    trainer = PretrainingTrainer(
        model, training_arguments(arguments, output, options.batches_per_update // state.num_processes),
        stream=stream, held_out=held_out, num_workers=arguments.num_workers, processing_class=tokenizer,
        optimizers=(bert_optimizer(model, learning_rate=arguments.learning_rate), None), callbacks=[ProcessorTime()],
    )  # fmt: skip
    return trainer, checkpoint


def training_arguments(arguments: argparse.Namespace, output: Path, accumulated: int):
    """The paper's: linear warm-up and decay, gradients clipped at 1."""
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=str(output),
        max_steps=arguments.max_steps,
        per_device_train_batch_size=1,  # of whole batches
        gradient_accumulation_steps=accumulated,
        learning_rate=arguments.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=max(1, round(arguments.warmup * arguments.max_steps)),
        max_grad_norm=1.0,
        bf16=arguments.bf16,
        eval_strategy="steps",
        eval_steps=arguments.eval_steps,
        save_strategy="steps",
        save_steps=arguments.save_steps,
        save_total_limit=arguments.keep_checkpoints,
        logging_steps=arguments.logging_steps,
        include_num_input_tokens_seen="non_padding",
        ignore_data_skip=True,  # the stream itself begins at the right batch
        report_to=arguments.report_to,
        seed=arguments.seed,
        use_cpu=arguments.cpu,
        dataloader_pin_memory=not arguments.cpu,
        ddp_find_unused_parameters=arguments.task == "none",  # the pooler then has no loss
    )


def write_results(trainer, figures: dict[str, float], output: Path) -> None:
    """Figures, log and curves; without matplotlib a line says that there are none."""
    from .curves import draw_curves

    history = trainer.state.log_history
    (output / "log.json").write_text(json.dumps(history, indent=1) + "\n")
    figures = {**figures, "steps": trainer.state.global_step, "tokens_seen": trainer.state.num_input_tokens_seen}
    (output / "metrics.json").write_text(json.dumps(figures, indent=2) + "\n")
    try:
        draw_curves(history, output / "curves.png")
    except ValueError as error:
        logger.warning("No curves: %s", error)
    logger.info("Written to %s: %s", output, json.dumps(figures))
