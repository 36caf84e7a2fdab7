"""The card of a saved folder, made anew from what its run recorded."""

import json
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from .card import BLANK, Published, numbers
from .card_check import sections_of, split

RUN_FILE, PRETRAINING_FILE, FIGURES_FILE = (
    "run_arguments.json",
    "pretraining.json",
    "metrics.json",
)
RESULTS = ".eval_results"


def write_card_of(folder: str | os.PathLike, published: Published | None = None) -> Path:
    """Write the card of a folder that `bertlite finetune` or `bertlite pretrain` made.

    Args:
        folder: where the model is saved, with the run's record and figures.
        published: what the run cannot know: licences and languages; what is left out here stays as
            the card that is there says it.

    Returns:
        The card's path.

    Raises:
        ValueError: there is no record of a run, or it cannot be read.
    """
    path = Path(folder)
    published = (published or Published()).completed(published_in(path))
    if (path / RUN_FILE).is_file():
        from ..tasks.registry import task_named
        from .run_card import write_run_card

        record, figures = read(path / RUN_FILE), read(path / FIGURES_FILE)
        return write_run_card(path, task_named(record["task"]), figures, record, published)
    if (path / PRETRAINING_FILE).is_file():
        from ..inference.loading import tokenizer_from
        from .pretraining_card import write_pretraining_card

        run, figures = read(path / PRETRAINING_FILE), read(path / FIGURES_FILE)
        config = SimpleNamespace(**read(path / "config.json"))
        tokenizer = tokenizer_from("card", str(path), keep=False)
        return write_pretraining_card(path, config, tokenizer, figures, run, published)
    raise ValueError(
        f"folder must hold the record of a run, {RUN_FILE} or {PRETRAINING_FILE}, got neither in "
        f"{path}: write its README.md by hand, and let bertlite card {path} --check look at it"
    )


def published_in(folder: Path) -> Published:
    """What the card that is there says of licences and languages; nothing where there is none."""
    path = folder / "README.md"
    fields, body = split(path.read_text(encoding="utf-8")) if path.is_file() else (None, "")
    language = (fields or {}).get("language") or ()
    lines = sections_of(body).get("Licences", "")
    return Published(
        license=(fields or {}).get("license"),
        language=[language] if isinstance(language, str) else language,
        data_license=given_in(lines, "Data"),
        base_license=given_in(lines, r"Weights it started from \(`.*`\)"),
    )


def given_in(lines: str, subject: str) -> str | None:
    """What the section on licences says of a subject; None where that is a blank."""
    found = re.search(rf"^- {subject}: (.+)\.$", lines, flags=re.MULTILINE)
    return None if found is None or found[1] == BLANK else found[1]


def read(path: Path) -> dict[str, Any]:
    """The fields of a JSON file; a ValueError where there are none."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} must be one that a run wrote, got none: {error}") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{path} must hold fields, got {type(fields).__name__}")
    return fields


def write_benchmark_result(folder: str | os.PathLike, dataset: str, task: str, metric: str) -> Path:
    """Write a result for the leaderboard of a benchmark that is registered with the hub.

    The format is the hub's `.eval_results/*.yaml` (https://huggingface.co/docs/hub/eval-results).
    Which data sets are registered only the hub knows: others are not shown by it.

    Args:
        folder: where the model is saved, with `metrics.json`.
        dataset: the benchmark's name on the hub, such as "nyu-mll/glue".
        task: its task there.
        metric: the figure of `metrics.json` that it asks for, of the test rows.

    Returns:
        The file's path.

    Raises:
        ValueError: the figure was not measured on test rows.
    """
    import yaml
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    path = Path(folder)
    found = numbers(read(path / FIGURES_FILE).get("test") or {})
    if metric not in found:
        raise ValueError(
            f"metric must be a figure of the test rows in {FIGURES_FILE}, one of "
            f"{', '.join(sorted(found)) or 'none, since no test rows were measured'}, "
            f"got {metric!r}"
        )
    entry = EvalResultEntry(
        dataset_id=dataset, task_id=task, value=found[metric], notes="measured by bertlite finetune"
    )
    target = path / RESULTS / f"{dataset.replace('/', '_')}.yaml"
    target.parent.mkdir(exist_ok=True)
    content = yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False)
    target.write_text(content, encoding="utf-8")
    return target
