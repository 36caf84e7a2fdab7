"""What a run found out before it trains, as one block of text, and what came of it, as another."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute
import torch
from datasets import IterableDataset

from ..inference.choices import whole_question
from ..inference.loading import position_limit
from ..tasks.base import Task, TaskOptions
from .adapters import is_adapted, plain_model
from .options import RecipeOptions

WIDTH = 100
NAMED = 12  # labels that are listed one by one
CHUNK = 1000  # rows that are tokenized at a time


@dataclasses.dataclass
class Overview:
    """All that is known before the first step, ready to be shown."""

    task: Task
    data: Any
    trainer: Any
    options: TaskOptions
    recipe: RecipeOptions
    new_weights: list[str] = dataclasses.field(default_factory=list)
    weights: list[float] | None = None
    seeds: list[int] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        """The block: a line or more for each subject."""
        lines = {
            "task": kind_of(self.task, self.data),
            "data": self.data.decisions,
            "rows": self.data.rows(),
            "left out": self.data.problems.examples,
            "class weights": self.weight_line(),
            "lengths": self.lengths(),
            "warnings": list(self.data.warnings),
            "model": self.model_lines(),
            "device": device_of(self.trainer.args),
            "steps": self.steps(),
            "checkpoint": chosen_by(self.trainer.args, self.data, self.recipe),
        }
        return "\n".join(
            f"{name if not place else '':14}{text}"
            for name, value in lines.items()
            for place, text in enumerate(wrapped(value))
        )

    def weight_line(self) -> str | None:
        """The weight of each class in the loss."""
        if self.weights is None:
            return None
        pairs = zip(self.data.labels, self.weights, strict=True)
        return ", ".join(f"{label} {weight:.3g}" for label, weight in pairs)

    def lengths(self) -> str:
        """How many training rows are cut, or read in windows."""
        return length_line(
            self.task, self.data.train, self.trainer, plain_model(self.trainer.model), self.options
        )

    def model_lines(self) -> list[str]:
        """What is trained of the model, and which weights no file held."""
        model = self.trainer.model
        total = sum(weight.numel() for weight in model.parameters())
        trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        frozen = f"{trained:,} of {total:,} parameters are trained"
        if self.recipe.freeze is not None:
            frozen += f" (freeze {self.recipe.freeze})"
        if is_adapted(model):
            frozen += f" (lora, rank {self.recipe.lora_rank}: merged into the weights at the end)"
        lines = [f"{type(plain_model(model)).__name__}: {frozen}"]
        if self.new_weights:
            lines.append(f"new weights, not in the file: {listed(self.new_weights)}")
        return lines

    def steps(self) -> str:
        """How many steps of which size, and at which rate."""
        args = self.trainer.args
        size = f"{args.train_batch_size} rows"
        if self.recipe.batch_tokens is not None:
            size = f"at most {self.recipe.batch_tokens:,} tokens"
        if args.gradient_accumulation_steps > 1:
            size += f", {args.gradient_accumulation_steps} accumulated"
        planned = planned_steps(self.trainer)
        epochs = "" if args.max_steps > 0 else f" ({args.num_train_epochs:g} epochs)"
        seeds = f"seed {args.seed}"
        if self.seeds:
            seeds = f"one run each with the seeds {', '.join(map(str, self.seeds))}"
        count = "as many as the rows give" if planned is None else f"{planned:,}"
        rate = "the Noam schedule" if self.recipe.recipe == "transformer" else "learning rate "
        rate += "" if self.recipe.recipe == "transformer" else f"{args.learning_rate:g}"
        return f"{count}{epochs} of {size}, {rate}, {seeds}"


def wrapped(value: Any) -> list[str]:
    """A value's lines; none where there is nothing to say."""
    import textwrap

    lines = [value] if isinstance(value, str) else list(value or [])
    return [part for line in lines for part in textwrap.wrap(line, WIDTH - 14)]


def listed(names: list[str], count: int = NAMED) -> str:
    """Names with commas between, the later ones counted only."""
    more = f" and {len(names) - count:,} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def kind_of(task: Task, data: Any) -> str:
    """The task, and of which kind its labels are."""
    words = {
        "single_label_classification": "one label a row",
        "multi_label_classification": "several labels a row",
        "regression": "a number a row",
    }
    kind = words.get(data.problem_type or "")
    return f"{task.name}, {kind} ({data.problem_type})" if kind else task.name


def length_line(task: Task, rows: Any, trainer: Any, model: Any, options: TaskOptions) -> str:
    """How many rows are longer than a row of the model may be, and what becomes of them."""
    if isinstance(rows, IterableDataset):
        return "known when the rows are read"
    features = trainer.train_dataset
    features = getattr(features, "dataset", features)  # of batches of tokens
    tokenizer = trainer.processing_class
    if len(features) > len(rows):
        return f"{len(features):,} windows of {len(rows):,} rows: long ones are read in parts"
    sides = [("row", "input_ids", limit_of(task, model, tokenizer, options))]
    if "target" in rows.column_names:
        wanted = options.max_target_length or task.max_target_length  # type: ignore[attr-defined]
        sides.append(("target", "labels", position_limit(model, tokenizer, wanted)))
    parts = []
    for name, column, limit in sides:
        cut = count_cut(rows, features, tokenizer, limit, column)
        share = f"{cut:,} of {len(rows):,} {name}s ({cut / max(len(rows), 1):.1%})"
        parts.append(f"{share} are cut at {limit:,} tokens" if cut else f"no {name} is cut")
    return ", ".join(parts)


def limit_of(task: Task, model: Any, tokenizer: Any, options: TaskOptions) -> int:
    """Tokens that a row of inputs may have."""
    limit = getattr(task, "source_limit", task.limit)  # of tasks that write
    return limit(model, tokenizer, options)


def count_cut(rows: Any, features: Any, tokenizer: Any, limit: int, column: str) -> int:
    """Rows that were longer than `limit` tokens; only those that fill it are tokenized again."""
    kept = features.with_format("arrow")[:][column]
    if pyarrow.types.is_list(kept.type.value_type):  # choices: the longest of a row
        lengths = np.array([max(map(len, row)) for row in kept.to_pylist()])
    else:
        lengths = pyarrow.compute.list_value_length(kept).to_numpy()
    full = rows.select(np.flatnonzero(lengths >= limit))
    return sum(
        length > limit
        for start in range(0, len(full), CHUNK)
        for length in whole_lengths(full[start : start + CHUNK], tokenizer, column)
    )


def whole_lengths(rows: Mapping[str, list], tokenizer: Any, column: str) -> list[int]:
    """Tokens of rows, given by columns, that are not cut."""
    run: dict[str, Any] = {"verbose": False}
    if column == "labels":
        # What the decoder writes: no start token, and one end token.
        found = tokenizer(text_target=rows["target"], add_special_tokens=False, **run)
        return [len(ids) + 1 for ids in found["input_ids"]]
    if "choices" in rows:
        contexts = rows.get("context", [None] * len(rows["choices"]))
        columns = zip(contexts, rows["question"], rows["choices"], strict=True)
        pairs = [
            (whole_question({"context": context, "question": question}), some)
            for context, question, some in columns
        ]
        each = [tokenizer([question] * len(some), some, **run) for question, some in pairs]
        return [max(map(len, found["input_ids"])) for found in each]
    if "tokens" in rows:
        found = tokenizer(rows["tokens"], is_split_into_words=True, **run)
    elif "context" in rows:
        found = tokenizer(rows["question"], rows["context"], **run)
    else:
        texts = rows["source"] if "source" in rows else rows["text"]
        found = tokenizer(texts, rows.get("text_pair"), **run)
    return list(map(len, found["input_ids"]))


def device_of(args: Any) -> str:
    """Where the run computes, and in which precision."""
    device = args.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32"
    mixed = " (mixed precision)" if args.bf16 or args.fp16 else ""
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    many = f", {args.world_size} processes" if args.world_size > 1 else ""
    return f"{name}, {precision}{mixed}{threads}{many}"


def planned_steps(trainer: Any) -> int | None:
    """The updates of the whole run; None where rows stream and no number was given."""
    args = trainer.args
    if args.max_steps > 0:
        return args.max_steps
    try:
        return trainer.set_initial_training_values(args, trainer.get_train_dataloader())[-1]
    except (TypeError, ValueError):
        return None


def chosen_by(args: Any, data: Any, recipe: RecipeOptions) -> str:
    """What decides which weights are kept."""
    if recipe.average_last:
        return f"the mean of the last {recipe.average_last} is saved"
    if data.validation is None or not args.load_best_model_at_end:
        return "the last is saved: nothing chooses between them"
    name = str(args.metric_for_best_model).removeprefix("eval_")
    better = "highest" if args.greater_is_better else "lowest"
    stop = ""
    if recipe.early_stopping:
        stop = f"; training stops after {recipe.early_stopping} evaluations without a better one"
    return (
        f"the one with the {better} {name} on the {len(data.validation):,} validation rows is "
        f"saved{stop}"
    )


def summary(figures: Mapping[str, Mapping[str, Any]], trainer: Any, folder: Path) -> str:
    """What came of the run, for the screen."""
    train = figures["train"]
    lines = [
        f"trained       {train['steps']:,} steps in {train['seconds']:,} seconds, loss "
        f"{train['loss']:.4g}"
    ]
    best = trainer.state.best_model_checkpoint
    if trainer.args.load_best_model_at_end and best:
        name = str(trainer.args.metric_for_best_model).removeprefix("eval_")
        lines.append(
            f"kept          {Path(best).name}, the best {name} on the validation rows, "
            f"{trainer.state.best_metric:.4g}"
        )
    for split in ("validation", "test"):
        numbers = [
            f"{name} {value:.4g}"
            for name, value in figures.get(split, {}).items()
            if isinstance(value, int | float)
        ]
        wrapped_lines = wrapped(", ".join(numbers))
        lines += [f"{'' if place else split:14}{text}" for place, text in enumerate(wrapped_lines)]
    return "\n".join([*lines, f"saved         {folder}"])
