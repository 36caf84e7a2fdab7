"""The library's `Trainer` with the tasks' figures, features and recipes."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset, IterableDataset
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, Trainer, TrainingArguments

from ..inference.loading import check_counts, check_number
from ..tasks.base import Task, TaskOptions
from .checkpoint_averaging import CheckpointAveraging
from .optimizers import bert_optimizer, transformer_optimizers
from .options import ModelOptions
from .starting import Start
from .token_batches import TokenBatchCollator, TokenBatches


class MeasuringMixin:
    """Adds, to the loss that `evaluate` computes, the figures that a user of the model gets on
    `measured_rows`.
    """

    task: Task
    task_options: TaskOptions
    measured_rows: list[dict[str, Any]]

    def evaluation_loop(
        self,
        dataloader,
        description,
        prediction_loss_only=None,
        *args,
        metric_key_prefix="eval",
        **kw,
    ):
        loop = super().evaluation_loop  # type: ignore[misc]
        output = loop(
            dataloader, description, True, *args, metric_key_prefix=metric_key_prefix, **kw
        )
        arguments = self.args  # type: ignore[attr-defined]
        if getattr(arguments, "predict_with_generate", True):
            model = self.accelerator.unwrap_model(self.model)  # type: ignore[attr-defined]
            options = generation_options(self.task_options, arguments)
            tokenizer, shown = self.processing_class, not arguments.disable_tqdm  # type: ignore[attr-defined]
            found = self.task.measure(
                self.measured_rows, model, tokenizer, options, show_progress=shown
            )
            output.metrics.update(
                {
                    f"{metric_key_prefix}_{name}": value
                    for name, value in found.items()
                    if not isinstance(value, str)  # what a figure was measured by
                }
            )
        return output

    def _determine_best_metric(self, metrics, trial):
        """Among checkpoints of equal figures, the one with the lower loss is the better one.

        Without this the first would win: of figures that are 0 in each epoch, the untrained model.
        """
        state, arguments = self.state, self.args  # type: ignore[attr-defined]
        if super()._determine_best_metric(metrics, trial):  # type: ignore[misc]
            return True
        name = f"eval_{arguments.metric_for_best_model or ''}".replace("eval_eval_", "eval_")
        tied = metrics.get(name) is not None and metrics[name] == state.best_metric
        losses = [
            entry["eval_loss"]
            for entry in state.log_history
            if entry.get("step") == state.best_global_step and "eval_loss" in entry
        ]
        if not tied or not losses or not metrics.get("eval_loss", math.inf) < losses[-1]:
            return False
        state.best_global_step = state.global_step
        return True


class MeasuringTrainer(MeasuringMixin, Trainer):
    """For encoders."""


class MeasuringSeq2SeqTrainer(MeasuringMixin, Seq2SeqTrainer):
    """For encoder-decoders."""


def generation_options(options: TaskOptions, arguments: TrainingArguments) -> TaskOptions:
    """`TaskOptions` with the beams and lengths that `Seq2SeqTrainingArguments` ask for."""
    if not isinstance(arguments, Seq2SeqTrainingArguments):
        return options
    beams, longest = arguments.generation_num_beams, arguments.generation_max_length
    return dataclasses.replace(
        options,
        num_beams=beams or options.num_beams,
        max_new_tokens=longest or options.max_new_tokens,
    )


def encode_rows(task: Task, data: Any, tokenizer: Any, model: Any, options: TaskOptions) -> Any:
    """Rows of `bertlite.data` as features.

    A `Dataset`, or an `IterableDataset` where they stream.
    """

    def encode(batch: dict[str, list]) -> dict[str, list]:
        names = list(batch)
        rows = [
            dict(zip(names, values, strict=True)) for values in zip(*batch.values(), strict=True)
        ]
        features = task.encode(rows, tokenizer, model, options)
        return {
            name: [feature[name] for feature in features]
            for name in (features[0] if features else ())
        }

    if isinstance(data, IterableDataset):
        columns = data.column_names or list(next(iter(data)))
        return data.map(encode, batched=True, remove_columns=columns)
    kept = {"load_from_cache_file": False, "keep_in_memory": len(data) < 200_000}
    return data.map(encode, batched=True, remove_columns=data.column_names, desc="Encoding", **kept)


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
    task: Task, given: Any, output_dir: str, best_metric: str | None, averages: bool
) -> Any:
    """The run's `TrainingArguments`: as they came, or the task's defaults with the fields given.

    Args:
        given: `TrainingArguments`, a dict of their fields, or None.
        best_metric: chooses the best checkpoint; None without validation rows.
        averages: whether checkpoints are averaged at the end, so that none may be deleted before.

    Raises:
        ValueError: see `check_arguments`; another `output_dir`; an evaluation of no rows.
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
    chosen = {**task.arguments(), "save_strategy": "epoch", "output_dir": output_dir}
    if averages:
        chosen["save_total_limit"] = None
    if best_metric is not None:
        chosen["eval_strategy"] = "epoch"
        if not averages and not {"eval_strategy", "save_strategy"} & set(given):
            best = {
                "load_best_model_at_end": True,
                "metric_for_best_model": best_metric,
                "greater_is_better": True,
            }
            chosen.update(best)
    return task.arguments_class(**{**chosen, **given})


def make_trainer(
    start: Start,
    model: Any,
    arguments: Any,
    data: Any,
    options: TaskOptions,
    callbacks: list,
    *,
    shuffle_buffer: int,
) -> Any:
    """A trainer of the recipe that was asked for, all rows encoded.

    Args:
        shuffle_buffer: of rows that stream, how many are in memory for the next one to be drawn
            from.

    Raises:
        ValueError: token batches of rows that stream; a row that is longer than a batch.
    """
    task, recipe = start.task, start.options
    collator: Any = task.collator(start.tokenizer, model)
    rows = data.train
    if not isinstance(rows, Dataset):  # the library's Trainer shuffles no stream
        rows = rows.shuffle(seed=arguments.data_seed or arguments.seed, buffer_size=shuffle_buffer)
    train = encode_rows(task, rows, start.tokenizer, model, options)
    if recipe.batch_tokens is not None:
        if not isinstance(train, Dataset):
            raise ValueError(
                "batch_tokens must be left out where rows stream: their lengths are not known"
            )
        target = "labels" if isinstance(arguments, Seq2SeqTrainingArguments) else None
        train = TokenBatches(
            train, max_tokens=recipe.batch_tokens, target_column=target, seed=arguments.seed
        )
        arguments.per_device_train_batch_size, collator = 1, TokenBatchCollator(collator)
        arguments.train_sampling_strategy = "random"
    measured = [] if data.validation is None else list(data.validation)
    held = (
        None
        if not measured
        else encode_rows(task, Dataset.from_list(measured), start.tokenizer, model, options)
    )
    if recipe.average_last:
        callbacks = [*callbacks, CheckpointAveraging(recipe.average_last)]
    kind = (
        MeasuringSeq2SeqTrainer
        if isinstance(arguments, Seq2SeqTrainingArguments)
        else MeasuringTrainer
    )
    trainer = kind(
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=held,
        data_collator=collator,
        processing_class=start.tokenizer,
        callbacks=callbacks,
        optimizers=optimizers(recipe, model, arguments),
    )
    trainer.task, trainer.task_options, trainer.measured_rows = task, options, measured
    return trainer


def optimizers(recipe: ModelOptions, model: Any, arguments: TrainingArguments) -> tuple:
    """Optimizer and schedule of a recipe; `Trainer` makes what is None."""
    if recipe.recipe == "transformer":
        return transformer_optimizers(
            model, warmup_steps=recipe.noam_warmup_steps, factor=recipe.noam_factor
        )
    if recipe.recipe == "bert":
        rates = {"learning_rate": arguments.learning_rate, "weight_decay": arguments.weight_decay}
        return bert_optimizer(model, **rates, layer_decay=recipe.layer_decay), None  # type: ignore[arg-type]
    return None, None


def smooth_labels(model: Any, arguments: TrainingArguments, label_smoothing: float | None) -> None:
    """Label smoothing inside our models, which do not compute the logits that `Trainer`'s own
    smoothing needs.

    Raises:
        ValueError: a model that has no such field, for which `--label_smoothing_factor` is there.
    """
    if hasattr(model.config, "label_smoothing"):
        if label_smoothing is None and arguments.label_smoothing_factor:
            label_smoothing = arguments.label_smoothing_factor
        arguments.label_smoothing_factor = 0.0
        if label_smoothing is not None:
            model.config.label_smoothing = label_smoothing
    elif label_smoothing is not None:
        raise ValueError(
            f"label_smoothing is for TransformerLite models, got {type(model).__name__}"
        )
