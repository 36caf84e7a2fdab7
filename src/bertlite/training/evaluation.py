"""A trained model's figures on labelled rows, and its answers to rows without labels."""

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..data.sources import open_source, open_sources
from ..inference.label_sets import threshold_for
from ..inference.loading import SEQ2SEQ, load, read_config
from ..tasks.base import Row, Task, TaskOptions
from ..tasks.registry import TASKS, task_named, writing_task
from .calibration import CLASSES, with_all_labels
from .label_sets import names_of, set_figures
from .options import DataOptions, split_options
from .reports import report_of

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
        names = config.get("architectures") or []
    else:
        config, names = model.config.to_dict(), [type(model).__name__]
    for task in TASKS.values():
        if task.head != SEQ2SEQ and any(name.endswith(task.head) for name in names):
            return task.name
    if config.get("is_encoder_decoder", False):
        return writing_task(config).name
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
            `bertlite.metrics.class_report`; of texts' classes also how far their scores can be
            trusted: the expected calibration error, the Brier score and the bins of a reliability
            diagram.
        options: fields of `DataOptions`, but for those of training, and of `TaskOptions`.

    Returns:
        The figures, and what they were measured by; `examples`, how many rows they are of;
        `bad_rows`, how many were left out, if any; with `coverage`, the share of rows whose set of
        labels holds all right ones, `covered`, with `labels_per_set` and `empty_sets`. Columns that
        were named in training are found again where the rows have them.

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
        test = test_split(data_options, chosen)
    data_options = with_remembered(data_options, model, test, chosen)
    data = data_options.prepare(
        chosen.name,
        test=test,
        dataset=None,
        remembered_columns=remembered_columns(model),
        **model_labels(chosen, loaded, data_options),
    )
    check_coverage(chosen, loaded, task_options)
    rows, coverage = list(data.test), task_options.coverage
    if data.problem_type in CLASSES:
        task_options = with_all_labels(task_options, loaded)
        task_options = dataclasses.replace(task_options, coverage=coverage)
    found = chosen.predict(rows, loaded, tokenizer, task_options, device=device)
    figures = {**chosen.score(rows, found, loaded), "examples": len(rows)}
    if coverage is not None:
        rightly = [names_of(row["label"], loaded.config.id2label) for row in rows]
        figures |= set_figures([each["label_set"] for each in found], rightly)
    if data.problems:
        figures["bad_rows"] = data.problems.total
    if not per_class:
        return figures
    return {**figures, **report_of(chosen, rows, found, loaded, data.problem_type)}


def remembered_columns(model: Any) -> dict[str, Any]:
    """The columns that a folder's record of its training names, by their roles."""
    record = run_record(model)
    named = record.get("columns") or data_record(model).get("columns") or {}
    if not isinstance(named, dict):
        named = dict(entry.split("=", 1) for entry in named if "=" in entry)
    return named


def run_record(model: Any) -> dict[str, Any]:
    """The record of the run that made a folder; {} where there is none."""
    if not isinstance(model, str | os.PathLike):
        return {}
    file = Path(model, RUN_FILE)
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def data_record(model: Any) -> dict[str, Any]:
    """The options of data in that record, also of earlier versions."""
    record = run_record(model)
    return record.get("data_options") or record.get("data") or {}


def with_remembered(options: DataOptions, model: Any, test: Any, task: Task) -> DataOptions:
    """The options, with the languages of the model's training where parallel text has them."""
    data = data_record(model)
    names = ("source_language", "target_language")
    earlier: dict[str, Any] = {name: data.get(name) for name in names}
    if any(getattr(options, name) for name in names) or not any(earlier.values()):
        return options
    how = task.rows.opening(require_labels=True)
    try:
        source = open_source(
            test,
            split="test",
            how=dataclasses.replace(how, languages=(data.get(names[0]), data.get(names[1]))),
        )
    except ValueError:  # files of other names: `prepare` says what it needs
        return options
    return options if source.sides is None else dataclasses.replace(options, **earlier)


def test_split(options: DataOptions, task: Task) -> Any:
    """The test split of the data set that `options` name; a ValueError where it has none."""
    how = dataclasses.replace(
        task.rows.opening(require_labels=True),
        config=options.dataset_config,
        encoding=options.encoding,
        languages=(options.source_language, options.target_language),
    )
    splits = open_sources(options.dataset, how)
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
        if kind is None and config.num_labels == 1:  # as transformers' own loss takes it
            kind = "regression"
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
        ValueError: a row that lacks a column, a model of another kind, `top_k` of a task that gives
            one answer.
    """
    chosen = task_named(task or infer_task(model))
    (task_options,) = split_options(options, TaskOptions)
    if task_options.top_k is not None and not chosen.ranks:
        raise ValueError(f"top_k is for classes of texts and for answers, got {chosen.name}")
    loaded, tokenizer = load("predict", model, tokenizer, chosen.head)
    check_coverage(chosen, loaded, task_options)
    return _answers(
        chosen, rows, loaded, tokenizer, task_options, device=device, show_progress=show_progress
    )


def check_coverage(task: Task, model: Any, options: TaskOptions) -> None:
    """Refuse, with a ValueError and before any work, sets of labels that cannot be had."""
    if options.coverage is None:
        return
    if not task.rows.has_problem_type:
        raise ValueError(f"coverage is for classes of texts, got {task.name}")
    threshold_for(model.config, options.coverage)


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
