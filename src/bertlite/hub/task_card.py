"""The model card of a fine-tuned model.

What it is, what it was trained on and how, what was measured, its limits.
"""

import json
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ..tasks.base import Task
from .model_card import versions

CARD = """---
{metadata}
---

# {name}: {task}

A `{model_class}` for {task}, trained, measured and written here by `bertlite finetune`.

## Use

```python
{use}
```

## Figures

{figures}

One run with one seed ({seed}); chance alone moves such figures. Unrounded they stand in `metrics.json`.

## Data

{data}

## Recipe

- Start: {start}.
- Recipe "{recipe}": peak learning rate {learning_rate:g}, schedule {schedule}, weight decay {weight_decay:g}.
- {epochs:g} epochs at most, {steps} steps, {batch} a device and step, {accumulation} accumulated.
- {seconds} seconds of training.
- {versions}.

All arguments stand in `run_arguments.json`.

## Limits

Measured on the rows named above only. Other subjects, languages and lengths were not, and neither was whether scores
are calibrated. Licences of data and starting weights are to be added by whoever publishes this model.
"""


def write_card(
    folder: Path, task: Task, model: Any, figures: dict[str, dict[str, float]], run: dict[str, Any]
) -> Path:
    """Write `README.md` beside a model.

    Args:
        folder: where the model is saved.
        task: what it was trained for.
        model: the model itself.
        figures: those of "train", and of "validation" and "test" where they were measured.
        run: the content of `run_arguments.json`.

    Returns:
        The card's path.
    """
    arguments, data = run["arguments"], run["data"]
    tokens = run["recipe"]["batch_tokens"]
    sources = {
        name: data[name] for name in ("dataset", "train", "validation", "test") if data.get(name)
    }
    text = CARD.format(
        metadata=front_matter(folder, task, figures).to_yaml().strip(),
        name=folder.resolve().name,
        task=task.name,
        model_class=type(model).__name__,
        use=f"import bertlite\n\n{task.usage}",
        figures=figure_table(figures),
        data="\n".join(f"- {name}: {file_names(value)}" for name, value in sources.items()),
        start=f"`{Path(run['model']).name}`"
        if run["model"]
        else f"random weights, {run['recipe']['config_preset']}",
        recipe=run["recipe"]["recipe"],
        learning_rate=arguments["learning_rate"],
        schedule="noam"
        if run["recipe"]["recipe"] == "transformer"
        else arguments["lr_scheduler_type"],
        weight_decay=arguments["weight_decay"],
        epochs=arguments["num_train_epochs"],
        batch=f"{tokens} tokens" if tokens else f"{arguments['per_device_train_batch_size']} rows",
        accumulation=arguments["gradient_accumulation_steps"],
        seed=arguments["seed"],
        steps=int(figures["train"]["steps"]),
        seconds=figures["train"]["seconds"],
        versions=versions(),
    )
    path = folder / "README.md"
    path.write_text(text, encoding="utf-8")
    return path


def file_names(value: Any) -> str:
    """The names of a file, or of several, without their folders.

    >>> file_names(["data/a.csv", "data/b.csv"])
    '`a.csv`, `b.csv`'
    """
    values = value if isinstance(value, list) else [value]
    return ", ".join(f"`{Path(str(each)).name}`" for each in values)


def figure_table(figures: dict[str, dict[str, float]]) -> str:
    """A table with a column for each split that was measured."""
    splits = [name for name in ("validation", "test") if name in figures]
    if not splits:
        return "None was measured: neither validation nor test rows were given."
    rows = [f"| | {' | '.join(splits)} |", f"| --- |{' --- |' * len(splits)}"]
    for name in figures[splits[0]]:
        values = (figures[split].get(name) for split in splits)
        rows.append(f"| {name} | {' | '.join(shown(value) for value in values)} |")
    return "\n".join(rows)


def shown(value: float | str | None) -> str:
    """A figure, or what it was measured by, such as sacrebleu's signature."""
    if isinstance(value, str):
        return f"`{value.replace('|', ', ')}`"  # a bar would begin the next column
    return "-" if value is None else f"{value:.4f}"


def front_matter(folder: Path, task: Task, figures: dict[str, dict[str, float]]) -> ModelCardData:
    """The card's YAML, with the figures as the hub's `model-index`, unrounded."""
    name = json.loads((folder / "config.json").read_text(encoding="utf-8")).get(
        "model_type", "bertlite"
    )
    results = [
        EvalResult(
            task_type=task.pipeline_tag,
            dataset_type="local",
            dataset_name=f"{split} rows of the run",
            dataset_split=split,
            metric_type=metric,
            metric_value=value,
        )
        for split in ("validation", "test")
        for metric, value in figures.get(split, {}).items()
        if not isinstance(value, str)
    ]
    return ModelCardData(
        library_name="transformers",
        pipeline_tag=task.pipeline_tag,
        tags=sorted({"bertlite", name}),
        model_name=folder.resolve().name,
        eval_results=results or None,
    )
