"""The same run with several seeds: how much of a figure is chance, and the best model kept."""

import shutil
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..hub.run_card import write_run_card
from ..inference.loading import check_counts
from .progress import quiet
from .records import FIGURES_FILE, RUN_FILE, read_record, write_json
from .running import FinetuneResult, Job, best_metric, train_once

# What a run's folder holds beside the model that is kept.
NOT_COPIED = ("checkpoint-*", "runs", "averaged", ".*")


def check_seeds(seeds: Any) -> list[int]:
    """The seeds as a list, empty for a single run.

    Raises:
        ValueError: no whole numbers of at least 0, or one twice.
    """
    found = [seeds] if isinstance(seeds, int) else list(seeds or [])
    check_counts(0, **{f"seeds[{place}]": seed for place, seed in enumerate(found)})
    if len(set(found)) < len(found):
        raise ValueError(f"seeds must differ from each other, got {found}")
    return found


def train_with_seeds(job: Job, target: Path, resume: bool) -> FinetuneResult:
    """Train with each seed in a folder of its own, and keep the best.

    The best is that with the best figure on the validation rows; without such rows, the first:
    test rows choose nothing.

    Args:
        job: what is trained.
        target: holds the folders `seed-N`, and the kept model.
        resume: go on with those runs that are not finished.
    """
    # The folder is known as a run's from the start, so that `resume` finds it.
    write_json(target / RUN_FILE, {"task": job.task.name, "seeds": job.seeds})
    results = []
    for place, seed in enumerate(job.seeds):
        folder = target / f"seed-{seed}"
        folder.mkdir(exist_ok=True)
        with quiet():  # a trainer sets the library's own level anew
            results.append(train_once(job, folder, resume, seed, told=place > 0))
    kept = best_of(job, results)
    figures = {
        **results[kept].metrics,
        "seeds": spread([result.metrics for result in results], job.seeds, job.seeds[kept]),
    }
    result = results[kept]
    if result.trainer.is_world_process_zero():
        copy_model(Path(result.output_dir), target)
        record = {**read_record(target / RUN_FILE), "seeds": job.seeds}
        write_json(target / RUN_FILE, record)
        write_json(target / FIGURES_FILE, figures)
        write_run_card(target, job.task, figures, record)
    job.say(spread_lines(figures["seeds"], target))
    return FinetuneResult(
        result.model,
        result.tokenizer,
        figures,
        str(target),
        result.trainer,
        result.problems,
        results[0].overview,
    )


def best_of(job: Job, results: list[FinetuneResult]) -> int:
    """The number of the run whose model is kept."""
    if job.data.validation is None:
        return 0
    name = best_metric(job)
    values = [result.metrics["validation"].get(name, float("-inf")) for result in results]
    return values.index(max(values))


def spread(runs: list[Mapping[str, Any]], seeds: list[int], kept: int) -> dict[str, Any]:
    """The figures of all runs: each, their mean, and their standard deviation (of a sample).

    Args:
        runs: the figures of each run, as in its `metrics.json`.
        seeds: of the runs.
        kept: the seed of the run whose model is kept.
    """
    found: dict[str, Any] = {"seeds": seeds, "kept": kept}
    for split in ("validation", "test"):
        parts = [run[split] for run in runs if split in run]
        if not parts:
            continue
        found[split] = {}
        for name, value in parts[0].items():
            values = [part.get(name) for part in parts]
            if not isinstance(value, int | float) or None in values:
                continue
            deviation = statistics.stdev(values) if len(values) > 1 else 0.0
            found[split][name] = {
                "mean": statistics.fmean(values),
                "standard_deviation": deviation,
                "values": values,
            }
    return found


def spread_lines(found: Mapping[str, Any], target: Path) -> str:
    """Mean and spread of all figures, for the screen."""
    lines = [f"{len(found['seeds'])} seeds; the one kept is {found['kept']}"]
    for split in ("validation", "test"):
        lines += [
            f"{split:14}{name} {part['mean']:.4g} ± {part['standard_deviation']:.2g}"
            for name, part in found.get(split, {}).items()
        ]
    return "\n".join([*lines, f"saved         {target}"])


def copy_model(source: Path, target: Path) -> None:
    """Copy a run's model, tokenizer and record, but not its checkpoints."""
    ignored = shutil.ignore_patterns(*NOT_COPIED)
    shutil.copytree(source, target, dirs_exist_ok=True, ignore=ignored)
