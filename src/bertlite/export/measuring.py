"""What int8 costs, by the task's own figure on labelled rows."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.utils import ModelOutput

from ..data.places import called
from ..inference.language_codes import Languages
from ..inference.loading import SEQ2SEQ
from ..tasks.base import Row, Task, TaskOptions
from ..tasks.registry import TASKS as KNOWN
from ..training.evaluation import (
    model_labels,
    remembered_columns,
    with_remembered,
)
from ..training.options import DataOptions
from .checking import Compute
from .sources import Source

POINTS = 0.3  # of 100, by which a figure may fall


@dataclass(frozen=True)
class Measured:
    """By what int8 is measured.

    Attributes:
        task: whose figure counts.
        rows: labelled.
        kind: of their labels.
    """

    task: Task
    rows: list[Row]
    kind: str | None

    @classmethod
    def read(cls, source: Source, data: Any) -> "Measured":
        """Of the labelled rows of a file; a ValueError where the task has no figure, or the rows
        are bad.
        """
        task = task_of(source)
        with called("data", "test"):
            return cls(task, *labelled_rows(source, task, data))


def measure_int8(
    source: Source, compute: Compute | None, folder: Path, measured: Measured
) -> dict[str, Any]:
    """The figure of the model and of its graph in int8 on the same rows.

    Args:
        source: the model.
        compute: its graph, of a BERT; None of an encoder-decoder.
        folder: with `run.py`, which writes an encoder-decoder's texts.
        measured: the rows, and by what they are measured.

    Returns:
        `figures`: the name of the figure, the model's and the graph's value, and the rows.

    Raises:
        ValueError: the figure fell by more than `POINTS`.
    """
    task, rows = measured.task, measured.rows
    name, model = task.best_metric(measured.kind), source.model
    before = figures_of(source, task, rows)
    if compute is None:
        after = task.score(rows, written_by(folder, rows), model)
    else:
        with computed_by(source, compute):
            after = figures_of(source, task, rows)
    figures = {"name": name, "model": before[name], "int8": after[name], "examples": len(rows)}
    lost = before[name] - after[name]
    points = lost * (100 if abs(before[name]) <= 1 else 1)  # of 100
    if not points <= POINTS:  # NaN too
        raise ValueError(
            f"export: {name} in int8 must be within {POINTS} points of the model's "
            f"{before[name]:.4f}, got {after[name]:.4f} on {len(rows)} rows; nothing was written"
        )
    return {"figures": figures}


def task_of(source: Source) -> Task:
    """The task whose figure counts; a ValueError where the head has none."""
    if source.head == SEQ2SEQ:
        if source.writes == "translation":
            Languages().check_target("export", source.model, source.tokenizer, {})
        return KNOWN[source.writes]
    task = next((each for each in KNOWN.values() if each.head == source.head), None)
    if task is None:
        raise ValueError(
            f"data must come with a head that bertlite evaluates, got a ...{source.head}"
        )
    return task


def labelled_rows(source: Source, task: Task, data: Any) -> tuple[list[Row], str | None]:
    """The rows, read as `bertlite.evaluate` reads them, and the kind of their labels."""
    options = with_remembered(DataOptions(test=data), source.folder, data, task)
    read = options.prepare(
        task.name,
        test=data,
        dataset=None,
        remembered_columns=remembered_columns(source.folder),
        **model_labels(task, source.model, options),
    )
    return list(read.test), read.problem_type


def figures_of(source: Source, task: Task, rows: list[Row]) -> dict[str, float]:
    """The figures of a model as it computes now."""
    return task.measure(rows, source.model, source.tokenizer, TaskOptions(), show_progress=False)


def written_by(folder: Path, rows: list[Row]) -> list[Row]:
    """What `run.py` of a folder writes for rows, in a process of its own."""
    texts = [" ".join(row["source"].splitlines()) for row in rows]
    done = subprocess.run(
        [sys.executable, str(folder / "run.py")],
        input="\n".join(texts),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    # Only \n ends a line: a text may hold other ends of lines, which JSON does not mark.
    found = [{"text": json.loads(line)} for line in done.stdout.split("\n") if line]
    if done.returncode or len(found) != len(texts):
        said = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        raise ValueError(f"export: run.py must write {len(texts)} texts, it said {said[0]}")
    return found


@contextmanager
def computed_by(source: Source, compute: Compute) -> Iterator[None]:
    """The model's forward is the graph's, for as long as the block lasts."""

    def forward(**batch: torch.Tensor) -> ModelOutput:
        given = {name: batch[name].numpy() for name in source.inputs if name in batch}
        if "token_type_ids" in source.inputs and "token_type_ids" not in given:
            given["token_type_ids"] = torch.zeros_like(batch["input_ids"]).numpy()
        found = zip(source.task.outputs, compute(given), strict=True)
        return ModelOutput({name: torch.tensor(each) for name, each in found})

    source.model.forward = forward
    try:
        yield
    finally:
        del source.model.forward
