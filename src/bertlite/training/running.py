"""One run: its trainer is prepared, trains, and its model is measured and saved."""

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset, IterableDataset
from transformers import TrainingArguments
from transformers.utils import logging

from ..hub.probe import keep_probe
from ..hub.run_card import write_run_card
from ..hub.run_facts import run_facts
from ..pretraining.training import MARKER, mark_complete
from ..tasks.base import Task
from .adapters import add_adapters, merge_adapters
from .arguments import make_arguments
from .calibration import CLASSES, calibrate, forget_temperature
from .checkpoint_averaging import CheckpointAveraging
from .checkpoints import STATE, disk_errors, find_checkpoint, steps_trained, sweep_leftovers
from .class_weights import WeightedLoss, class_weights
from .few_shot import PairLoss, check_few_shot, fit_head
from .few_shot import prepare as prepare_few_shot
from .freezing import freeze
from .measuring import NOT_FIGURES
from .options import RecipeOptions
from .overview import Overview, planned_steps, summary
from .records import FIGURES_FILE, RUN_FILE, Settings, read_record, write_json, write_record
from .reports import draw_report, report_of
from .starting import Start
from .trainer import Extras, encode_rows, make_trainer, smooth_labels

logger = logging.get_logger(__name__)


@dataclass
class FinetuneResult:
    """What a run made.

    Attributes:
        model: the trained one, as it was saved.
        tokenizer: its tokenizer.
        metrics: those of "train", and of "validation" and "test" where such rows were given; of
            several seeds also "seeds", with the figures of each, their mean and their spread.
        output_dir: the folder with all of it.
        trainer: the library's trainer, with its log; of several seeds the kept one's.
        problems: the bad rows that were left out (`bertlite.data.Problems`); `problems.total`
            counts them.
        overview: the block of text that was shown before training.
    """

    model: Any
    tokenizer: Any
    metrics: dict[str, Any]
    output_dir: str
    trainer: Any = field(repr=False)
    problems: Any = field(repr=False, default=None)
    overview: str = field(repr=False, default="")


@dataclass
class Job:
    """A run whose options and data are checked, ready to be trained once or with several seeds."""

    task: Task
    start: Start
    data: Any
    settings: Settings
    arguments: Any
    extras: Extras
    say: Callable[[str], None]
    seeds: list[int]


def prepare_trainer(job: Job, output_dir: str, seed: int | None) -> tuple[Any, Overview]:
    """The trainer of a run, and what is to be said before it starts.

    Raises:
        ValueError: see `finetune`.
    """
    data, recipe = job.data, job.settings.recipe_options
    best = None if data.validation is None or recipe.few_shot else best_metric(job)
    arguments = make_arguments(
        job.task, seeded(job.arguments, output_dir, seed), output_dir, best, recipe
    )
    start = job.start.again() if job.seeds else job.start
    model = build_model(start, data, recipe, arguments)
    job.task.tell_languages(model, start.tokenizer, job.settings.task_options)
    weights = weights_of(job, arguments)
    kind = data.problem_type or "single_label_classification"
    loss: Any = None if weights is None else WeightedLoss(weights, kind)
    if recipe.few_shot:
        check_few_shot(model, data, recipe)
        prepare_few_shot(model, start.model)
        loss = PairLoss(model)
    extras = Extras(job.extras.callbacks, job.extras.compute_metrics, loss)
    trainer = make_trainer(
        start,
        model,
        arguments,
        data,
        job.settings.task_options,
        recipe,
        extras=extras,
        shuffle_buffer=job.settings.data_options.shuffle_buffer,
    )
    overview = Overview(
        job.task,
        data,
        trainer,
        job.settings.task_options,
        recipe,
        start.new_weights,
        weights,
        job.seeds,
    )
    return trainer, overview


def best_metric(job: Job) -> str:
    """The figure that chooses, among checkpoints and among seeds."""
    weighted = job.settings.recipe_options.class_weights is not None
    return job.task.best_metric(job.data.problem_type, weighted=weighted)


def build_model(start: Start, data: Any, recipe: RecipeOptions, arguments: Any) -> Any:
    """The model as it is trained: its head, smoothing, frozen parts and adapters."""
    model = start.build(data.labels, data.problem_type, arguments.seed)
    forget_temperature(model)
    smooth_labels(model, arguments, recipe.label_smoothing)
    if recipe.freeze is not None:
        freeze(model, recipe.freeze)
    return add_adapters(model, recipe.lora_rank) if recipe.lora else model


def seeded(arguments: Any, output_dir: str, seed: int | None) -> Any:
    """The arguments of one of several runs: its own folder and seed."""
    if seed is None:
        return arguments
    if isinstance(arguments, TrainingArguments):
        changed = copy.copy(arguments)
        changed.output_dir, changed.seed = output_dir, seed
        return changed
    return {**(arguments or {}), "seed": seed}


def weights_of(job: Job, arguments: TrainingArguments) -> list[float] | None:
    """The classes' weights in the loss, None where all are equal.

    Raises:
        ValueError: weights for a task without classes, or beside label smoothing.
    """
    given, data = job.settings.recipe_options.class_weights, job.data
    if given is None:
        return None
    if data.labels is None:
        raise ValueError(
            f"class_weights must come with a task that has classes, got {job.task.name}"
            f"{' of numbers' if data.problem_type == 'regression' else ''}"
        )
    if arguments.label_smoothing_factor:
        raise ValueError("class_weights and label_smoothing_factor exclude each other, got both")
    streams = isinstance(data.train, IterableDataset)
    found = data.counts.get("train", {})
    counts = None if streams else [found.get(label, 0) for label in data.labels]
    several = data.problem_type == "multi_label_classification"
    return class_weights(
        given, counts, data.labels, rows=len(data.train) if several and not streams else None
    )


def train_once(
    job: Job, target: Path, resume: bool, seed: int | None = None, *, told: bool = False
) -> FinetuneResult:
    """Train, measure and save in one folder.

    Args:
        job: what is trained.
        target: the folder.
        resume: go on from the last whole checkpoint there, if there is one.
        seed: of one of several runs; None: that of the arguments.
        told: the block before training was shown already, for another seed.
    """
    trainer, overview = prepare_trainer(job, str(target), seed)
    text = str(overview)
    if not trainer.is_world_process_zero():
        job.say = lambda text: None
    if seed is not None:
        job.say(f"seed {seed}: run {job.seeds.index(seed) + 1} of {len(job.seeds)}")
    if not told:
        job.say(text)
    with disk_errors(target):
        checkpoint = checkpoint_of(trainer, target, resume)
        before, planned = steps_trained(checkpoint), planned_steps(trainer)
        done = finished(target, before, planned)
        trainer.finished = done is not None
        trainer.accelerator.wait_for_everyone()  # all have read the record before it is replaced
        if done is not None:
            job.say(
                f"resume: the run in {target} is finished, after {before:,} steps; no step more is "
                "trained"
            )
        record = write_record(
            target,
            job.settings,
            trainer.args,
            task=job.task.name,
            model=model_name(job.start.model),
            problem_type=job.data.problem_type,
            **job.data.record(),
            class_weights=overview.weights,
            planned_steps=planned,
        )
        seconds = train(trainer, checkpoint)
        figures = {"train": done or training_figures(trainer, seconds, before)}
        return finish(job, trainer, figures, target, record, text)


def training_figures(trainer: Any, seconds: float, before: int) -> dict[str, Any]:
    """What training took; of a resumed run, of its steps since then."""
    figures = {
        "seconds": round(seconds, 1),
        "loss": last_loss(trainer),
        "steps": trainer.state.global_step,
    }
    return {**figures, "resumed_at": before} if before else figures


def model_name(model: Any) -> str | None:
    """What a record says of the model that a run starts from."""
    return None if model is None else str(getattr(model, "name_or_path", model))


def checkpoint_of(trainer: Any, target: Path, resume: bool) -> Path | None:
    """The checkpoint to go on from; what a kill left half written is removed."""
    named = trainer.args.resume_from_checkpoint
    if named is not None and str(named).lower() not in ("last", "true"):
        if not Path(named, STATE).is_file():
            raise ValueError(
                f"resume_from_checkpoint must be last or the folder of a checkpoint, got {named}"
            )
        return Path(named)
    if not resume and named is None:
        return None
    checkpoint = find_checkpoint(target)
    sweep_leftovers(target)
    if checkpoint is not None and not (checkpoint / MARKER).exists():
        mark_complete(checkpoint)  # the kill came just before its note
    if checkpoint is None:
        logger.warning(f"resume: {target} holds no whole checkpoint: the run starts anew")
    return checkpoint


def finished(target: Path, steps: int, planned: int | None) -> dict[str, Any] | None:
    """The training figures of a run that ended and was saved; None for any other.

    Args:
        target: the run's folder.
        steps: that the checkpoint holds which the run would go on from.
        planned: steps of the whole run. One that stopped before them is finished too, unless more
            or fewer were planned than now.
    """
    if not steps:
        return None
    try:
        figures = json.loads((target / FIGURES_FILE).read_text(encoding="utf-8"))["train"]
        earlier = read_record(target / RUN_FILE).get("planned_steps")
    except (OSError, ValueError, KeyError):
        return None
    ended = figures.get("steps") == steps and (earlier == planned or steps == planned)
    return figures if ended else None


def train(trainer: Any, checkpoint: Path | None) -> float:
    """Train, from a checkpoint where there is one; the seconds that it took."""
    start = time.perf_counter()
    try:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    except ImportError as error:
        raise ValueError(f"arguments: {' '.join(str(error).split())}") from error
    return time.perf_counter() - start


def last_loss(trainer: Any) -> float:
    """The training loss over the run."""
    found = [entry["train_loss"] for entry in trainer.state.log_history if "train_loss" in entry]
    return found[-1] if found else math.nan


def finish(
    job: Job,
    trainer: Any,
    figures: dict[str, Any],
    target: Path,
    record: dict[str, Any],
    overview: str,
) -> FinetuneResult:
    """Measure the final model, and save it with its tokenizer, figures and card."""
    data, tokenizer = job.data, trainer.processing_class
    main = trainer.is_world_process_zero()
    model = final_model(trainer, target)
    if isinstance(trainer.compute_loss_func, PairLoss):
        trainer.compute_loss_func.watch.remove()
        fit_head(job.task, model, tokenizer, list(data.train), trainer.task_options)
    if job.settings.recipe_options.calibrate:
        found = calibrate(job.task, model, tokenizer, data, trainer.task_options)
        if found:
            figures["train"]["calibration"] = found
    measure_splits(job, trainer, figures)
    if main:
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
        record["left_out"] = data.record()["left_out"]  # of a stream, found while training
        record["run"] = run_facts(model, trainer, record["data_options"])
        write_json(target / RUN_FILE, record)
        if "report" in figures:
            figures["report"]["pictures"] = draw_report(figures["report"], target)
        write_json(target / FIGURES_FILE, figures)
        write_run_card(target, job.task, figures, record)
        keep_probe(target, model)
    if data.problems and isinstance(data.train, IterableDataset):  # found while training
        logger.warning(f"left out: {data.problems}")
    job.say(summary(figures, trainer, target))
    return FinetuneResult(model, tokenizer, figures, str(target), trainer, data.problems, overview)


def final_model(trainer: Any, target: Path) -> Any:
    """The model that is saved: adapters merged, or the mean of the last checkpoints."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    main = trainer.is_world_process_zero()
    trainer.model = model = merge_adapters(model, target if main else None)
    for each in trainer.callback_handler.callbacks:
        if isinstance(each, CheckpointAveraging):
            model.load_state_dict(type(model).from_pretrained(target / each.folder).state_dict())
    return model


def measure_splits(job: Job, trainer: Any, figures: dict[str, Any]) -> None:
    """Add the figures of validation and test rows, and the report of the last of these."""
    for name in ("validation", "test"):
        if (rows := getattr(job.data, name)) is not None:
            figures[name], report = measure_split(job, trainer, list(rows), name)
            if report:
                figures["report"] = {"split": name, **report}


def measure_split(
    job: Job, trainer: Any, rows: list, name: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The task's figures of rows with those of the user's own `compute_metrics`, and the report.

    The report is that of each class, empty where a task has none.
    """
    kind = job.data.problem_type
    answers, model = trainer.answers(
        rows, every_label=kind in CLASSES, show_progress=not trainer.args.disable_tqdm
    )
    figures = job.task.score(rows, answers, model)
    report = report_of(job.task, rows, answers, model, kind)
    if trainer.compute_metrics is not None:
        figures = {**own_figures(job, trainer, rows, name), **figures}
    return figures, report


def own_figures(job: Job, trainer: Any, rows: list, name: str) -> dict[str, Any]:
    """What the user's own `compute_metrics` says of rows."""
    features = encode_rows(
        job.task,
        Dataset.from_list(rows),
        trainer.processing_class,
        trainer.model,
        job.settings.task_options,
    )
    trainer.measured_rows = rows
    found = trainer.predict(features, metric_key_prefix=name).metrics
    own = {key.removeprefix(f"{name}_"): value for key, value in found.items()}
    noise = ("loss", *NOT_FIGURES)
    return {key: value for key, value in own.items() if key not in noise}
