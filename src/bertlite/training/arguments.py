"""The `TrainingArguments` of a run: checked before any data are read, completed when they are."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from ..inference.loading import check_counts, check_number
from ..tasks.base import Task
from .few_shot import ARGUMENTS as FEW_SHOT
from .options import RecipeOptions


def of_arguments(arguments: Any, name: str) -> Any:
    """One field of the `arguments` of `finetune`, None where it is not given."""
    return arguments.get(name) if isinstance(arguments, Mapping) else getattr(arguments, name, None)


def check_arguments(task: Task, given: Any) -> None:
    """Look at the training arguments before any data are read.

    Raises:
        ValueError: arguments of another kind than the task needs, unknown fields, or numbers out of
            their range.
    """
    kind = task.arguments_class
    if isinstance(given, Mapping):
        known = {each.name for each in dataclasses.fields(kind) if each.init}
        if unknown := sorted(set(given) - known):
            raise ValueError(
                f"arguments must be fields of {kind.__name__}, got {', '.join(unknown)}"
            )
    elif given is not None and not isinstance(given, kind):
        raise ValueError(
            f"arguments must be {kind.__name__} or a dict of its fields, got {type(given).__name__}"
        )
    counts = (
        "per_device_train_batch_size",
        "per_device_eval_batch_size",
        "gradient_accumulation_steps",
    )
    check_counts(1, **{name: of_arguments(given, name) for name in counts})
    for name in ("learning_rate", "weight_decay"):
        if (value := of_arguments(given, name)) is not None:
            check_number(name, value, 0)
    epochs, steps = of_arguments(given, "num_train_epochs"), of_arguments(given, "max_steps") or -1
    if epochs is not None and not epochs > 0 and steps < 1:
        raise ValueError(
            f"num_train_epochs must be above 0 where max_steps is not given, got {epochs!r}"
        )


def make_arguments(
    task: Task, given: Any, output_dir: str, best_metric: str | None, recipe: RecipeOptions
) -> Any:
    """The run's `TrainingArguments`: as they came, or the task's defaults with the fields given.

    Args:
        given: `TrainingArguments`, a dict of their fields, or None.
        best_metric: chooses the best checkpoint; None without validation rows.
        recipe: says whether checkpoints are averaged at the end, so that none may be deleted
            before.

    Raises:
        ValueError: see `check_arguments`; another `output_dir`; an evaluation of no rows; a package
            that the arguments need is not installed.
    """
    check_arguments(task, given)
    strategy = of_arguments(given, "eval_strategy")
    if best_metric is None and strategy not in (None, "no"):
        raise ValueError(
            f"eval_strategy must come with validation rows to evaluate on, got {str(strategy)!r} "
            "and none"
        )
    if isinstance(given, TrainingArguments):
        if Path(str(given.output_dir)).absolute() != Path(output_dir).absolute():
            raise ValueError(
                f"arguments.output_dir must be output_dir, {output_dir}, got {given.output_dir}"
            )
        return given
    given = dict(given or {})
    own = FEW_SHOT if recipe.few_shot else {}
    chosen = {**task.arguments(), "save_strategy": "epoch", **own, "output_dir": output_dir}
    chosen["log_level_replica"] = "error"  # one process speaks
    if recipe.average_last:
        chosen["save_total_limit"] = None
    if best_metric is not None:
        chosen["eval_strategy"] = "epoch"
        if not recipe.average_last and not {"eval_strategy", "save_strategy"} & set(given):
            chosen.update(best_options(given, best_metric))
    try:
        return task.arguments_class(**{**chosen, **given})
    except ImportError as error:
        raise ValueError(f"arguments: {' '.join(str(error).split())}") from error


def best_options(given: Mapping[str, Any], best_metric: str) -> dict[str, Any]:
    """The arguments that go back to the best checkpoint.

    Of a metric of the user's own, the library knows that a loss is better when it is lower.
    """
    best: dict[str, Any] = {"load_best_model_at_end": True}
    if given.get("metric_for_best_model") is None:
        best.update(metric_for_best_model=best_metric, greater_is_better=True)
    return best


def word(value: Any) -> str:
    """An argument as it is written on the command line."""
    return str(getattr(value, "value", value))


def check_early_stopping(recipe: RecipeOptions, arguments: TrainingArguments) -> None:
    """Refuse, with a ValueError, early stopping where nothing is compared."""
    if recipe.early_stopping is None:
        return
    if not arguments.load_best_model_at_end or arguments.metric_for_best_model is None:
        raise ValueError(
            "early_stopping must come with validation rows and load_best_model_at_end, got "
            f"eval_strategy {word(arguments.eval_strategy)!r} and load_best_model_at_end "
            f"{arguments.load_best_model_at_end}"
        )
