"""Curves of a run as pictures, from the trainer's log."""

from pathlib import Path
from typing import Any

TITLES = {
    "masked_lm_loss": "held-out masked-LM loss",
    "masked_lm_accuracy": "held-out masked-LM accuracy",
    "perplexity": "held-out perplexity of masked tokens",
    "next_sentence_accuracy": "held-out next-sentence accuracy",
}


def draw_curves(log_history: list[dict[str, Any]], output: str | Path) -> Path | None:
    """Draw the training loss and every held-out figure over the updates into one PNG.

    Args:
        log_history: of a `TrainerState`.
        output: the file.

    Returns:
        `output`, or None where nothing was logged yet.

    Raises:
        ValueError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError(
            'curves need matplotlib; install it with: pip install "bertlite[figures]"'
        ) from error
    panels = {"training loss (masked LM + pair)": points(log_history, "loss")}
    panels |= {title: points(log_history, f"eval_{name}") for name, title in TITLES.items()}
    panels = {title: found for title, found in panels.items() if found}
    if not panels:
        return None
    figure = Figure(figsize=(6.4, 2.6 * len(panels)), layout="constrained")
    for axes, (title, found) in zip(
        figure.subplots(len(panels), squeeze=False)[:, 0], panels.items(), strict=True
    ):
        axes.plot(*zip(*found, strict=True), marker="." if len(found) < 60 else "")
        axes.set(title=title, xlabel="updates")
        axes.grid(alpha=0.3)
        if "perplexity" in title:
            axes.set_yscale("log")
    figure.savefig(output, dpi=110)
    return Path(output)


def points(log_history: list[dict[str, Any]], name: str) -> list[tuple[int, float]]:
    """Updates and values of one figure."""
    return [(entry["step"], entry[name]) for entry in log_history if name in entry]
