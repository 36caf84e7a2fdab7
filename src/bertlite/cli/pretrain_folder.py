"""The folder of a pretraining run: its note of options, its checkpoints, what a kill has left."""

import argparse
import json
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)
RUN_FILE = "pretraining.json"
# What must stay as it was for a resumed run to be the same run; the rest, such as workers, may
# change.
FIXED: tuple[str, ...] = (
    "inputs",
    "held_out_inputs",
    "field",
    "lines",
    "held_out_share",
    "held_out_batches",
    "model",
    "tokenizer",
    "vocab_size",
    "cased",
    "strip_accents",
    "preset",
    "task",
    "short_probability",
    "whole_words",
    "mask_probability",
    "max_predictions",
    "max_lengths",
    "long_share",
    "tokens_per_batch",
    "batches_per_update",
    "learning_rate",
    "warmup",
    "seed",
    "bf16",
)


def is_main_process() -> bool:
    """By what torchrun and accelerate tell a process."""
    return os.environ.get("RANK", "0") == "0"


def read_run(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the run to resume has noted.

    Raises:
        ValueError: there is no run in the output folder, or its note is damaged.
    """
    output = Path(arguments.output_dir)
    note = output / RUN_FILE
    if not note.exists():
        raise ValueError(
            f"--resume: --output-dir must hold a run to go on with, got {output} without {RUN_FILE}"
        )
    try:
        return json.loads(note.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"--resume: {note} must hold the run's options, got a damaged file ({error})"
        ) from error


def prepare_output(arguments: argparse.Namespace, earlier: dict[str, Any]) -> Path:
    """Make the output folder, or find in it the run to resume, and note the options.

    Raises:
        ValueError: it holds something and `--resume` is not given; or the options are not those of
            its run.
    """
    output = Path(arguments.output_dir)
    for name in FIXED if arguments.resume else ():
        value = getattr(arguments, name)
        if earlier.get(name) != value:
            raise ValueError(
                f"--resume: --{name.replace('_', '-')} must be {earlier.get(name)!r}, as before, "
                f"got {value!r}"
            )
    if arguments.resume and arguments.max_steps < earlier["max_steps"]:
        raise ValueError(
            f"--resume: --max-steps must be at least {earlier['max_steps']}, as before, got "
            f"{arguments.max_steps}"
        )
    taken = output.exists() and (output.is_file() or any(output.iterdir()))
    if taken and not arguments.resume and is_main_process():
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
        names = [*FIXED, "max_steps", "planned_steps"]
        chosen = {name: getattr(arguments, name) for name in names}
        write_json(output / RUN_FILE, {**earlier, **chosen})
    return output


def note_text(output: Path, text: dict[str, Any]) -> None:
    """Add to the run's note what was found of its text."""
    note = json.loads((output / RUN_FILE).read_text(encoding="utf-8"))
    write_json(output / RUN_FILE, {**note, "text": text})


def write_json(path: Path, content: Any) -> None:
    """Write a file that is there whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(part, path)


def find_checkpoint(output: Path) -> Path | None:
    """The one to go on from: the last that is whole. What a kill has left half done is deleted."""
    from ..pretraining.training import MARKER, last_complete_checkpoint

    checkpoint = last_complete_checkpoint(output)
    if is_main_process():
        halves = [
            path
            for path in output.glob("checkpoint-*")
            if re.fullmatch(r"checkpoint-\d+", path.name) and not (path / MARKER).exists()
        ]
        # Folders in which tokens were being written; see `write_token_store`.
        halves += [
            path for name in ("train", "held_out") for path in output.glob(f"tokens/.{name}-*")
        ]
        for path in halves:
            logger.info("Deleting %s, which a stop has left half written", path)
            shutil.rmtree(path, ignore_errors=True)
        (output / RUN_FILE).with_suffix(".part").unlink(missing_ok=True)
    logger.info("Going on from %s", checkpoint or "the beginning: there is no checkpoint yet")
    return checkpoint


def is_finished(output: Path, checkpoint: Path | None, max_steps: int) -> bool:
    """Whether a run has made all its updates, and written its results."""
    from ..pretraining.training import step_of

    if checkpoint is None or step_of(checkpoint) < max_steps:
        return False
    try:
        steps = json.loads((output / "metrics.json").read_text(encoding="utf-8"))["steps"]
    except (OSError, ValueError, KeyError):  # the stop came before or while they were written
        return False
    return steps == max_steps and (output / "model.safetensors").exists()
