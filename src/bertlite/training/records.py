"""The folder of a run and its record, `run_arguments.json`, from which it can be run again."""

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from ..tasks.base import TaskOptions
from .options import DataOptions, ModelOptions, RecipeOptions, known_options

RUN_FILE = "run_arguments.json"
FIGURES_FILE = "metrics.json"
PART = re.compile(r"\..+\.part")  # a file that is being written, or that a kill left so
# What the machine or the folder decides, not the run.
NOT_REPEATED = ("output_dir", "logging_dir", "resume_from_checkpoint", "local_rank", "deepspeed")


@dataclasses.dataclass
class Settings:
    """All options of a run but for `TrainingArguments`; their names are those of the record."""

    data_options: DataOptions
    task_options: TaskOptions
    model_options: ModelOptions
    recipe_options: RecipeOptions

    @classmethod
    def gather(cls, given: Mapping[str, Any], **objects: Any) -> "Settings":
        """The options as objects, each changed by those of the options given by name that it has.

        Args:
            given: options by their names.
            objects: the fields of this class, or None for the defaults.

        Raises:
            ValueError: a name that none of them has, or a value that its class refuses.
        """
        kinds: dict[str, Any] = {
            "data_options": DataOptions,
            "task_options": TaskOptions,
            "model_options": ModelOptions,
            "recipe_options": RecipeOptions,
        }
        names = {name: {each.name for each in dataclasses.fields(kinds[name])} for name in kinds}
        known_options(given, set().union(*names.values()))
        made: dict[str, Any] = {}
        for name, kind in kinds.items():
            own = {key: value for key, value in given.items() if key in names[name]}
            base = objects.get(name)
            if base is not None and not isinstance(base, kind):
                raise ValueError(f"{name} must be {kind.__name__}, got {type(base).__name__}")
            made[name] = kind(**own) if base is None else dataclasses.replace(base, **own)
        return cls(**made)


def check_output_dir(output_dir: str | os.PathLike, task: str, resumes: bool) -> Path:
    """The folder to write to; nothing is made.

    Raises:
        ValueError: it is a file, holds something else, or checkpoints that would be mixed with new
            ones, or there is nothing to resume.
    """
    path = Path(output_dir)
    if path.exists() and not path.is_dir():
        raise ValueError(f"output_dir must be a folder, got the file {path}")
    found = sorted(each.name for each in path.iterdir()) if path.exists() else []
    held = [name for name in found if not PART.fullmatch(name)]
    if held and RUN_FILE not in held:
        raise ValueError(
            f"output_dir must be new, empty or an earlier run's, got {path}, which holds {held[0]}"
        )
    if held and (earlier := read_record(path / RUN_FILE).get("task")) != task:
        raise ValueError(
            f"output_dir must be new or of the task {task}, got {path}, which holds a run of "
            f"{earlier}"
        )
    kept = [name for name in held if name.startswith(("checkpoint-", "seed-"))]
    if kept and not resumes:
        raise ValueError(
            f"output_dir holds {kept[0]} of an earlier run: go on with resume=True "
            f"(--resume_from_checkpoint last), or give another folder; got {path}"
        )
    # A run that was killed before its first checkpoint begins anew.
    if resumes and not kept and (RUN_FILE not in held or FIGURES_FILE in held):
        raise ValueError(f"resume must find a checkpoint in output_dir, got none in {path}")
    return path


def make_output_dir(path: Path) -> None:
    """Make the folder.

    Raises:
        ValueError: it cannot be made, or nothing can be written in it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"output_dir must be a folder that can be made, got {path}: {error.strerror}"
        ) from error
    if not os.access(path, os.W_OK):
        raise ValueError(f"output_dir must be a folder that can be written, got {path}")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file that appears whole or not at all."""
    part = path.with_name(
        f".{path.name}.{os.getpid()}.part"
    )  # as PART; several processes may write it
    text = json.dumps(content, indent=2, ensure_ascii=False, default=str)
    part.write_text(text + "\n", encoding="utf-8")
    os.replace(part, path)


def write_record(
    target: Path, settings: Settings, arguments: TrainingArguments, **known: Any
) -> dict[str, Any]:
    """Write the run's record beside the model.

    Args:
        target: the run's folder.
        settings: all options.
        arguments: all training arguments.
        known: what else is known of the run, such as task, model and labels.

    Returns:
        The record.
    """
    data = settings.data_options
    splits = ("train", "validation", "test", "dataset")
    named = {name: named_data(getattr(data, name)) for name in splits}
    plain = {
        each.name: dataclasses.asdict(getattr(settings, each.name))
        for each in dataclasses.fields(settings)
        if each.name != "data_options"
    }
    # Not the rows themselves: `asdict` would copy them.
    plain["data_options"] = {
        each.name: named.get(each.name, getattr(data, each.name))
        for each in dataclasses.fields(data)
    }
    record = {**known, **plain, "arguments": arguments.to_dict()}
    write_json(target / RUN_FILE, record)
    return json.loads((target / RUN_FILE).read_text(encoding="utf-8"))


def named_data(value: Any) -> Any:
    """What a record of a run says of its data.

    Paths, names and shares as they are, of rows in memory only what they are.
    """
    if value is None or isinstance(value, str | float):
        return value
    if isinstance(value, os.PathLike):
        return str(value)
    if isinstance(value, list | tuple) and all(
        isinstance(each, str | os.PathLike) for each in value
    ):
        return [str(each) for each in value]
    count = f" of {len(value):,}" if hasattr(value, "__len__") else ""
    return f"{type(value).__name__}{count} in memory"


def read_record(file: str | os.PathLike) -> dict[str, Any]:
    """The record of a run.

    Raises:
        ValueError: no such file, or it is no record.
    """
    try:
        record = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} must be the record of a run, got none: {error}") from error
    if not isinstance(record, dict) or "task" not in record:
        raise ValueError(f"{file} must be the record of a run, got JSON without a task")
    return record


def run_again(file: str | os.PathLike) -> dict[str, Any]:
    """The arguments of `finetune` that a run was started with, from its record.

        finetune(**run_again("out/first/run_arguments.json"), output_dir="out/again")

    Labels stay those that the run found, so that classes keep their numbers.

    Args:
        file: a `run_arguments.json`, also of earlier versions.

    Raises:
        ValueError: no record, or of rows that were in memory and are gone.
    """
    record = read_record(file)
    older = {"data_options": "data", "task_options": "options", "recipe_options": "recipe"}
    parts = ("data_options", "task_options", "model_options", "recipe_options")
    options: dict[str, Any] = {}
    for part in parts:
        options.update(record.get(part) or record.get(older.get(part, "")) or {})
    for split in ("train", "validation", "test", "dataset"):
        value = options.get(split)
        if isinstance(value, str) and value.endswith(" in memory"):
            raise ValueError(f"{file}: {split} was {value}, not a file: give it again")
    if record.get("labels") and not options.get("labels"):
        options["labels"] = record["labels"]
    if record.get("problem_type") and not options.get("problem_type"):
        options["problem_type"] = record["problem_type"]
    return {
        "task": record["task"],
        "model": record.get("model"),
        "arguments": changed_arguments(record),
        **options,
        **({"seeds": record["seeds"]} if record.get("seeds") else {}),
    }


def changed_arguments(record: Mapping[str, Any]) -> dict[str, Any]:
    """The training arguments of a record that differ from the library's defaults."""
    from ..tasks.registry import task_named

    kind = task_named(record["task"]).arguments_class
    arguments = record.get("arguments") or {}
    plain = kind(output_dir="unused").to_dict()
    fields = {each.name for each in dataclasses.fields(kind) if each.init}
    return {
        name: value
        for name, value in arguments.items()
        if name in fields
        and name not in NOT_REPEATED
        and not name.endswith("_token")
        and value != plain.get(name)
    }
