"""What is said of a classifier beyond its figures: each class, the matrix, the scores."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..metrics.pictures import can_draw, draw_confusion, draw_reliability
from ..tasks.base import Row, Task
from .calibration import score_figures

PICTURES: dict[str, tuple[str, Callable[..., None]]] = {
    "confusion_matrix": ("confusion_matrix.png", draw_confusion),
    "reliability": ("reliability.png", draw_reliability),
}


def report_of(
    task: Task, rows: Sequence[Row], answers: Sequence[Row], model: Any, problem_type: str | None
) -> dict[str, Any]:
    """Figures of each class, the confusion matrix, and how far scores can be trusted.

    Args:
        task: what the model does.
        rows: labelled.
        answers: of `Task.predict`; where `problem_type` is one of classes, with the scores of all
            labels.
        model: which gave them.
        problem_type: of sequence classification.

    Returns:
        `per_class` and `confusion_matrix` as of `metrics.class_report`, and those of
        `calibration.score_figures`; each where the task has such, {} where it has no classes.
    """
    honest = score_figures(rows, answers, model, problem_type)
    return {**honest, **task.report(rows, answers, model)}


def draw_report(report: dict[str, Any], folder: Path) -> list[str]:
    """Draw what a report has pictures of, beside the model.

    Returns:
        The names of the files; none where matplotlib is not installed.
    """
    drawn: list[str] = []
    if not can_draw():
        return drawn
    for part, (name, draw) in PICTURES.items():
        if part in report:
            draw(report[part], folder / name)
            drawn.append(name)
    return drawn
