"""Model cards from a template and measured figures."""

import platform
from importlib import resources
from pathlib import Path
from typing import Any

from .version import VERSION


def versions() -> str:
    """The versions that a reader needs to repeat a figure."""
    import torch
    import transformers

    return (
        f"bertlite {VERSION}, transformers {transformers.__version__}, torch {torch.__version__}, "
        f"Python {platform.python_version()}"
    )


def write_model_card(folder: Path, figures: dict[str, Any]) -> Path:
    """Write `README.md` beside a model.

    Args:
        folder: where the model is saved.
        figures: what `bertlite demo` measured, as in its `metrics.json`.

    Returns:
        The card's path.

    Raises:
        ValueError: a figure that the template names is missing.
    """
    template = resources.files("bertlite").joinpath("model_card_template.md").read_text(encoding="utf-8")
    rows = "\n".join(f"| {name} | {value:.4f} |" for name, value in figures["baselines"].items())
    try:
        text = template.format(**figures, baseline_rows=rows, versions=versions())
    except KeyError as error:
        raise ValueError(f"write_model_card: figures lack {error}") from error
    path = Path(folder) / "README.md"
    path.write_text(text, encoding="utf-8")
    return path
