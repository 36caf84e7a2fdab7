"""What `bertlite pretrain` refuses before any work, and what it takes where nothing is said."""

import argparse
import importlib.util
from itertools import islice
from typing import Any

from .pretrain_options import FROM_MODEL, SCRATCH

# Whole numbers and their least.
LEAST = {
    "max_steps": 1,
    "tokens_per_batch": 1,
    "batches_per_update": 1,
    "max_predictions": 1,
    "save_steps": 1,
    "eval_steps": 1,
    "logging_steps": 1,
    "held_out_batches": 1,
    "keep_checkpoints": 2,
    "num_workers": 0,
}
SEARCHED = 100_000  # documents at most, to see that there is text to train on and to measure on


def check_numbers(arguments: argparse.Namespace) -> None:
    """Refuse numbers that mean nothing, before anything heavy is imported.

    Raises:
        ValueError: a number out of its range; it names the option.
    """
    for name, lowest in LEAST.items():
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
    if arguments.learning_rate is not None and not arguments.learning_rate > 0:
        raise ValueError(f"--learning-rate must be above 0, got {arguments.learning_rate}")
    _check_lengths(arguments)


def _check_lengths(arguments: argparse.Namespace) -> None:
    lengths = arguments.max_lengths
    most = max(lengths) if arguments.model else 512  # that of a model is checked with it
    if len(lengths) > 2 or not 8 <= min(lengths) <= max(lengths) <= most:
        raise ValueError(f"--max-lengths must be one or two numbers from 8 to 512, got {lengths}")
    if arguments.tokens_per_batch < max(lengths):
        came = f"{arguments.tokens_per_batch} with --max-lengths {max(lengths)}"
        raise ValueError(f"--tokens-per-batch must hold a row, got {came}")
    if not arguments.held_out_inputs and not arguments.held_out_share:
        raise ValueError(
            "--held-out-share must be above 0 where no --held-out-inputs are given, got 0"
        )


def resolve(arguments: argparse.Namespace, earlier: dict[str, Any]) -> None:
    """Give the options that were not given their values.

    Args:
        arguments: of the command line; changed in place.
        earlier: what the run to resume has noted; else nothing.

    Raises:
        ValueError: an option that has no meaning beside `--model` or `--tokenizer`, or a model that
            cannot be gone on from; it names the option.
    """
    named = "--model" if arguments.model else "--tokenizer" if arguments.tokenizer else None
    idle = ["vocab_size", "strip_accents", *(["preset"] if arguments.model else [])]
    given = [name for name in idle if getattr(arguments, name) is not None]
    given += ["cased"] if arguments.cased else []
    if named and given:
        option = {"strip_accents": "strip-accents and --keep-accents"}.get(given[0], given[0])
        raise ValueError(
            f"--{option.replace('_', '-')} must not be given with {named}, which says so itself"
        )
    defaults: dict[str, Any] = SCRATCH
    if arguments.model:
        from ..pretraining.starting import judges_pairs, read_start

        try:
            config = read_start(arguments.model)
        except ValueError as error:
            raise ValueError(f"--{error}") from error
        task = "next_sentence" if judges_pairs(config) else "none"
        defaults = {**FROM_MODEL, "task": task}
    if earlier:
        defaults = {**defaults, "max_steps": earlier["max_steps"]}
    for name, value in defaults.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    # Further updates of a run lengthen its last phase: the first plan of phases stays.
    earlier_steps = earlier.get("max_steps", arguments.max_steps)
    arguments.planned_steps = earlier.get("planned_steps", earlier_steps)
    if arguments.model:
        _check_places(arguments, config)


def _check_places(arguments: argparse.Namespace, config: Any) -> None:
    """The model has places for the rows that are wanted."""
    if max(arguments.max_lengths) > config.max_position_embeddings:
        raise ValueError(
            f"--max-lengths must be at most {config.max_position_embeddings}, the positions of "
            f"--model {arguments.model}, got {max(arguments.max_lengths)}"
        )
    if config.type_vocab_size < 2 and arguments.task != "none":
        raise ValueError(
            f"--task must be none for --model {arguments.model}, which tells no segments apart, "
            f"got {arguments.task}"
        )


def check(arguments: argparse.Namespace) -> None:
    """Refuse what cannot work, before any work.

    Raises:
        ValueError: a size that there is not, inputs that are not there, hold no text or too little;
            it names the option.
    """
    _check_sizes(arguments)
    stream_options(arguments)
    for name in arguments.report_to:
        _check_reporter(name)
    _check_text(arguments)


def _check_sizes(arguments: argparse.Namespace) -> None:
    """Sizes of vocabulary and model that there are."""
    from bertlite.models.presets import PRESETS
    from bertlite.tokenization.wordpiece import BERT_SPECIAL_TOKENS

    least = len(BERT_SPECIAL_TOKENS) + 1
    if arguments.vocab_size is not None and arguments.vocab_size < least:
        raise ValueError(f"--vocab-size must be at least {least}, got {arguments.vocab_size}")
    sizes = sorted(name for name in PRESETS if name.startswith("bert-"))
    if arguments.preset is not None and arguments.preset not in sizes:
        raise ValueError(f"--preset must be one of {', '.join(sizes)}, got {arguments.preset!r}")


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
    early = steps
    if len(lengths) == 2:
        early = arguments.planned_steps - round(arguments.planned_steps * arguments.long_share)
    planned = [(lengths[0], early), (lengths[-1], steps - early)]
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
