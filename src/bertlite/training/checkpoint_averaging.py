"""The average of a run's last checkpoints, which translates better than the last one.

Vaswani et al. 2017, section 6.1: the base model averages the last 5 checkpoints, the big one the
last 20.
"""

import json
import math
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import TrainerCallback
from transformers.utils import logging

from bertlite.models.files import check_file, whole_folder

logger = logging.get_logger(__name__)

# The weights, and the state of one point of a run, which an average has not.
NOT_COPIED: tuple[str, ...] = (
    "*.safetensors",
    "*.safetensors.index.json",
    "optimizer.*",
    "scheduler.*",
)
NOT_COPIED += ("scaler.*", "rng_state*", "trainer_state.json", "training_args.bin")


def last_checkpoints(run_folder: str | Path, last: int) -> list[Path]:
    """The last checkpoints of a `Trainer`'s output folder, oldest first.

    Raises:
        ValueError: there are fewer than `last`, or `last` is below 1.
    """
    if last < 1:
        raise ValueError(f"last must be at least 1, got {last}")
    found = [
        path
        for path in Path(run_folder).glob("checkpoint-*")
        if re.fullmatch(r"checkpoint-\d+", path.name)
    ]
    found.sort(key=lambda path: int(path.name.split("-")[1]))
    if len(found) < last:
        raise ValueError(
            f"run_folder must hold at least {last} checkpoints, got {len(found)} in {run_folder}"
        )
    return found[-last:]


def average_checkpoints(
    checkpoints: str | Path | Sequence[str | Path], output: str | Path, *, last: int = 5
) -> Path:
    """Write the mean of the weights of several checkpoints into a new folder, which loads as each
    of them does.

    Integer tensors, and all other files of the model and tokenizer, are those of the last
    checkpoint.

    Args:
        checkpoints: a `Trainer`'s output folder, or the folders themselves, oldest first
            (safetensors).
        output: the new folder.
        last: how many checkpoints of an output folder are averaged.

    Returns:
        `output`.

    Raises:
        ValueError: too few checkpoints; one without safetensors, damaged, or with other tensors
            than the rest; `output` exists and is not empty.
    """
    if isinstance(checkpoints, str | Path):
        folders = last_checkpoints(checkpoints, last)
    else:
        folders = [Path(folder) for folder in checkpoints]
    if not folders:
        raise ValueError("checkpoints must name at least one folder, got none")
    target = Path(output)
    if target.exists() and (target.is_file() or any(target.iterdir())):
        raise ValueError(f"output must be a new folder, got {output}, which exists")
    files = [tensor_files(folder) for folder in folders]
    averaged = _average(folders, files)
    with whole_folder(target) as written:
        for path in folders[-1].iterdir():
            if path.is_file() and not any(path.match(pattern) for pattern in NOT_COPIED):
                shutil.copy2(path, written)
        save_file(averaged, written / "model.safetensors", metadata={"format": "pt"})
    return target


def tensor_files(folder: Path) -> dict[str, Path]:
    """The file of each tensor of a checkpoint, in one file or in shards.

    Raises:
        ValueError: no safetensors weights, or a damaged file.
    """
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.is_file():
        names = json.loads(index.read_text())["weight_map"]
        files = {name: folder / file for name, file in names.items()}
    elif single.is_file():
        check_file(single)
        with safe_open(single, framework="pt") as file:
            return dict.fromkeys(file.keys(), single)
    else:
        raise ValueError(f"checkpoints must hold model.safetensors, got none in {folder}")
    for path in set(files.values()):
        check_file(path)
    return files


def _average(folders: list[Path], files: list[dict[str, Path]]) -> dict[str, torch.Tensor]:
    """The mean of every tensor.

    One tensor of one checkpoint at a time is in memory beside the means.
    """
    for folder, names in zip(folders, files, strict=True):
        if names.keys() != files[0].keys():
            other = sorted(names.keys() ^ files[0].keys())[0]
            raise ValueError(
                f"checkpoints must hold the same tensors: {other} is in one of {folders[0]} and "
                f"{folder}"
            )
    return {name: _mean(name, [names[name] for names in files]) for name in files[0]}


def _mean(name: str, paths: list[Path]) -> torch.Tensor:
    """The mean of one tensor over several files, summed in double precision.

    The last one where it holds integers.
    """
    with safe_open(paths[-1], framework="pt") as file:
        last = file.get_tensor(name)
    total = torch.zeros(last.shape, dtype=torch.float64)
    for path in paths:
        with safe_open(path, framework="pt") as file:
            tensor = file.get_tensor(name)
        if (tensor.shape, tensor.dtype) != (last.shape, last.dtype):
            came = (
                f"{tuple(tensor.shape)} {tensor.dtype} in {path} and {tuple(last.shape)} "
                f"{last.dtype} in {paths[-1]}"
            )
            raise ValueError(f"checkpoints must agree in the shapes of tensors: {name} is {came}")
        total += tensor
    return (total / len(paths)).to(last.dtype) if last.is_floating_point() else last


class CheckpointAveraging(TrainerCallback):
    """At the end of training, average the last checkpoints of the run into `output_dir/averaged`.

    Checkpoints that an earlier run left in the folder do not count, but for those before the step
    it resumes from. Where a run saved fewer than `last`, because it is short or was stopped, those
    that there are count, and a warning says how many. Where it was stopped before the first, the
    folder holds its final weights.

    Args:
        last: how many.
        folder: name of the new folder in the output folder; an average of an earlier run there is
            replaced.

    Raises:
        ValueError: at the start of training, where the arguments save no checkpoint, or keep fewer
            than `last`.
    """

    def __init__(self, last: int = 5, folder: str = "averaged"):
        if last < 1:
            raise ValueError(f"last must be at least 1, got {last}")
        self.last, self.folder = last, folder
        self.steps: set[int] = set()  # at which this run has saved

    def on_train_begin(self, args, state, control, **kwargs):
        kept = (
            None
            if args.save_total_limit is None
            else args.save_total_limit - bool(args.load_best_model_at_end)
        )
        if kept is not None and kept < self.last:
            room = self.last + bool(args.load_best_model_at_end)
            raise ValueError(
                f"save_total_limit must be None or at least {room}, got {args.save_total_limit}"
            )
        planned = {
            "no": 0,
            "epoch": state.num_train_epochs,
            "steps": math.ceil(state.max_steps / state.save_steps),
        }
        strategy = args.save_strategy.value
        found = planned.get(strategy, self.last)
        if found < 1:
            came = f"none with save_strategy {strategy!r}"
            raise ValueError(
                f"save_strategy must save at least one checkpoint to average, got {came}"
            )
        if found < self.last:
            self.warn(f"the run is to save {found} with save_strategy {strategy!r}")
        names = (
            path.name.removeprefix("checkpoint-")
            for path in Path(args.output_dir).glob("checkpoint-*")
        )
        self.steps = {
            int(step) for step in names if step.isdigit() and int(step) <= state.global_step
        }

    def on_save(self, args, state, control, **kwargs):
        self.steps.add(state.global_step)

    def on_train_end(self, args, state, control, **kwargs):
        if not state.is_world_process_zero:
            return
        folders = [Path(args.output_dir, f"checkpoint-{step}") for step in sorted(self.steps)]
        folders = [folder for folder in folders if folder.is_dir()][-self.last :]
        target = Path(args.output_dir, self.folder)
        if target.exists():
            shutil.rmtree(target)
        if folders:
            if len(folders) < self.last:
                self.warn(f"the run saved {len(folders)}, which are averaged")
            average_checkpoints(folders, target)
            return
        self.warn(f"the run saved none: {target} holds its final weights, not an average")
        for part in (kwargs["model"], kwargs.get("processing_class")):
            if part is not None:
                part.save_pretrained(target)

    def warn(self, found: str) -> None:
        """Say that there are fewer checkpoints than were asked for."""
        logger.warning(
            f"CheckpointAveraging: the last {self.last} checkpoints were to be averaged, but "
            f"{found}"
        )
