"""From data to a trained model that answers: `finetune`."""

import dataclasses
import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import IterableDataset
from transformers import TrainingArguments
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import logging

from ..hub.task_card import write_card
from ..tasks.base import Task, TaskOptions
from ..tasks.registry import task_named
from .checkpoint_averaging import CheckpointAveraging
from .options import DataOptions, ModelOptions, named_data, split_options
from .starting import Start
from .trainer import (
    check_arguments,
    generation_options,
    make_arguments,
    make_trainer,
    of_arguments,
    smooth_labels,
)

RUN_FILE = "run_arguments.json"
logger = logging.get_logger(__name__)


@dataclass
class FinetuneResult:
    """What a run made.

    Attributes:
        metrics: those of "train", and of "validation" and "test" where such rows were given.
        problems: the bad rows that were left out (`bertlite.data.Problems`); `problems.total`
            counts them.
    """

    model: Any
    tokenizer: Any
    metrics: dict[str, dict[str, float]]
    output_dir: str
    trainer: Any = field(repr=False)
    problems: Any = field(repr=False, default=None)


def finetune(
    task: str,
    model: Any = None,
    *,
    output_dir: str | os.PathLike,
    train: Any = None,
    validation: Any = None,
    test: Any = None,
    arguments: TrainingArguments | Mapping[str, Any] | None = None,
    tokenizer: Any = None,
    callbacks: list | None = None,
    resume: bool = False,
    **options: Any,
) -> FinetuneResult:
    """Fine-tune a model on labelled rows, measure it, and save it with its tokenizer and a model
    card.

    Data, columns, model, labels and output folder are checked before anything is trained.

    Args:
        task: a name of `TASKS`.
        model: a folder, a hub name or a loaded model; None with `from_scratch=True`.
        output_dir: a new or empty folder, or that of a run of the same task.
        train: file, or whatever else `bertlite.data.prepare` takes; or give `dataset`.
        validation: chooses the best checkpoint, after each epoch.
        test: measures the final model.
        arguments: `TrainingArguments`, or a dict of those fields that differ from the task's
            defaults.
        tokenizer: a tokenizer or its folder; None: the model's.
        callbacks: of the `Trainer`.
        resume: go on from the last checkpoint in `output_dir`.
        options: fields of `DataOptions`, `TaskOptions` and `ModelOptions`.

    Returns:
        The trained model with its figures; all of it is in `output_dir` too.

    Raises:
        ValueError: see above; the message says which argument, what came and what was expected.
    """
    chosen = task_named(task)
    given = {"train": train, "validation": validation, "test": test, **options}
    data_options, task_options, model_options = split_options(
        given, DataOptions, TaskOptions, ModelOptions
    )
    if train is None and data_options.dataset is None:
        raise ValueError("train must name a file to train on, or dataset a data set, got neither")
    target = check_output_dir(
        output_dir, task, resume or bool(of_arguments(arguments, "resume_from_checkpoint"))
    )
    check_arguments(chosen, arguments)
    start = Start.check(chosen, model, tokenizer, model_options)
    data = data_options.prepare(task, labels=list(data_options.labels) or start.known_labels())
    check_rows(data, arguments)
    best = None if data.validation is None else chosen.best_metric(data.problem_type)
    made = make_arguments(chosen, arguments, str(target), best, bool(model_options.average_last))
    built = start.build(data.labels, data.problem_type, made.seed)
    smooth_labels(built, made, model_options.label_smoothing)
    trainer = make_trainer(
        start,
        built,
        made,
        data,
        task_options,
        list(callbacks or []),
        shuffle_buffer=data_options.shuffle_buffer,
    )
    record = {
        "task": task,
        "model": None if model is None else str(getattr(model, "name_or_path", model)),
    }
    record |= {
        "data": data_options,
        "options": task_options,
        "recipe": model_options,
    }
    record |= {"problem_type": data.problem_type, **data.record()}
    write_run(target, record, made)
    seconds = run(trainer, resume)
    figures = {
        "train": {
            "seconds": round(seconds, 1),
            "loss": last_loss(trainer),
            "steps": trainer.state.global_step,
        }
    }
    return finish(chosen, trainer, data, figures, target)


def check_output_dir(output_dir: str | os.PathLike, task: str, resumes: bool) -> Path:
    """The folder to write to.

    Raises:
        ValueError: it is a file, holds something else, or checkpoints that would be mixed with new
            ones.
    """
    path = Path(output_dir)
    if path.exists() and not path.is_dir():
        raise ValueError(f"output_dir must be a folder, got the file {path}")
    held = sorted(each.name for each in path.iterdir()) if path.exists() else []
    if held and RUN_FILE not in held:
        raise ValueError(
            f"output_dir must be new, empty or an earlier run's, got {path}, which holds {held[0]}"
        )
    if held:
        earlier = json.loads((path / RUN_FILE).read_text(encoding="utf-8")).get("task")
        if earlier != task:
            raise ValueError(
                f"output_dir must be new or of the task {task}, got {path}, which holds a run of "
                f"{earlier}"
            )
    kept = [name for name in held if name.startswith("checkpoint-")]
    if kept and not resumes:
        raise ValueError(
            f"output_dir holds {kept[0]} of an earlier run: go on with resume=True "
            f"(--resume_from_checkpoint last), or give another folder; got {path}"
        )
    if resumes and not kept:
        raise ValueError(f"resume must find a checkpoint in output_dir, got none in {path}")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"output_dir must be a folder that can be made, got {path}: {error.strerror}"
        ) from error
    if not os.access(path, os.W_OK):
        raise ValueError(f"output_dir must be a folder that can be written, got {path}")
    return path


def check_rows(data: Any, arguments: Any) -> None:
    """Refuse, with a ValueError, rows that cannot be trained on."""
    if data.train is None:
        raise ValueError("train must hold rows to train on, got none")
    if isinstance(data.train, IterableDataset):
        if (of_arguments(arguments, "max_steps") or -1) < 1:
            raise ValueError(
                "max_steps must be given with streaming, where nobody knows how long an epoch is"
            )
    elif not len(data.train):
        raise ValueError("train must hold rows to train on, got none")


def write_run(target: Path, record: dict[str, Any], arguments: TrainingArguments) -> None:
    """The run's arguments beside the model."""
    data = record["data"]
    named = {
        name: named_data(getattr(data, name)) for name in ("train", "validation", "test", "dataset")
    }
    record = {**record, "data": dataclasses.replace(data, **named)}  # not the rows themselves
    plain = {
        name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]
        for name, value in record.items()
    }
    plain["arguments"] = arguments.to_dict()
    text = json.dumps(plain, indent=2, ensure_ascii=False, default=str)
    (target / RUN_FILE).write_text(text + "\n", encoding="utf-8")


def run(trainer: Any, resume: bool) -> float:
    """Train, from a checkpoint where that is wanted; the seconds that it took."""
    checkpoint = trainer.args.resume_from_checkpoint
    if resume or checkpoint in ("last", "True", "true"):
        checkpoint = get_last_checkpoint(trainer.args.output_dir)
    start = time.perf_counter()
    trainer.train(resume_from_checkpoint=checkpoint)
    return time.perf_counter() - start


def last_loss(trainer: Any) -> float:
    """The training loss over the run."""
    found = [entry["train_loss"] for entry in trainer.state.log_history if "train_loss" in entry]
    return found[-1] if found else math.nan


def finish(
    task: Task, trainer: Any, data: Any, figures: dict[str, dict[str, float]], target: Path
) -> FinetuneResult:
    """Measure the final model, and save it with its tokenizer, figures and card."""
    model, tokenizer = trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class
    for each in trainer.callback_handler.callbacks:
        if isinstance(each, CheckpointAveraging):
            model.load_state_dict(type(model).from_pretrained(target / each.folder).state_dict())
    options = generation_options(trainer.task_options, trainer.args)
    for name in ("validation", "test"):
        rows = getattr(data, name)
        if rows is not None:
            shown = not trainer.args.disable_tqdm
            figures[name] = task.measure(list(rows), model, tokenizer, options, show_progress=shown)
    if trainer.is_world_process_zero():
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
        (target / "metrics.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        write_card(
            target,
            task,
            model,
            figures,
            json.loads((target / RUN_FILE).read_text(encoding="utf-8")),
        )
    if data.problems and isinstance(data.train, IterableDataset):  # found while training
        logger.warning(f"left out: {data.problems}")
    return FinetuneResult(model, tokenizer, figures, str(target), trainer, data.problems)
