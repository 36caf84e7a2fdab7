"""A trainer for a task and a recipe: rows as features, loss, optimizer and callbacks."""

import dataclasses
from typing import Any

from datasets import Dataset, IterableDataset
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    ProgressCallback,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainingArguments,
)
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK

from ..backends.lengths import takes_lengths
from ..data.collators import WithLengths
from ..tasks.base import Task, TaskOptions
from .adapters import plain_model
from .arguments import check_early_stopping, word
from .checkpoint_averaging import CheckpointAveraging
from .class_weights import WeightedLoss
from .few_shot import PairLoss
from .measuring import MeasuringSeq2SeqTrainer, MeasuringTrainer, Metrics
from .optimizers import bert_optimizer, transformer_optimizers
from .options import RecipeOptions
from .progress import ProgressBar
from .starting import Start
from .token_batches import TokenBatchCollator, TokenBatches


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


def check_optimizer(arguments: TrainingArguments, model: Any) -> None:
    """Refuse, with a ValueError, an optimizer whose package is not installed."""
    try:
        Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    except (ImportError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"optim must be an optimizer that is installed, got {word(arguments.optim)!r}: "
            f"{' '.join(str(error).split())}"
        ) from error


@dataclasses.dataclass
class Extras:
    """What a trainer is given beside rows and arguments."""

    callbacks: list = dataclasses.field(default_factory=list)
    compute_metrics: Metrics | None = None
    loss: WeightedLoss | PairLoss | None = None


def make_trainer(
    start: Start,
    model: Any,
    arguments: Any,
    data: Any,
    options: TaskOptions,
    recipe: RecipeOptions,
    *,
    extras: Extras,
    shuffle_buffer: int,
) -> Any:
    """A trainer of the recipe that was asked for, all rows encoded.

    Args:
        start: task and tokenizer.
        model: as it is trained: with adapters, or frozen parts.
        arguments: the run's.
        data: `TaskData`.
        options: how texts are cut.
        recipe: how the model is trained.
        extras: callbacks, metrics and loss.
        shuffle_buffer: of rows that stream, how many are in memory for the next one to be drawn
            from.

    Raises:
        ValueError: token batches of rows that stream; a row that is longer than a batch; a package
            that is not installed.
    """
    task = start.task
    collator: Any = task.collator(start.tokenizer, plain_model(model))
    if hasattr(collator, "model"):  # the library's label smoothing takes the labels away: it reads
        collator.model = plain_model(model)  # the decoder's inputs, which only the model can make
    rows = data.train
    if not isinstance(rows, Dataset):  # the library's Trainer shuffles no stream
        rows = rows.shuffle(seed=arguments.data_seed or arguments.seed, buffer_size=shuffle_buffer)
    train = encode_rows(task, rows, start.tokenizer, model, options)
    if recipe.batch_tokens is not None:
        train, collator = token_batches(train, collator, arguments, recipe.batch_tokens)
    # Of a stream, accelerate may deal the rows of one batch out to several processes.
    if isinstance(data.train, Dataset) and takes_lengths(model, arguments.device):
        collator = WithLengths(collator)
    measured = [] if data.validation is None else list(data.validation)
    held = None
    if measured:
        held = encode_rows(task, Dataset.from_list(measured), start.tokenizer, model, options)
    check_early_stopping(recipe, arguments)
    writes = isinstance(arguments, Seq2SeqTrainingArguments)
    check_optimizer(arguments, model)
    try:
        trainer = (MeasuringSeq2SeqTrainer if writes else MeasuringTrainer)(
            model=model,
            args=arguments,
            train_dataset=train,
            eval_dataset=held,
            data_collator=collator,
            processing_class=start.tokenizer,
            callbacks=[*extras.callbacks, *recipe_callbacks(recipe)],
            compute_metrics=extras.compute_metrics,
            compute_loss_func=extras.loss,
            optimizers=optimizers(recipe, model, arguments),
        )
    except (ImportError, RuntimeError) as error:
        raise ValueError(
            f"arguments must need only what is installed: {' '.join(str(error).split())}"
        ) from error
    trainer.task, trainer.task_options, trainer.measured_rows = task, options, measured
    show_one_bar(trainer)
    return trainer


def recipe_callbacks(recipe: RecipeOptions) -> list:
    """What a recipe does between the steps."""
    callbacks: list = []
    if recipe.average_last:
        callbacks.append(CheckpointAveraging(recipe.average_last))
    if recipe.early_stopping:
        callbacks.append(EarlyStoppingCallback(recipe.early_stopping))
    return callbacks


def show_one_bar(trainer: Any) -> None:
    """One progress bar in the place of the library's, which print each logged step between them."""
    # The last is that of notebooks where this is one; its own module needs IPython.
    for kind in (ProgressCallback, PrinterCallback, DEFAULT_PROGRESS_CALLBACK):
        trainer.remove_callback(kind)
    if not trainer.args.disable_tqdm:
        trainer.add_callback(ProgressBar())


def token_batches(train: Any, collator: Any, arguments: Any, batch_tokens: int) -> tuple[Any, Any]:
    """Rows and collator for batches of so many tokens; `arguments` are changed to fit.

    Raises:
        ValueError: rows that stream, or a row that is longer than a batch.
    """
    if not isinstance(train, Dataset):
        raise ValueError(
            "batch_tokens must be left out where rows stream: their lengths are not known"
        )
    target = "labels" if isinstance(arguments, Seq2SeqTrainingArguments) else None
    batches = TokenBatches(
        train, max_tokens=batch_tokens, target_column=target, seed=arguments.seed
    )
    arguments.per_device_train_batch_size = 1
    arguments.train_sampling_strategy = "random"
    return batches, TokenBatchCollator(collator)


def optimizers(recipe: RecipeOptions, model: Any, arguments: TrainingArguments) -> tuple:
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
