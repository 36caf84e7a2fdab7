"""What int8 costs, by the task's own figure on labelled rows."""

from typing import Any
from unittest import mock

import torch
from transformers.utils import ModelOutput

from ..tasks.registry import TASKS as KNOWN
from ..training.evaluation import evaluate
from .checking import Compute
from .sources import Source

POINTS = 0.3  # of 100, by which a figure may fall


def measure_int8(source: Source, compute: Compute, data: Any) -> dict[str, Any]:
    """The figure of the model and of its graph in int8 on the same rows.

    Returns:
        `figures`: the name of the figure, the model's and the graph's value, and the rows.

    Raises:
        ValueError: the task has no figure, or it fell by more than `POINTS`.
    """
    task = next((each for each in KNOWN.values() if each.head == source.head), None)
    if task is None:
        raise ValueError(
            f"data must come with a head that bertlite evaluates, got a ...{source.head}"
        )
    given: dict[str, Any] = {"test": data, "tokenizer": source.tokenizer, "task": task.name}
    before = evaluate(source.model, **given)
    with mock.patch.object(source.model, "forward", forward_of(source, compute)):
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


def forward_of(source: Source, compute: Compute) -> Any:
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
