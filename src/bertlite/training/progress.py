"""What a run shows while it works: one bar, and nothing of the libraries below it."""

import logging as stdlib_logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import datasets
from tqdm.auto import tqdm
from transformers import TrainerCallback
from transformers.utils import logging


class ProgressBar(TrainerCallback):
    """One bar of all steps, with the epoch, the last loss and the last figures beside it."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.shown: dict[str, str] = {}

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.bar = tqdm(
                total=state.max_steps, initial=state.global_step, desc="training", unit="step"
            )

    def on_step_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.bar is None:
            return
        figures = {
            name.removeprefix("eval_"): value
            for name, value in (logs or {}).items()
            if name.startswith("eval_")
        }
        if "loss" in (logs or {}):
            self.shown["loss"] = f"{logs['loss']:.4g}"
        if "loss" in figures:
            figures["validation loss"] = figures.pop("loss")
        if chosen := str(args.metric_for_best_model or "").removeprefix("eval_"):
            figures = {
                name: value
                for name, value in figures.items()
                if name in (chosen, "validation loss")
            }
        self.shown.update(
            {name: f"{value:.4g}" for name, value in figures.items() if isinstance(value, float)}
        )
        self.bar.set_postfix({"epoch": f"{state.epoch or 0:.2g}", **self.shown}, refresh=True)

    def on_train_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.close()
            self.bar = None


@contextmanager
def quiet(*, reading: bool = False, told: bool = False) -> Iterator[None]:
    """Keep what transformers and datasets log, and their progress bars, from the screen.

    Errors are still shown. What they say of new weights, rows and steps, the run says itself.

    Args:
        reading: leave the bars with which long files are checked.
        told: keep the data's own warnings back, too: the block before training has them.
    """
    data = stdlib_logging.getLogger("bertlite.data")
    data_level = data.level
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    maps = datasets.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if told:
        data.setLevel(stdlib_logging.ERROR)
    if not reading:
        logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        data.setLevel(data_level)
        if bars:
            logging.enable_progress_bar()
        if maps:
            datasets.enable_progress_bars()
