"""What int8 costs, by the task's own figure on labelled rows."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from transformers.utils import ModelOutput

from ..inference.loading import SEQ2SEQ
from ..tasks.base import Task
from ..tasks.registry import TASKS as KNOWN
from ..training.evaluation import evaluate, infer_task
from .checking import Compute
from .sources import Source

POINTS = 0.3  # of 100, by which a figure may fall


def measure_int8(
    source: Source, compute: Compute | None, folder: Path, data: Any
) -> dict[str, Any]:
    """The figure of the model and of its graph in int8 on the same rows.

    Args:
        source: the model.
        compute: its graph, of a BERT; None of an encoder-decoder.
        folder: with `run.py`, which writes an encoder-decoder's texts.
        data: labelled rows.

    Returns:
        `figures`: the name of the figure, the model's and the graph's value, and the rows.

    Raises:
        ValueError: the task has no figure, or it fell by more than `POINTS`.
    """
    if source.head == SEQ2SEQ:
        task: Task | None = KNOWN[infer_task(source.folder)]
    else:
        task = next((each for each in KNOWN.values() if each.head == source.head), None)
    if task is None:
        raise ValueError(
            f"data must come with a head that bertlite evaluates, got a ...{source.head}"
        )
    given: dict[str, Any] = {"test": data, "tokenizer": source.tokenizer, "task": task.name}
    before = evaluate(source.model, **given)
    if source.head == SEQ2SEQ:
        written = mock.patch.object(type(task), "predict", written_by(folder))
    else:
        written = mock.patch.object(source.model, "forward", forward_of(source, compute))
    with written:
        after = evaluate(source.model, **given)
    name = task.best_metric(getattr(source.model.config, "problem_type", None))
    scale = 1.0 if abs(before[name]) > 1 else 100.0  # points of 100
    lost = (before[name] - after[name]) * scale
    figures = {"name": name, "model": before[name], "int8": after[name]}
    figures["examples"] = before["examples"]
    if lost > POINTS:
        raise ValueError(
            f"export: {name} in int8 must be within {POINTS} points of the model's "
            f"{before[name]:.4f}, got {after[name]:.4f} on {before['examples']} rows; nothing was "
            "written"
        )
    return {"figures": figures}


def written_by(folder: Path) -> Any:
    """A task's `predict`, by `run.py` of a folder, in a process of its own."""

    def predict(task: Any, rows: Any, *args: Any, **kwargs: Any) -> list[dict[str, str]]:
        texts = [" ".join(row["source"].split("\n")) for row in rows]
        done = subprocess.run(
            [sys.executable, str(folder / "run.py")],
            input="\n".join(texts),
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
        found = [{"text": json.loads(line)} for line in done.stdout.splitlines()]
        if done.returncode or len(found) != len(texts):
            said = done.stderr.strip().splitlines()[-1:] or ["nothing"]
            raise ValueError(f"export: run.py must write {len(texts)} texts, it said {said[0]}")
        return found

    return predict


def forward_of(source: Source, compute: Any) -> Any:
    """The model's forward, computed by the graph."""

    def forward(**batch: torch.Tensor) -> ModelOutput:
        given = {name: batch[name].numpy() for name in source.inputs if name in batch}
        if "token_type_ids" in source.inputs and "token_type_ids" not in given:
            given["token_type_ids"] = torch.zeros_like(batch["input_ids"]).numpy()
        found = compute(given)
        return ModelOutput(
            {
                name: torch.tensor(each)
                for name, each in zip(source.task.outputs, found, strict=True)
            }
        )

    return forward
