"""`bertlite pretrain`: from raw text to a BERT that fine-tunes."""

import argparse
import json
import logging
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from .pretrain_options import check, make_parser, stream_options

logger = logging.getLogger(__name__)
RUN_FILE = "pretraining.json"
MOST_UNKNOWN = 0.5  # share of the tokens, above which what would be learned is no language
MEASURED_SENTENCES = 20_000  # of the held-out text, to report on a tokenizer
# What must stay as it was for a resumed run to be the same run; the rest, such as workers, may
# change.
FIXED: tuple[str, ...] = (
    "inputs",
    "held_out_inputs",
    "field",
    "lines",
    "held_out_share",
    "held_out_batches",
)
FIXED += ("tokenizer", "vocab_size")
FIXED += (
    "cased",
    "preset",
    "task",
    "short_probability",
    "whole_words",
    "mask_probability",
    "max_predictions",
)
FIXED += (
    "max_lengths",
    "long_share",
    "tokens_per_batch",
    "max_steps",
    "learning_rate",
    "warmup",
    "seed",
    "bf16",
)


def main(argv: list[str]) -> int:
    """Run `bertlite pretrain`; see its `--help`. A ValueError refuses bad input before any work."""
    arguments = make_parser().parse_args(argv)
    check(arguments)
    given = load_tokenizer(arguments.tokenizer) if arguments.tokenizer else None
    logging.basicConfig(
        level=logging.INFO if is_main_process() else logging.WARNING, format="%(message)s"
    )
    state = get_state(arguments)
    output = prepare_output(arguments)
    checkpoint = find_checkpoint(output) if arguments.resume else None
    with (
        state.main_process_first()
    ):  # one process makes tokenizer and tokens, the others find them there
        tokenizer = given or get_tokenizer(arguments, output)
        stores = get_stores(arguments, tokenizer, output)
    trainer = make_trainer(arguments, tokenizer, stores, output, state, checkpoint)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    figures = trainer.evaluate()
    trainer.save_model(str(output))
    if state.is_main_process:
        write_results(trainer, figures, output)
    state.wait_for_everyone()
    return 0


def get_state(arguments: argparse.Namespace):
    """The processes that were launched together. Without an accelerator, `--cpu` need not be given.

    Raises:
        ValueError: processes that would not find each other, or that would not shard though they
            were told to.
    """
    import torch
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    arguments.cpu = arguments.cpu or not torch.accelerator.is_available()
    state = PartialState(cpu=arguments.cpu)
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != state.num_processes:
        came = f"{launched} processes for {state.num_processes} device"
        raise ValueError(
            f"each process must have a device of its own, got {came}; give --cpu to train on "
            "processors"
        )
    if (
        os.environ.get("ACCELERATE_USE_FSDP") == "true"
        and state.distributed_type == DistributedType.MULTI_CPU
    ):
        raise ValueError(
            "FSDP must have accelerators, since accelerate shards on no processor, got --cpu with "
            "FSDP"
        )
    if arguments.batches_per_update % state.num_processes:
        came = f"{arguments.batches_per_update} with {state.num_processes} processes"
        raise ValueError(
            f"--batches-per-update must be a multiple of the number of processes, got {came}"
        )
    return state


def is_main_process() -> bool:
    """By what torchrun and accelerate tell a process."""
    return os.environ.get("RANK", "0") == "0"


def prepare_output(arguments: argparse.Namespace) -> Path:
    """Make the output folder, or find in it the run to resume.

    Raises:
        ValueError: it holds something and `--resume` is not given; or the options are not those of
            its run.
    """
    output = Path(arguments.output_dir)
    chosen = {name: getattr(arguments, name) for name in FIXED} | {
        "batches_per_update": arguments.batches_per_update
    }
    note = output / RUN_FILE
    if note.exists() and arguments.resume:
        try:
            earlier = json.loads(note.read_text())
        except json.JSONDecodeError as error:
            raise ValueError(
                f"--resume: {note} must hold the run's options, got a damaged file ({error})"
            ) from error
        for name, value in chosen.items():
            if earlier.get(name) != value:
                option = f"--{name.replace('_', '-')}"
                raise ValueError(
                    f"--resume: {option} must be {earlier.get(name)!r}, as before, got {value!r}"
                )
    elif arguments.resume:
        raise ValueError(
            f"--resume: --output-dir must hold a run to go on with, got {output} without {RUN_FILE}"
        )
    elif output.exists() and (output.is_file() or any(output.iterdir())) and is_main_process():
        raise ValueError(
            f"--output-dir must be new or empty, got {output}; give --resume to go on with a run "
            "there"
        )
    if is_main_process():
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"--output-dir must be a folder that can be made, got {output} ({error})"
            ) from error
        part = note.with_suffix(".part")
        part.write_text(json.dumps(chosen, indent=2) + "\n")
        os.replace(part, note)
    return output


def find_checkpoint(output: Path) -> Path | None:
    """The one to go on from."""
    from ..pretraining.training import last_complete_checkpoint

    checkpoint = last_complete_checkpoint(output)
    logger.info("Going on from %s", checkpoint or "the beginning: there is no checkpoint yet")
    return checkpoint


def documents_of(arguments: argparse.Namespace, held_out: bool) -> Iterator[list[str]]:
    """Documents to train on, or those that are held out."""
    from ..pretraining.documents import read_documents
    from ..pretraining.token_store import is_held_out

    options = {"field": arguments.field, "lines": arguments.lines}
    if arguments.held_out_inputs:
        return read_documents(
            arguments.held_out_inputs if held_out else arguments.inputs, **options
        )
    documents = read_documents(arguments.inputs, **options)
    return (each for each in documents if is_held_out(each, arguments.held_out_share) == held_out)


def load_tokenizer(name: str):
    """The tokenizer of `--tokenizer`.

    Raises:
        ValueError: there is none, or it lacks a special token.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"--tokenizer must be a folder or hub name of a tokenizer, got {name!r} ({reason})"
        ) from error
    missing = [
        kind
        for kind in ("cls", "sep", "pad", "mask")
        if getattr(tokenizer, f"{kind}_token_id") is None
    ]
    if missing:
        raise ValueError(
            f"--tokenizer must have the tokens cls, sep, pad and mask, got {name!r} without "
            f"{missing}"
        )
    return tokenizer


def get_tokenizer(arguments: argparse.Namespace, output: Path):
    """The tokenizer that the run has; or one trained on the training text, and measured."""
    from bertlite.tokenization import measure, train_wordpiece

    if (output / "tokenizer.json").exists():
        return load_tokenizer(str(output))
    logger.info("Training a WordPiece tokenizer on the training text")
    texts = (sentence for document in documents_of(arguments, False) for sentence in document)
    lowercase = not arguments.cased
    tokenizer = train_wordpiece(
        texts, vocab_size=arguments.vocab_size, lowercase=lowercase, show_progress=True
    )
    held_out = (sentence for document in documents_of(arguments, True) for sentence in document)
    report = measure(tokenizer, islice(held_out, MEASURED_SENTENCES))
    logger.info("On the held-out text: %s", report)
    (output / "tokenizer_report.txt").write_text(f"{report}\n")
    tokenizer.save_pretrained(output)
    return tokenizer


def get_stores(arguments: argparse.Namespace, tokenizer, output: Path) -> dict[str, Any]:
    """The token stores of both kinds of text, written where they are not there yet."""
    from ..pretraining.token_store import DESCRIPTION as STORE
    from ..pretraining.token_store import TokenStore, write_token_store

    stores = {}
    for name, held_out in (("train", False), ("held_out", True)):
        folder = output / "tokens" / name
        if (folder / STORE).exists():
            stores[name] = TokenStore(folder)
        else:
            documents = documents_of(arguments, held_out)
            stores[name] = write_token_store(
                documents, tokenizer, folder, description=f"tokenizing {name}"
            )
        found = stores[name].description
        unknown = f"{found['unknown'] / found['tokens']:.4%} unknown"
        if found["unknown"] > MOST_UNKNOWN * found["tokens"]:
            option = "--tokenizer" if arguments.tokenizer else "--vocab-size"
            raise ValueError(f"{option} must serve the text, got {unknown} of the tokens of {name}")
        counts = "{documents:,} documents, {sentences:,} sentences, {tokens:,} tokens".format(
            **found
        )
        logger.info("%s: %s, %s", name, counts, unknown)
    return stores


def make_trainer(
    arguments: argparse.Namespace,
    tokenizer,
    stores: dict[str, Any],
    output: Path,
    state,
    checkpoint: Path | None,
):
    """The trainer, its stream at the batch after `checkpoint`."""
    from dataclasses import replace
    from functools import partial

    from transformers import set_seed

    from bertlite.models.modeling_bertlite import BertLiteForPreTraining
    from bertlite.models.presets import preset
    from bertlite.training import bert_optimizer

    from ..pretraining.batch_stream import BatchStream, Phase
    from ..pretraining.training import PretrainingTrainer, ProcessorTime, step_of

    options = stream_options(arguments)
    start = 0 if checkpoint is None else step_of(checkpoint) * options.batches_per_update
    place = {"process_index": state.process_index, "num_processes": state.num_processes}
    stream = BatchStream(stores["train"], tokenizer, options, start=start, **place)
    # Never the seed of the training rows; and the length that the model is at last trained with.
    phase = Phase(options.phases[-1].max_length, arguments.held_out_batches)
    measured = replace(options, phases=(phase,), batches_per_update=1, seed=options.seed + 1)
    held_out = list(
        islice(BatchStream(stores["held_out"], tokenizer, measured), arguments.held_out_batches)
    )
    set_seed(arguments.seed)
    config = preset(
        arguments.preset, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id
    )
    model = BertLiteForPreTraining(config)  # type: ignore[arg-type]
    return PretrainingTrainer(
        model,
        training_arguments(arguments, output, options.batches_per_update // state.num_processes),
        stream=stream,
        held_out=held_out,
        num_workers=arguments.num_workers,
        processing_class=tokenizer,
        make_optimizer=partial(bert_optimizer, learning_rate=arguments.learning_rate),
        callbacks=[ProcessorTime()],
    )


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
    from ..pretraining.curves import draw_curves

    history = trainer.state.log_history
    (output / "log.json").write_text(json.dumps(history, indent=1) + "\n")
    figures = {
        **figures,
        "steps": trainer.state.global_step,
        "tokens_seen": trainer.state.num_input_tokens_seen,
    }
    (output / "metrics.json").write_text(json.dumps(figures, indent=2) + "\n")
    try:
        draw_curves(history, output / "curves.png")
    except ValueError as error:
        logger.warning("No curves: %s", error)
    logger.info("Written to %s: %s", output, json.dumps(figures))
