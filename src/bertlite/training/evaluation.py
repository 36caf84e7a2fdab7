"""A trained model's figures on labelled rows, and its answers to rows without labels."""

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..data.sources import Opening, open_source, open_sources
from ..inference.loading import SEQ2SEQ, load, read_config
from ..tasks.base import Row, Task, TaskOptions
from ..tasks.registry import TASKS, task_named
from .options import DataOptions, split_options

RUN_FILE = "run_arguments.json"
OF_TRAINING = (
    "train",
    "validation",
    "streaming",
    "shuffle_buffer",
    "max_train_examples",
)  # no options of `evaluate`
CHUNK = 1000  # rows that are predicted, and written, at a time


def infer_task(model: Any) -> str:
    """The task of a model's folder: that of its run, or what its architecture says.

    Raises:
        ValueError: the folder is not there, or its architecture is of no task.
    """
    if record := run_record(model):
        return record["task"]
    if isinstance(model, str | os.PathLike):
        config = read_config("", os.fspath(model))
        names, writes = config.get("architectures") or [], config.get("is_encoder_decoder", False)
    else:
        names, writes = [type(model).__name__], getattr(model.config, "is_encoder_decoder", False)
    for task in TASKS.values():
        if task.head != SEQ2SEQ and any(name.endswith(task.head) for name in names):
            return task.name
    if writes:
        return next(task.name for task in TASKS.values() if task.head == SEQ2SEQ)
    raise ValueError(
        f"task must be given: it cannot be told from the architectures {names} of {model!r:.80}"
    )


def evaluate(
    model: Any,
    *,
    test: Any = None,
    task: str | None = None,
    tokenizer: Any = None,
    device: Any = None,
    per_class: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Measure a trained model on labelled rows.

    Args:
        model: a folder, a hub name or a loaded model.
        test: the file, or whatever else `bertlite.data.prepare` takes; or give `dataset`.
        task: a name of `TASKS`; None: told from the model.
        tokenizer: a tokenizer or its folder; None: the model's.
        device: where to run; None: where the model is.
        per_class: whether the figures of each class and the confusion matrix are given too, as of
            `bertlite.metrics.class_report`.
        options: fields of `DataOptions`, but for those of training, and of `TaskOptions`.

    Returns:
        The figures, and what they were measured by; `examples`, how many rows they are of;
        `bad_rows`, how many were left out, if any. Columns that were named in training are found
        again where the rows have them.

    Raises:
        ValueError: no rows, bad rows, labels that the model does not know, a model of another kind.
    """
    chosen = task_named(task or infer_task(model))
    if useless := sorted(set(OF_TRAINING) & set(options)):
        raise ValueError(
            "evaluate measures test (or the test split of dataset) alone, got "
            f"{', '.join(useless)} too"
        )
    data_options, task_options = split_options({"test": test, **options}, DataOptions, TaskOptions)
    if test is None and data_options.dataset is None:
        raise ValueError("test must name a file to measure on, or dataset a data set, got neither")
    loaded, tokenizer = load("evaluate", model, tokenizer, chosen.head)
    if test is None:
        test = test_split(data_options)
    data_options = with_remembered(data_options, model, test, chosen)
    data = data_options.prepare(
        chosen.name, test=test, dataset=None, **model_labels(chosen, loaded, data_options)
    )
    rows = list(data.test)
    found = chosen.predict(rows, loaded, tokenizer, task_options, device=device)
    figures = {**chosen.score(rows, found, loaded), "examples": len(rows)}
    if data.problems:
        figures["bad_rows"] = data.problems.total
    return {**figures, **chosen.report(rows, found, loaded)} if per_class else figures


def remembered_columns(model: Any, available: Sequence[str]) -> dict[str, Any]:
    """The columns that a folder's record of its training names, of those that there are.

    Args:
        model: the folder.
        available: names of the columns of the rows at hand.
    """
    named = run_record(model).get("data", {}).get("columns") or {}
    if not isinstance(named, dict):
        named = dict(entry.split("=", 1) for entry in named if "=" in entry)
    found = {}
    for role, column in named.items():
        parts = column.split(",") if isinstance(column, str) else list(column)  # several: labels
        if column in available or all(part.strip() in available for part in parts):
            found[role] = column if isinstance(column, str) else ",".join(parts)
    return found


def run_record(model: Any) -> dict[str, Any]:
    """The record of the run that made a folder; {} where there is none."""
    if not isinstance(model, str | os.PathLike):
        return {}
    file = Path(model, RUN_FILE)
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def with_remembered(options: DataOptions, model: Any, test: Any, task: Task) -> DataOptions:
    """The options, with columns and languages of the model's training where none are given."""
    earlier = run_record(model).get("data", {})
    languages = {
        name: getattr(options, name) or earlier.get(name)
        for name in ("source_language", "target_language")
    }
    options = dataclasses.replace(options, **languages)
    if options.columns or not earlier.get("columns"):
        return options
    source = open_source(
        test, split="test", how=Opening(task.rows.parallel, task.rows.plain_suffix)
    )
    columns = remembered_columns(model, source.columns())
    return dataclasses.replace(
        options, columns=[f"{role}={name}" for role, name in columns.items()]
    )


def test_split(options: DataOptions) -> Any:
    """The test split of the data set that `options` name; a ValueError where it has none."""
    splits = open_sources(options.dataset, Opening(config=options.dataset_config))
    if "test" not in splits:
        came = f"{options.dataset!s:.80} has {' and '.join(splits)}"
        raise ValueError(
            f"dataset must have a split test to measure on, {came}; name a split or file as test"
        )
    return splits["test"]


def model_labels(task: Task, model: Any, options: DataOptions) -> dict[str, Any]:
    """What `prepare` must know of the model: its labels in their order, and what they mean."""
    if not task.labelled:
        return {}
    config = model.config
    found: dict[str, Any] = {}
    kind = options.problem_type or getattr(config, "problem_type", None)
    if task.rows.has_problem_type:
        found["problem_type"] = kind
    if kind != "regression" and not options.labels:
        found["labels"] = [config.id2label[number] for number in range(config.num_labels)]
    return found


def predict(
    model: Any,
    rows: Iterable[Row],
    *,
    task: str | None = None,
    tokenizer: Any = None,
    device: Any = None,
    show_progress: bool = True,
    **options: Any,
) -> Iterator[Row]:
    """A trained model's answers, one dict a row, in the order of the rows.

    Args:
        model: a folder, a hub name or a loaded model.
        rows: dicts with the columns of the task, such as `text`, or `question` and `context`.
        task: a name of `TASKS`; None: told from the model.
        tokenizer: a tokenizer or its folder; None: the model's.
        device: where to run; None: where the model is.
        show_progress: a progress bar where the work takes more than three seconds.
        options: fields of `TaskOptions`.

    Raises:
        ValueError: a row that lacks a column, a model of another kind.
    """
    chosen = task_named(task or infer_task(model))
    (task_options,) = split_options(options, TaskOptions)
    loaded, tokenizer = load("predict", model, tokenizer, chosen.head)
    return _answers(
        chosen, rows, loaded, tokenizer, task_options, device=device, show_progress=show_progress
    )


def _answers(
    task: Task, rows: Iterable[Row], model: Any, tokenizer: Any, options: TaskOptions, **run: Any
) -> Iterator:
    """Predict `CHUNK` rows at a time, so that a file of any size fits in memory."""
    chunk: list[Row] = []
    for number, row in enumerate(rows):
        task.check_row(row, number)
        chunk.append(row)
        if len(chunk) == CHUNK:
            yield from task.predict(chunk, model, tokenizer, options, **run)
            chunk = []
    if chunk:
        yield from task.predict(chunk, model, tokenizer, options, **run)
