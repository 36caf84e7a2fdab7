"""`bertlite pretrain`: from raw text to a BERT that fine-tunes."""

import argparse
import json
import logging
import os
from itertools import islice
from pathlib import Path
from typing import Any

from .pretrain_checks import check, check_numbers, resolve, stream_options
from .pretrain_folder import (
    find_checkpoint,
    is_finished,
    is_main_process,
    prepare_output,
    read_run,
)
from .pretrain_options import make_parser
from .pretrain_text import get_stores, get_tokenizer, load_given_tokenizer, report_text

logger = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    """Run `bertlite pretrain`; see its `--help`. A ValueError refuses bad input before any work."""
    arguments = make_parser().read(argv)
    check_numbers(arguments)
    earlier = read_run(arguments) if arguments.resume else {}
    resolve(arguments, earlier)
    check(arguments)
    given = load_given_tokenizer(arguments)
    logging.basicConfig(
        level=logging.INFO if is_main_process() else logging.WARNING, format="%(message)s"
    )
    state = get_state(arguments)
    started = load_model(arguments) if arguments.model else None
    output = prepare_output(arguments, earlier)
    with state.main_process_first():  # one process makes what the others then find there
        checkpoint = find_checkpoint(output) if arguments.resume else None
        if is_finished(output, checkpoint, arguments.max_steps):
            logger.info(
                "The run in %s is finished, with %d updates: nothing was done. A larger "
                "--max-steps trains it further",
                output,
                arguments.max_steps,
            )
            return 0
        tokenizer = given or get_tokenizer(arguments, output)
        stores = get_stores(arguments, tokenizer, output)
    text = report_text(arguments, tokenizer, stores, output)
    trainer = make_trainer(arguments, started, tokenizer, stores, output, state, checkpoint)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    figures = trainer.evaluate()
    trainer.save_model(str(output))
    if state.is_main_process:
        write_results(arguments, trainer, {**figures, "text": text}, output)
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


def make_trainer(
    arguments: argparse.Namespace,
    started,
    tokenizer,
    stores: dict[str, Any],
    output: Path,
    state,
    checkpoint: Path | None,
):
    """The trainer of `started` or random weights; its stream at the batch after `checkpoint`."""
    from dataclasses import replace
    from functools import partial

    from transformers import set_seed

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
    return PretrainingTrainer(
        started or random_model(arguments, tokenizer),
        training_arguments(arguments, output, options.batches_per_update // state.num_processes),
        stream=stream,
        held_out=held_out,
        num_workers=arguments.num_workers,
        processing_class=tokenizer,
        make_optimizer=partial(bert_optimizer, learning_rate=arguments.learning_rate),
        callbacks=[ProcessorTime()],
    )


def load_model(arguments: argparse.Namespace):
    """That of `--model`, with both pretraining heads; what is random or left out is said."""
    from transformers import set_seed

    from ..pretraining.starting import load_start

    set_seed(arguments.seed)  # of the heads that it lacks
    try:
        model, new, left = load_start(arguments.model)
    except ValueError as error:
        raise ValueError(f"--{error}") from error
    logger.info("Going on from %s", arguments.model)
    for kind, names in (("random, since it has none", new), ("left out", left)):
        if names:
            logger.info("%s: %s", kind, ", ".join(names))
    return model


def random_model(arguments: argparse.Namespace, tokenizer):
    """A model of the size of `--preset`, with both pretraining heads."""
    from bertlite.models.modeling_bertlite import BertLiteForPreTraining
    from bertlite.models.presets import preset

    from ..tokenization import vocabulary_size

    config: Any = preset(
        arguments.preset,
        vocab_size=vocabulary_size(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
    )
    return BertLiteForPreTraining(config)


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


def write_results(
    arguments: argparse.Namespace, trainer, figures: dict[str, Any], output: Path
) -> None:
    """Figures, log, card and curves; without matplotlib a line says that there are no curves."""
    from ..hub.card import hardware, versions
    from ..hub.pretraining_card import write_pretraining_card
    from ..hub.probe import keep_probe
    from ..pretraining.curves import draw_curves
    from .pretrain_folder import write_json

    history = trainer.state.log_history
    (output / "log.json").write_text(json.dumps(history, indent=1) + "\n")
    figures = {
        **figures,
        "steps": trainer.state.global_step,
        "tokens_seen": trainer.state.num_input_tokens_seen,
        "run": {
            "hardware": hardware(trainer.args.device, trainer.args.world_size),
            "versions": versions(),
        },
    }
    run = vars(arguments)
    if (output / "config.json").is_file():
        keep_probe(output, trainer.accelerator.unwrap_model(trainer.model))
    write_pretraining_card(output, trainer.model.config, trainer.processing_class, figures, run)
    try:
        draw_curves(history, output / "curves.png")
    except ValueError as error:
        logger.warning("No curves: %s", error)
    write_json(output / "metrics.json", figures)  # last: with it the run is finished
    logger.info("Written to %s: %s", output, json.dumps(figures))
