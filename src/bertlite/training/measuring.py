"""The library's `Trainer` with the tasks' figures, safe checkpoints and a watch over the loss."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    EvalPrediction,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainingArguments,
)

from ..pretraining.training import mark_complete
from ..tasks.base import Task, TaskOptions
from .adapters import plain_model
from .calibration import with_all_labels
from .class_weights import WeightedCount

# What an evaluation of the library holds beside figures.
NOT_FIGURES = (
    "epoch",
    "runtime",
    "samples_per_second",
    "steps_per_second",
    "model_preparation_time",
)
Metrics = Callable[[EvalPrediction], dict[str, float]]


class MeasuringMixin(WeightedCount):
    """What runs of the tasks add to a `Trainer`.

    `evaluate` gives, beside the loss, the figures that a user of the model gets on `measured_rows`.
    A loss that is no number stops the run before it can be saved. Checkpoints are marked once they
    are whole. Where the figure that chooses the checkpoint ties, the lower loss wins: a figure that
    is 0 in every epoch says nothing.
    """

    task: Task
    task_options: TaskOptions
    measured_rows: list[dict[str, Any]]
    finished = False  # all steps are made: `train` loads what a checkpoint holds, and ends
    finite: torch.Tensor | None = None  # whether all losses since the last look were numbers
    model: Any
    accelerator: Any
    processing_class: Any
    compute_metrics: Metrics | None
    state: Any

    def evaluation_loop(
        self,
        dataloader,
        description,
        prediction_loss_only=None,
        *args,
        metric_key_prefix="eval",
        **kw,
    ):
        """The library's, and the figures of `measured_rows`."""
        loop = super().evaluation_loop  # type: ignore[misc]
        loss_only = self.compute_metrics is None
        output = loop(
            dataloader, description, loss_only, *args, metric_key_prefix=metric_key_prefix, **kw
        )
        if getattr(self.args, "predict_with_generate", True):
            figures = self.measure(self.measured_rows)
            output.metrics.update(
                {
                    f"{metric_key_prefix}_{name}": value
                    for name, value in figures.items()
                    if isinstance(value, int | float)
                }
            )
        return output

    def measure(self, rows: list[dict[str, Any]], *, show_progress: bool = False) -> dict[str, Any]:
        """The figures of rows with the present weights."""
        answers, model = self.answers(rows, show_progress=show_progress)
        return self.task.score(rows, answers, model)

    def answers(
        self, rows: list[dict[str, Any]], *, every_label: bool = False, show_progress: bool = False
    ) -> tuple[list[dict[str, Any]], Any]:
        """What the present weights answer to rows, and the model.

        Args:
            rows: of `bertlite.data`.
            every_label: whether answers of a classifier hold the scores of all labels.
            show_progress: a bar where the work takes more than three seconds.
        """
        model = plain_model(self.accelerator.unwrap_model(self.model))
        options = generation_options(self.task_options, self.args)
        options = dataclasses.replace(options, coverage=None)  # thresholds are fitted at the end
        if every_label:
            options = with_all_labels(options, model)
        tokenizer = self.processing_class
        return self.task.predict(
            rows, model, tokenizer, options, show_progress=show_progress
        ), model

    def training_step(self, *args, **kwargs):
        """The library's, noting whether the loss is a number; nothing waits for a GPU."""
        loss = super().training_step(*args, **kwargs)  # type: ignore[misc]
        finite = loss.detach().isfinite()
        self.finite = finite if self.finite is None else self.finite & finite
        if loss.device.type == "cpu":
            self.check_finite()
        return loss

    def check_finite(self) -> None:
        """Stop where a loss was no number.

        Raises:
            ValueError: it was; nothing of the run's present weights has been saved.
        """
        if self.finite is not None and not bool(self.finite):
            step = self.state.global_step
            raise ValueError(
                f"the training loss must be a number, got NaN or infinity after step {step}: try a "
                "lower learning_rate, a smaller max_grad_norm or another precision, and look at "
                "the data; weights saved before are whole"
            )
        self.finite = None

    def log(self, logs, *args, **kwargs):
        """The library's, once the losses since the last look are known to be numbers."""
        self.check_finite()
        super().log(logs, *args, **kwargs)  # type: ignore[misc]

    def _save_checkpoint(self, model, trial):
        self.check_finite()
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        self.finite = torch.stack([weight.isfinite().all() for weight in weights]).all()
        self.check_finite()
        super()._save_checkpoint(model, trial)  # type: ignore[misc]
        if self.args.should_save:
            folder = Path(self.args.output_dir, f"checkpoint-{self.state.global_step}")
            if folder.is_dir():
                mark_complete(folder)

    def _run_epoch(self, *args, **kwargs):
        if self.finished or self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)  # type: ignore[misc]

    def _determine_best_metric(self, metrics, trial):
        name = f"eval_{str(self.args.metric_for_best_model).removeprefix('eval_')}"
        if self.args.metric_for_best_model is not None and name not in metrics:
            found = {each.removeprefix("eval_") for each in metrics}
            names = ", ".join(sorted(found - set(NOT_FIGURES)))
            raise ValueError(
                f"metric_for_best_model must be one of {names}, got "
                f"{self.args.metric_for_best_model!r}"
            )
        better = super()._determine_best_metric(metrics, trial)  # type: ignore[misc]
        if better or name not in metrics or metrics[name] != self.state.best_metric:
            return better
        losses = {
            entry["step"]: entry["eval_loss"]
            for entry in self.state.log_history
            if "eval_loss" in entry
        }
        tied = metrics["eval_loss"] < losses.get(self.state.best_global_step, float("-inf"))
        if tied:
            self.state.best_global_step = self.state.global_step
        return tied


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
