"""Pictures of what a classifier does: its confusion matrix, and how far its scores can be trusted.

Drawn with matplotlib, which is optional (`pip install "bertlite[figures]"`).

Shapes: `L` labels.
"""

import importlib.util
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LACKING = 'pictures need matplotlib; install it with: pip install "bertlite[figures]"'


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def check_picture(name: str, path: str | Path | None) -> None:
    """Refuse, before any work, a picture that could not be drawn.

    Args:
        name: of the option.
        path: the picture's file; None passes.

    Raises:
        ValueError: matplotlib is not installed, or does not know the format; no folder to write to.
    """
    if path is None:
        return
    if not can_draw():
        raise ValueError(f"{name}: {LACKING}")
    from matplotlib.backend_bases import FigureCanvasBase

    known = FigureCanvasBase.get_supported_filetypes()
    if (ending := Path(path).suffix.lower().removeprefix(".")) not in known:
        raise ValueError(f"{name} must end in one of .{', .'.join(sorted(known))}, got {path}")
    if not (folder := Path(path).absolute().parent).is_dir():
        raise ValueError(f"{name} must be a .{ending} file in a folder that is there, got {folder}")


def draw_confusion(matrix: dict[str, Any], path: str | Path) -> None:
    """Draw a confusion matrix: shares of each true class as colours, counts as numbers.

    Args:
        matrix: the `confusion_matrix` of a report.
        path: the picture, whose ending says the format.

    Raises:
        ValueError: see `check_picture`.
    """
    check_picture("path", path)
    import numpy as np

    labels, counts = matrix["labels"], np.asarray(matrix["counts"])
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)  # (L, L)
    size = min(max(3.0, 0.6 * len(labels) + 2), 30)
    axes = new_axes(size, size)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    plain = {"parse_math": False}  # a label may hold dollar signs
    axes.set_xticks(range(len(labels)), labels, rotation=90, **plain)
    axes.set_yticks(range(len(labels)), labels, **plain)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour)
    save(axes, path)


def draw_reliability(bins: Sequence[dict[str, Any]], path: str | Path) -> None:
    """Draw a reliability diagram: of each bin of scores, the share of answers that are right.

    Where scores can be trusted, the points lie on the diagonal; below it, scores are too high.
    Beneath stands how many answers each bin holds.

    Args:
        bins: as of `training.calibration.reliability`.
        path: the picture, whose ending says the format.

    Raises:
        ValueError: see `check_picture`.
    """
    check_picture("path", path)
    axes = new_axes(4.5, 5.5)
    low = axes.inset_axes((0, -0.42, 1, 0.22), sharex=axes)
    middles = [(each["from"] + each["to"]) / 2 for each in bins]
    width = bins[0]["to"] - bins[0]["from"] if bins else 0.1
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="scores as true as they say")
    axes.plot(
        [each["score"] for each in bins],
        [each["right"] for each in bins],
        "o-",
        label="this model",
    )
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", ylabel="share of answers that are right")
    axes.legend(loc="upper left")
    low.bar(middles, [each["rows"] for each in bins], width=width, edgecolor="white")
    low.set(xlabel="score", ylabel="answers")
    axes.grid(alpha=0.3)
    save(axes, path)


def new_axes(width: float, height: float) -> Any:
    """Axes of a figure in inches that no window shows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def save(axes: Any, path: str | Path) -> None:
    """Write the figure; letters that the font lacks are boxes, without a warning each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        axes.figure.savefig(path, dpi=120)
