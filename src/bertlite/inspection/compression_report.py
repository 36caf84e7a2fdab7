"""What pruning cost: the curve of metric against speed, and the card of the smaller model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from ..hub.card import Card, as_list, as_table, hardware, versions, write_card

COLOURS = {"unpruned": "black", "heads and neurons": "tab:blue", "whole layers": "tab:orange"}
MARKS = {"unpruned": "s", "heads and neurons": "o", "whole layers": "^"}
LIMITS = """Measured on the rows named above only, and its speed on the machine named above, on
texts of their lengths. Pruned models may lose more on rare classes and on text unlike the training
rows than the mean shows. transformers' BERT class cannot have layers of several sizes: load the
folder with bertlite, or with `trust_remote_code=True`."""
LICENCES = """To be added by whoever publishes this model: those of the data and of the model it was
cut from. Code (bertlite): Apache-2.0."""


def draw_curve(points: Sequence[Any], metric: str, output: str | Path) -> Path | None:
    """Draw metric against speed into a PNG; filled marks were trained after the cut.

    Returns:
        `output`, or None where matplotlib is missing: the figures are in `pruning.json` all the
        same.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for way, colour in COLOURS.items():
        found = sorted((each for each in points if each.way == way), key=lambda each: each.speed)
        raw = [each for each in found if not each.recovered]
        if way != "unpruned" and raw:
            raw = [points[0], *raw]
        style: Any = {"color": colour, "marker": MARKS[way]}
        if raw:
            label = way if way == "unpruned" else f"{way}, as cut"
            axes.plot(*pairs(raw, metric), markerfacecolor="none", label=label, **style)
        done = [each for each in found if each.recovered]
        if done:
            axes.plot(*pairs(done, metric), linestyle="none", label=f"{way}, recovered", **style)
    axes.set(xlabel="times as fast as the unpruned model", ylabel=metric)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(output, dpi=110)
    return Path(output)


def pairs(points: Sequence[Any], metric: str) -> tuple[list[float], list[float]]:
    """Speeds and values."""
    return [each.speed for each in points], [each.figures[metric] for each in points]


def write_pruning_card(
    folder: Path, task: Any, record: Mapping[str, Any], *, has_picture: bool
) -> Path:
    """Write `README.md` beside a pruned model.

    Args:
        folder: where the model is saved.
        task: what it does.
        record: the content of `pruning.json`.
        has_picture: whether the curve was drawn.

    Returns:
        The card's path.
    """
    name, options, metric = folder.resolve().name, record["options"], record["metric"]
    rows = [f"{split}: {count:,} rows" for split, count in record["rows"].items()]
    recovery = (
        f"Recovery: {options['epochs']:g} epochs in batches of {options['batch_size']} rows, peak "
        f"learning rate {options['learning_rate']:g}, seed {options['seed']}"
    )
    taught = ", taught by the unpruned model" if options["distill"] else ""
    card = Card(
        metadata=ModelCardData(
            library_name="transformers",
            pipeline_tag=task.pipeline_tag,
            tags=["bertlite", "pruned"],
            model_name=name,
        ),
        title=f"{name}: {task.name}, pruned",
        lead=f"`{Path(record['model']).name}` without its least important heads and inner neurons, "
        "cut and measured here by `bertlite prune`.",
        use=f"import bertlite\n\n{task.usage}",
        figures=figures_of(record, metric, has_picture),
        data=as_list(rows),
        recipe=[
            f"Importance: Fisher information of gates, on {options['importance_examples']} "
            "training rows.",
            f"Cut until {options['speed']:g} times as fast: "
            f"{count_of(record['cut']['heads'])} heads and {count_of(record['cut']['neurons'])} "
            "inner neurons.",
            f"{recovery}{taught}." if options["epochs"] else "No recovery.",
            f"Speed: batches of {record['batch_rows']} rows, both models in turn, best times; "
            f"{hardware('cpu')}.",
            f"{versions()}.",
        ],
        limits=LIMITS,
        licences=LICENCES,
    )
    return write_card(folder, card)


def count_of(cut: Mapping[Any, Sequence[int]]) -> int:
    """Heads or neurons of all layers."""
    return sum(map(len, cut.values()))


def figures_of(record: Mapping[str, Any], metric: str, has_picture: bool) -> str:
    """The curve as picture and table, and the test rows."""
    rows = [
        [
            point["way"],
            "yes" if point["recovered"] else "no",
            f"{point['speed']:.2f}",
            point["figures"][metric],
            f"{point['parameters']:,}",
        ]
        for point in record["points"]
    ]
    head = ["cut", "trained after it", "times as fast", f"validation {metric}", "parameters"]
    parts = ["![Metric against speed](pruning_curve.png)"] if has_picture else []
    parts.append(as_table(head, rows))
    if record["test"]:
        table = [[way, figures[metric]] for way, figures in record["test"].items()]
        parts.append(f"On the test rows, which chose nothing:\n\n{as_table(['', metric], table)}")
    parts.append(
        "One run with one seed; chance alone moves such figures. All stand in `pruning.json`."
    )
    return "\n\n".join(parts)
