"""The card of a fine-tuned model, from the record of its run."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ..tasks.base import Task
from .card import NOT_RECORDED, Card, Published, as_list, as_table, numbers, write_card
from .report_parts import report_parts

SPLITS = ("validation", "test")
LIMITS = """Measured on the rows named above only. Other subjects, languages and lengths were not
measured{calibration}."""


def write_run_card(
    folder: Path,
    task: Task,
    figures: Mapping[str, Any],
    record: Mapping[str, Any],
    published: Published | None = None,
) -> Path:
    """Write `README.md` beside a fine-tuned model.

    Args:
        folder: where the model is saved.
        task: what it was trained for.
        figures: those of "train", and of "validation", "test" and "seeds" where there are such.
        record: the content of `run_arguments.json`, with the facts of the run under "run".
        published: licences and languages.

    Returns:
        The card's path.
    """
    name, published = folder.resolve().name, published or Published()
    known = "calibration" in figures["train"]
    kind = facts_of(record).get("model_class", "model")
    card = Card(
        metadata=front_matter(folder, task, figures, record, published),
        title=f"{name}: {task.name}",
        lead=f"A `{kind}` for {task.name}, trained, measured and written here by "
        "`bertlite finetune`.",
        use=f"import bertlite\n\n{task.usage}",
        figures="\n\n".join(figure_parts(figures, record)),
        data=as_list(data_lines(record)),
        recipe=recipe_lines(figures, record),
        limits=LIMITS.format(
            calibration="" if known else ", and neither was whether scores are calibrated"
        ),
        licences=published.licences(Path(record["model"]).name if record.get("model") else None),
    )
    return write_card(folder, card)


def facts_of(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the run knew of itself; nothing in records of earlier versions."""
    return record.get("run") or {}


def figure_parts(figures: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    """Tables and paragraphs of what was measured, and of what chose."""
    splits = [name for name in SPLITS if name in figures]
    if not splits:
        return ["None was measured: neither validation nor test rows were given."]
    parts = [figure_table(figures, splits), *signature_lines(figures, splits)]
    if "choice" in facts_of(record):
        parts.append(choice_line(figures, facts_of(record)["choice"]))
    else:
        parts.append(f"Which rows chose the checkpoint was {NOT_RECORDED}.")
    if "seeds" in figures:
        parts.append(seed_table(figures["seeds"]))
    else:
        seed = record["arguments"]["seed"]
        parts.append(f"One run with one seed ({seed}); chance alone moves such figures.")
    if "calibration" in figures["train"]:
        parts.append(calibration_line(figures["train"]["calibration"]))
    parts += report_parts(figures.get("report"))
    return [*parts, "Unrounded, all of them stand in `metrics.json`."]


def figure_table(figures: Mapping[str, Any], splits: list[str]) -> str:
    """A table with a column for each split that was measured."""
    names = list(dict.fromkeys(name for split in splits for name in numbers(figures[split])))
    rows = []
    for name in names:
        values = [figures[split].get(name) for split in splits]
        rows.append([name, *(None if value is None else float(value) for value in values)])
    return as_table(["", *splits], rows)


def signature_lines(figures: Mapping[str, Any], splits: list[str]) -> list[str]:
    """What the figures say of how they were computed: tokenizers and signatures."""
    said = {
        name: value
        for split in splits
        for name, value in figures[split].items()
        if isinstance(value, str)
    }
    return [as_list([f"{name}: `{value}`" for name, value in said.items()])] if said else []


def choice_line(figures: Mapping[str, Any], choice: Mapping[str, Any] | None) -> str:
    """Which rows chose the checkpoint, and what that means for their figures."""
    if choice is None:
        if "validation" not in figures:
            return "No checkpoint was chosen by these rows."
        return (
            "No checkpoint was chosen by these rows: the figures are of the weights at the end of "
            "training."
        )
    line = (
        f"The validation rows chose the checkpoint: the one with the {choice['best']} "
        f"{choice['metric']} of {choice['measured']} that were measured, after {choice['step']:,} "
        "steps. So the validation column is the best of these epochs on the rows that chose it, "
        "and says more than new rows will."
    )
    return f"{line} The test rows chose nothing." if "test" in figures else line


def seed_table(seeds: Mapping[str, Any]) -> str:
    """Mean and spread over the seeds."""
    rows = [
        [
            f"{split} {name}",
            part["mean"],
            part["standard_deviation"],
            ", ".join(f"{value:.4f}" for value in part["values"]),
        ]
        for split in SPLITS
        for name, part in seeds.get(split, {}).items()
    ]
    named = ", ".join(map(str, seeds["seeds"]))
    chosen = f"The model here is that of seed {seeds['kept']}"
    chosen += ", the best on the validation rows." if "validation" in seeds else ", the first."
    table = as_table(["", "mean", "standard deviation", "each"], rows)
    return f"{len(seeds['seeds'])} runs with the seeds {named}:\n\n{table}\n\n{chosen}"


def calibration_line(found: Mapping[str, Any]) -> str:
    """What the temperature does."""
    rows = [
        [
            split,
            part["expected_calibration_error_uncalibrated"],
            part["expected_calibration_error"],
            part["brier_score_uncalibrated"],
            part["brier_score"],
        ]
        for split, part in found.items()
        if isinstance(part, Mapping)
    ]
    head = [
        "",
        "calibration error, as trained",
        "with temperature",
        "Brier score, as trained",
        "with temperature",
    ]
    return (
        f"Calibration: a temperature of {found['temperature']:.3f} was fitted on the validation "
        f"rows (`calibration_temperature` in `config.json`).\n\n{as_table(head, rows)}"
    )


def data_lines(record: Mapping[str, Any]) -> list[str]:
    """What was read, how many rows of it, and what was left out."""
    options, counts = record["data_options"], record.get("rows") or {}
    lines = []
    for name in ("dataset", "train", "validation", "test"):
        value = options.get(name)
        if value is None and name not in counts:
            continue
        source = "rows drawn from the data set" if value is None else source_names(value)
        if name == "validation" and is_share(value):
            source = f"a share of {value} of the training rows, drawn with the seed"
        count = counts.get(name)
        lines.append(f"{name}: {source}" + (f", {count:,} rows" if count is not None else ""))
    reasons = reasons_of(record.get("left_out") or {})
    total = sum(reasons.values())
    listed = ", ".join(f"{count:,} × {reason}" for reason, count in reasons.items())
    rows = "bad row" if total == 1 else "bad rows"
    lines.append(f"left out: {total:,} {rows}" + (f" ({listed})" if reasons else ""))
    for name, digest in facts_of(record).get("fingerprints", {}).items():
        lines.append(f"SHA-256 of `{name}`: `{digest}`")
    if record.get("labels"):
        lines.append(f"labels: {', '.join(map(str, record['labels'][:50]))}")
    return lines


def reasons_of(left_out: Mapping[str, Any]) -> Counter[str]:
    """How many rows were left out for each reason, of all splits where they are counted apart."""
    found: Counter[str] = Counter()
    for name, value in left_out.items():
        found.update(value if isinstance(value, Mapping) else {name: value})
    return found


def source_names(value: Any) -> str:
    """The names of a file, or of several, without their folders, or what else the rows were.

    >>> source_names(["data/a.csv", "data/b.csv"])
    '`a.csv`, `b.csv`'
    """
    values = value if isinstance(value, list) else [value]
    return ", ".join(f"`{Path(str(each)).name}`" for each in values)


def is_share(value: Any) -> bool:
    """Whether validation rows were named by a share."""
    try:
        return 0 < float(value) < 1
    except (TypeError, ValueError):
        return False


def recipe_lines(figures: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    """How the model was trained: one item each."""
    arguments, recipe = record["arguments"], record["recipe_options"]
    start = (
        f"`{Path(record['model']).name}`"
        if record.get("model")
        else (f"random weights, {record['model_options']['config_preset']}")
    )
    noam = recipe["recipe"] == "transformer"
    schedule = "noam" if noam else str(arguments["lr_scheduler_type"])
    tokens = recipe["batch_tokens"]
    batch = f"{tokens} tokens" if tokens else f"{arguments['per_device_train_batch_size']} rows"
    train, precision = figures["train"], "fp32"
    precision = next((name for name in ("bf16", "fp16") if arguments.get(name)), precision)
    lines = [
        f"Start: {start}.",
        f'Recipe "{recipe["recipe"]}": peak learning rate {arguments["learning_rate"]:g}, '
        f"schedule {schedule}, weight decay {arguments['weight_decay']:g}.",
        f"{arguments['num_train_epochs']:g} epochs at most, {int(train['steps'])} steps, {batch} a "
        f"device and step, {arguments['gradient_accumulation_steps']} accumulated.",
        *special_lines(record),
        f"Seed {arguments['seed']}.",
        f"{train['seconds']} seconds of training in {precision} on "
        f"{facts_of(record).get('hardware', NOT_RECORDED)}.",
        f"{facts_of(record).get('versions', f'Versions: {NOT_RECORDED}')}.",
    ]
    return [*lines, "All arguments stand in `run_arguments.json`."]


def special_lines(record: Mapping[str, Any]) -> list[str]:
    """What else was asked for: weights of classes, frozen parts, adapters, averages."""
    recipe, lines = record["recipe_options"], []
    if record.get("class_weights"):
        pairs = zip(record["labels"], record["class_weights"], strict=True)
        listed = ", ".join(f"{label} {weight:.3g}" for label, weight in pairs)
        lines.append(f"Classes weigh in the loss: {listed}.")
    if recipe.get("few_shot"):
        lines.append("Few labels: vectors learnt from pairs of rows, then logistic regression.")
    if recipe.get("freeze") is not None:
        parts = str(recipe["freeze"])
        lines.append(
            f"Frozen: {f'embeddings and the first {parts} layers' if parts.isdigit() else parts}."
        )
    if recipe.get("lora"):
        lines.append(f"Low-rank adapters of rank {recipe['lora_rank']}, merged into the weights.")
    if recipe.get("average_last"):
        lines.append(f"The mean of the last {recipe['average_last']} checkpoints.")
    if recipe.get("early_stopping"):
        lines.append(f"Stops after {recipe['early_stopping']} evaluations without a better one.")
    return lines


def front_matter(
    folder: Path,
    task: Task,
    figures: Mapping[str, Any],
    record: Mapping[str, Any],
    published: Published,
) -> ModelCardData:
    """The card's YAML, with the figures as the hub's `model-index`, unrounded."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    results = [
        EvalResult(
            task_type=task.pipeline_tag,
            dataset_type="local",
            dataset_name=f"{split} rows of the run",
            dataset_split=split,
            metric_type=metric,
            metric_value=value,
        )
        for split in SPLITS
        for metric, value in numbers(figures.get(split, {})).items()
    ]
    return ModelCardData(
        library_name="transformers",
        pipeline_tag=task.pipeline_tag,
        tags=sorted({"bertlite", config.get("model_type", "bertlite")}),
        model_name=folder.resolve().name,
        base_model=hub_name(record.get("model")),
        datasets=hub_name(record["data_options"].get("dataset")),
        eval_results=results or None,
        **published.metadata(),
    )


def hub_name(value: Any) -> str | None:
    """A name of the hub; None for a folder of this machine.

    >>> hub_name("google-bert/bert-base-uncased"), hub_name("/home/me/bert"), hub_name("out/a/b")
    ('google-bert/bert-base-uncased', None, None)
    """
    named = isinstance(value, str) and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", value)
    return value if named and not Path(value).exists() else None
