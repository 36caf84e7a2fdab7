"""From data to a trained model that answers: `finetune`."""

import copy
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Unpack

from datasets import IterableDataset
from transformers import TrainingArguments

from ..tasks.base import TaskOptions
from ..tasks.registry import task_named
from .arguments import check_arguments, of_arguments
from .measuring import Metrics
from .options import DataOptions, FinetuneOptions, ModelOptions, RecipeOptions
from .progress import quiet
from .records import Settings, check_output_dir, make_output_dir
from .running import FinetuneResult, Job, prepare_trainer, train_once
from .seeds import check_seeds, train_with_seeds
from .starting import Start
from .trainer import Extras
from .validation_split import split_validation


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
    compute_metrics: Metrics | None = None,
    resume: bool = False,
    seeds: list[int] | None = None,
    check: bool = False,
    say: Callable[[str], None] | None = print,
    data_options: DataOptions | None = None,
    task_options: TaskOptions | None = None,
    model_options: ModelOptions | None = None,
    recipe_options: RecipeOptions | None = None,
    **options: Unpack[FinetuneOptions],
) -> FinetuneResult:
    """Fine-tune a model on labelled rows, measure it, and save it with its tokenizer and a model
    card.

    Data, columns, model, labels and output folder are checked before anything is trained, and what
    was found is said in one block of text.

    Args:
        task: a name of `TASKS`.
        model: a folder, a hub name or a loaded model; None with `from_scratch=True`.
        output_dir: a new or empty folder, or that of a run of the same task.
        train: a file, a pandas DataFrame, a `datasets.Dataset`, a list of dictionaries, or whatever
            else `bertlite.data.prepare` takes; or give `dataset`.
        validation: likewise, or a share of the training rows such as 0.1; chooses the best
            checkpoint, after each epoch.
        test: likewise; measures the final model.
        arguments: `TrainingArguments`, or a dict of those fields that differ from the task's
            defaults.
        tokenizer: a tokenizer or its folder; None: the model's.
        callbacks: of the `Trainer`.
        compute_metrics: figures of your own beside the task's, from a `transformers.EvalPrediction`
            (logits and labels of the features, which are windows where long texts have several).
        resume: go on from the last whole checkpoint in `output_dir`. A finished run trains no step
            more, and is measured again.
        seeds: train once with each, in folders `seed-N` of `output_dir`; the best by the validation
            rows (without them the first) is saved in `output_dir` itself.
        check: stop before training; nothing is written.
        say: takes the text before and after training, `print` for instance; None: silence. The
            progress bar is for `disable_tqdm` of `arguments`.
        data_options, task_options, model_options, recipe_options: options as objects.
        options: the fields of these four by name, which come before those of the objects.

    Returns:
        The trained model with its figures; all of it is in `output_dir` too. With `check`, the
        untrained model and no figures.

    Raises:
        ValueError: see above; the message says which argument, what came and what was expected.
            Also a loss that is no number, or a full disk: checkpoints saved before are whole.
    """
    chosen = task_named(task)
    rows = {"train": train, "validation": validation, "test": test}
    given = {**{name: value for name, value in rows.items() if value is not None}, **options}
    settings = Settings.gather(
        given,
        data_options=data_options,
        task_options=task_options,
        model_options=model_options,
        recipe_options=recipe_options,
    )
    if settings.data_options.train is None and settings.data_options.dataset is None:
        raise ValueError("train must name a file to train on, or dataset a data set, got neither")
    chosen_seeds = check_seeds(seeds)
    resume = resume or bool(of_arguments(arguments, "resume_from_checkpoint"))
    target = check_output_dir(output_dir, task, resume)
    if not check:  # before the work that reading the data may be
        make_output_dir(target)
    check_arguments(chosen, arguments)
    with quiet(reading=True, told=say is not None):
        start = Start.check(chosen, model, tokenizer, settings.model_options)
        data = read_data(task, settings, start, arguments)
    job = Job(
        chosen,
        start,
        data,
        settings,
        arguments,
        Extras(list(callbacks or []), compute_metrics),
        say or (lambda text: None),
        chosen_seeds,
    )
    with quiet():
        if check:
            return dry_run(job, target)
        if job.seeds:
            return train_with_seeds(job, target, resume)
        return train_once(job, target, resume)


def read_data(task: str, settings: Settings, start: Start, arguments: Any) -> Any:
    """The checked rows, with validation rows drawn from them where a share was asked for.

    Raises:
        ValueError: bad rows, no rows, or none that can be drawn.
    """
    options = settings.data_options
    data = options.prepare(task, labels=list(options.labels) or start.known_labels())
    check_rows(data, arguments)
    if (share := options.validation_share) is not None:
        seed = of_arguments(arguments, "data_seed") or of_arguments(arguments, "seed")
        split_validation(data, share, 42 if seed is None else seed)
        data.count_labels()
    return data


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


def dry_run(job: Job, target: Path) -> FinetuneResult:
    """Everything but training: what was found is said, and nothing is written."""
    if isinstance(job.arguments, TrainingArguments):
        job.arguments = copy.copy(job.arguments)
    with TemporaryDirectory() as folder:
        if isinstance(job.arguments, TrainingArguments):
            job.arguments.output_dir = folder
        trainer, overview = prepare_trainer(job, folder, job.seeds[0] if job.seeds else None)
        text = str(overview)
    job.say(text)
    job.say("checked; nothing was trained or written")
    return FinetuneResult(
        trainer.model, trainer.processing_class, {}, str(target), trainer, job.data.problems, text
    )
