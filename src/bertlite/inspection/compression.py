"""From a trained model to a faster one: importance, cut, short recovery, and what it cost.

The way of `bertlite prune`.
"""

import copy
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainingArguments, set_seed

from ..data.places import check_writable
from ..inference.loading import SEQ2SEQ
from ..tasks.base import TaskOptions
from ..tasks.registry import task_named
from ..training.calibration import forget_temperature
from ..training.evaluation import infer_task
from ..training.options import DataOptions, ModelOptions
from ..training.progress import quiet
from ..training.starting import Start
from ..training.trainer import encode_rows
from ..training.validation_split import split_validation
from .compression_report import draw_curve, write_pruning_card
from .cutting import (
    Cut,
    cut_by_importance,
    cut_for_speed,
    cut_top_layers,
    layers_for_speed,
    measured_speed,
)
from .importance import Importance, gradient_importance
from .layer_parts import layers_of
from .prune_options import PruneOptions
from .pruning import check_family
from .recovery import DistillingTrainer

FIGURES_FILE = "pruning.json"
CURVE_SHARES = (0.2, 0.4, 0.6)
TIMED_ROWS = 64
FINAL_ROUNDS = 9  # in which the speed of what is saved is measured
EVERY_COLUMN = ("input_ids", "attention_mask", "token_type_ids")


@dataclass
class Point:
    """A model on the curve of metric against speed.

    Attributes:
        way: "unpruned", "heads and neurons" or "whole layers".
        recovered: whether it was trained after the cut.
        speed: how many times as fast as the unpruned model.
        figures: on the validation rows.
        parameters: how many it has.
    """

    way: str
    recovered: bool
    speed: float
    figures: dict[str, float]
    parameters: int


@dataclass
class Compression:
    """What was made.

    Attributes:
        model: the smaller model, as it was saved.
        tokenizer: its tokenizer.
        points: of the curve; the first is the unpruned model's.
        metric: the figure that the curve shows.
        test: figures on the test rows of "unpruned", "pruned" and "whole layers", where there are
            test rows.
        output_dir: the folder.
    """

    model: Any
    tokenizer: Any
    points: list[Point]
    metric: str
    test: dict[str, dict[str, float]] = field(default_factory=dict)
    output_dir: str = ""


class Workshop:
    """What the steps of one compression share: task, rows, tokenizer, options."""

    def __init__(
        self,
        source: Any,
        task_name: str | None,
        tokenizer: Any,
        data_options: DataOptions,
        task_options: TaskOptions,
        options: PruneOptions,
        device: Any,
    ):
        self.task = task_named(task_name or infer_task(source))
        if self.task.head == SEQ2SEQ:
            raise ValueError(
                f"model must be an encoder with a head, got one for {self.task.name}: cut it with "
                "bertlite.inspection.prune"
            )
        self.options, self.task_options, self.device = options, task_options, device
        start = Start.check(self.task, source, tokenizer, ModelOptions())
        self.data = read_rows(self.task, data_options, start, options.seed)
        self.tokenizer = start.tokenizer
        self.model = start.build(self.data.labels, self.data.problem_type, options.seed)
        check_family(self.model, "encoder", by_layer=True)
        if device is not None:
            self.model.to(device)
        self.model.eval()
        self.metric = self.task.best_metric(self.data.problem_type)
        self.features = encode_rows(
            self.task, self.data.train, self.tokenizer, self.model, task_options
        )
        self.collate = self.task.collator(self.tokenizer, self.model)

    def measure(self, model: Any, split: str = "validation") -> dict[str, float]:
        """Figures of a model on the rows of a split."""
        rows = list(getattr(self.data, split))
        found = self.task.measure(
            rows, model, self.tokenizer, self.task_options, show_progress=False
        )
        return {name: value for name, value in found.items() if isinstance(value, int | float)}

    def point(self, way: str, model: Any, speed: float, *, recovered: bool = False) -> Point:
        """A model measured for the curve."""
        count = sum(weight.numel() for weight in model.parameters())
        return Point(way, recovered, speed, self.measure(model), count)

    def batches(self, features: Any) -> list[dict[str, Any]]:
        """Features in batches, padded, those of equal length together."""
        rows = sorted((dict(each) for each in features), key=lambda row: len(row["input_ids"]))
        size, device = self.options.batch_size, self.model.device
        groups = [rows[start : start + size] for start in range(0, len(rows), size)]
        return [
            {name: value.to(device) for name, value in self.collate(group).items()}
            for group in groups
        ]

    def importance(self) -> Importance:
        """Of heads and neurons, on some training rows."""
        count = min(self.options.importance_examples, len(self.features))
        drawn = self.features.shuffle(seed=self.options.seed).select(range(count))
        return gradient_importance(self.model, self.batches(drawn), power=2)

    def timed_batches(self) -> list[dict[str, Any]]:
        """Inputs of validation rows, on which speed is measured."""
        rows = Dataset.from_list(list(self.data.validation)[:TIMED_ROWS])
        features = encode_rows(self.task, rows, self.tokenizer, self.model, self.task_options)
        return [
            {name: value for name, value in batch.items() if name in EVERY_COLUMN}
            for batch in self.batches(features)
        ]

    def recover(self, model: Any, cut: Cut) -> Any:
        """Train a pruned model where it lies."""
        if not self.options.epochs:
            return model
        set_seed(self.options.seed)
        with TemporaryDirectory() as folder:
            trainer = DistillingTrainer(
                model=model,
                args=self.arguments(folder),
                train_dataset=self.features,
                data_collator=self.collate,
                processing_class=self.tokenizer,
            )
            trainer.remove_callback(PrinterCallback)  # its figures are for no reader
            if self.options.distill:
                there = range(len(layers_of(self.model)))
                trainer.teacher = self.model
                trainer.kept = tuple(number for number in there if number not in cut.layers)
            trainer.train()
        return model.eval()

    def arguments(self, folder: str) -> TrainingArguments:
        """Of the recovery: neighbours in a batch are of about one length."""
        on_cpu = self.device is None or torch.device(self.device).type == "cpu"
        return TrainingArguments(
            folder,
            num_train_epochs=self.options.epochs,
            learning_rate=self.options.learning_rate,
            per_device_train_batch_size=self.options.batch_size,
            train_sampling_strategy="group_by_length",
            warmup_steps=0.1,
            weight_decay=0.01,
            seed=self.options.seed,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            use_cpu=on_cpu,
        )


def read_rows(task: Any, options: DataOptions, start: Start, seed: int) -> Any:
    """Checked training and validation rows.

    Raises:
        ValueError: bad rows, or none of one of the two.
    """
    if options.train is None:
        raise ValueError("data must name a file of training rows, got none")
    if options.validation is None:
        raise ValueError(
            "validation must name a file, or a share of the training rows such as 0.1, got none"
        )
    if options.streaming:
        raise ValueError("streaming must be left out here: rows are read several times")
    data = options.prepare(task.name, labels=list(options.labels) or start.known_labels())
    if options.validation_share is not None:
        split_validation(data, options.validation_share, seed)
    for name in ("train", "validation"):
        if getattr(data, name) is None or not len(getattr(data, name)):
            raise ValueError(f"{name} must hold rows, got none")
    return data


def compress(
    model: str | os.PathLike | Any,
    *,
    output_dir: str | os.PathLike,
    task: str | None = None,
    tokenizer: Any = None,
    data_options: DataOptions,
    task_options: TaskOptions | None = None,
    options: PruneOptions | None = None,
    device: Any = None,
    say: Callable[[str], None] = print,
) -> Compression:
    """Make a trained encoder faster by pruning, and say what it cost.

    Args:
        model: a folder, a hub name or a loaded model with a head.
        output_dir: a new or empty folder for the model, its tokenizer, `pruning.json`, the curve
            and a card.
        task: a name of `TASKS`; None: told from the model.
        tokenizer: a tokenizer or its folder; None: the model's.
        data_options: where rows come from: `train` and `validation`, and `test` to measure on.
        task_options: how texts are cut.
        options: how much is cut.
        device: where to run; speed is measured there.
        say: takes lines of progress.

    Returns:
        The smaller model and its figures, all of which are in `output_dir` too.

    Raises:
        ValueError: bad rows or options, a model that is none of bertlite's, a speed that no cut
            reaches, a folder that holds something.
    """
    options = options or PruneOptions()
    target = check_target(output_dir)
    with quiet(reading=True):
        shop = Workshop(
            model, task, tokenizer, data_options, task_options or TaskOptions(), options, device
        )
    with quiet():
        return worked(shop, target, model, say)


def worked(shop: Workshop, target: Path, source: Any, say: Callable[[str], None]) -> Compression:
    """All steps after the reading."""
    timed, options = shop.timed_batches(), shop.options
    points = [shop.point("unpruned", shop.model, 1.0)]
    say(f"unpruned      {shop.metric} {points[0].figures[shop.metric]:.4f} on the validation rows")
    importance = shop.importance()
    cut, speed = cut_for_speed(shop.model, importance, options.speed, timed)
    say(f"cut           {described_cut(cut)}; {speed:.2f} times as fast")
    points += curve(shop, importance, timed) if options.curve else []
    smaller = cut.apply(shop.model)
    forget_temperature(smaller)
    points.append(shop.point("heads and neurons", smaller, speed))
    smaller = shop.recover(smaller, cut)
    points.append(finished_point(shop, "heads and neurons", smaller, timed))
    say(line_of(points[-1], shop.metric))
    test = {}
    if shop.data.test is not None:
        test = {"unpruned": shop.measure(shop.model, "test")}
        test["pruned"] = shop.measure(smaller, "test")
    if options.baseline:
        shallow, point = baseline(shop, timed)
        points.append(point)
        say(line_of(point, shop.metric))
        if test:
            test["whole layers"] = shop.measure(shallow, "test")
    made = Compression(smaller, shop.tokenizer, points, shop.metric, test, str(target))
    save(made, target, source, shop, cut)
    return made


def curve(shop: Workshop, importance: Importance, timed: list) -> list[Point]:
    """Points without recovery: more and more heads and neurons cut, and more and more layers."""
    points = []
    for share in CURVE_SHARES:
        smaller = cut_by_importance(shop.model, importance, share).apply(shop.model)
        speed = measured_speed(shop.model, smaller, timed)
        points.append(shop.point("heads and neurons", smaller, speed))
    there = len(layers_of(shop.model))
    for count in sorted({max(1, there * part // 6) for part in range(1, 5)} & set(range(there))):
        smaller = cut_top_layers(shop.model, count).apply(shop.model)
        speed = measured_speed(shop.model, smaller, timed)
        points.append(shop.point("whole layers", smaller, speed))
    return points


def baseline(shop: Workshop, timed: list) -> tuple[Any, Point]:
    """The model without its last layers, as fast as asked, recovered likewise."""
    cut, _ = layers_for_speed(shop.model, shop.options.speed, timed)
    shallow = shop.recover(cut.apply(shop.model), cut)
    return shallow, finished_point(shop, "whole layers", shallow, timed)


def finished_point(shop: Workshop, way: str, model: Any, timed: list) -> Point:
    """A recovered model measured once more, speed included."""
    speed = measured_speed(shop.model, model, timed, FINAL_ROUNDS)
    return shop.point(way, model, speed, recovered=bool(shop.options.epochs))


def line_of(point: Point, metric: str) -> str:
    """A point in words."""
    return (
        f"recovered     {metric} {point.figures[metric]:.4f}, {point.speed:.2f} times as fast, "
        f"{point.parameters:,} parameters ({point.way})"
    )


def described_cut(cut: Cut) -> str:
    """How much a cut takes."""
    heads, neurons = (sum(map(len, each.values())) for each in (cut.heads, cut.neurons))
    return f"{heads} heads and {neurons:,} inner neurons"


def check_target(output_dir: str | os.PathLike) -> Path:
    """The folder to write to.

    Raises:
        ValueError: it is a file, holds something, or cannot be written.
    """
    target = Path(output_dir)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"output must be a new or empty folder, got {output_dir}")
    check_writable("output", target)
    return target


def save(made: Compression, target: Path, source: Any, shop: Workshop, cut: Cut) -> None:
    """Write model, tokenizer, figures, curve and card."""
    made.model.save_pretrained(target)
    made.tokenizer.save_pretrained(target)
    record = {
        "task": shop.task.name,
        "model": str(getattr(source, "name_or_path", source)),
        "metric": made.metric,
        "options": asdict(shop.options),
        "cut": asdict(cut),
        "points": [asdict(point) for point in made.points],
        "test": made.test,
        "rows": {
            name: len(getattr(shop.data, name))
            for name in ("train", "validation", "test")
            if getattr(shop.data, name) is not None
        },
        "batch_rows": shop.options.batch_size,
        "threads": torch.get_num_threads(),
    }
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    (target / FIGURES_FILE).write_text(text, encoding="utf-8")
    picture = draw_curve(made.points, made.metric, target / "pruning_curve.png")
    write_pruning_card(target, shop.task, copy.deepcopy(record), has_picture=picture is not None)
