"""What a run's record keeps for its card beside its options: all that only the run knows."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .card import hardware, versions

BLOCK = 1 << 20  # bytes read at a time


def run_facts(model: Any, trainer: Any, data_options: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a run that has just ended, as its record keeps them.

    Args:
        model: that was trained.
        trainer: which trained it.
        data_options: those of the record, whose files get fingerprints.

    Returns:
        The model's class, hardware, versions, which checkpoint was chosen by what, and the
        fingerprint of each file of data.
    """
    args = trainer.args
    return {
        "model_class": type(model).__name__,
        "hardware": hardware(args.device, args.world_size),
        "versions": versions(),
        "choice": choice_of(trainer),
        "fingerprints": fingerprints(data_options),
    }


def choice_of(trainer: Any) -> dict[str, Any] | None:
    """By what the checkpoint was chosen; None where nothing chose."""
    args, state = trainer.args, trainer.state
    if not args.load_best_model_at_end or state.best_model_checkpoint is None:
        return None
    return {
        "metric": str(args.metric_for_best_model).removeprefix("eval_"),
        "best": "highest" if args.greater_is_better else "lowest",
        "measured": sum("eval_loss" in entry for entry in state.log_history),
        "step": state.best_global_step,
    }


def fingerprints(data_options: Mapping[str, Any]) -> dict[str, str]:
    """The SHA-256 of each file that was read, by its name without folders.

    Two files of one name are told apart by a number.
    """
    found: dict[str, str] = {}
    for split in ("train", "validation", "test"):
        value = data_options.get(split)
        for each in value if isinstance(value, list) else [value]:
            if not isinstance(each, str) or not Path(each).is_file():
                continue
            name, number = Path(each).name, 2
            digest = sha256_of(Path(each))
            while found.get(name, digest) != digest:
                name, number = f"{Path(each).name} ({number})", number + 1
            found[name] = digest
    return found


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
