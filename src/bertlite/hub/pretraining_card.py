"""The model card of a pretrained model.

What it is, how to use it, what it was trained on and how, what was measured, its limits.
"""

from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from .card import NOT_RECORDED, Card, Published, as_list, as_table, write_card

USE = """import bertlite

model = bertlite.BertLiteForMaskedLM.from_pretrained("FOLDER OR HUB NAME")"""
USE_NOTE = """Words that are masked are what it predicts. It is a start for fine-tuning (`bertlite
finetune TASK --model FOLDER`), not a model of any task."""
LIMITS = """Measured by the words it fills in, on held-out text of the same kind only. What a model
has read it may repeat, and it takes over what its text thinks of people."""
TASKS = {
    "next_sentence": "which segment follows (BERT)",
    "sentence_order": "which of two segments comes first (ALBERT)",
    "none": "nothing",
}
FIGURES = {
    "eval_masked_lm_loss": "masked-LM loss",
    "eval_perplexity": "perplexity of masked words",
    "eval_masked_lm_accuracy": "masked words found",
    "eval_next_sentence_accuracy": "pairs judged rightly",
}


def write_pretraining_card(
    folder: Path,
    config: Any,
    tokenizer: Any,
    figures: dict[str, Any],
    run: dict[str, Any],
    published: Published | None = None,
) -> Path:
    """Write `README.md` beside a pretrained model.

    Args:
        folder: where the model is saved.
        config: of the model.
        tokenizer: saved beside it.
        figures: as in `metrics.json`; `text` is what `survey_text` found.
        run: the options of the run, by their names in `pretraining.json`.
        published: licences and languages.

    Returns:
        The card's path.
    """
    published = published or Published()
    start = None if run["model"] is None else Path(run["model"]).name
    what = "a BERT" if start is None else f"`{start}`, trained further on other text"
    card = Card(
        metadata=front_matter(folder, figures, run, published),
        title=f"{folder.resolve().name}: {what}",
        lead=f"A `BertLiteForPreTraining` with {config.num_hidden_layers} layers of width "
        f"{config.hidden_size} and a vocabulary of {config.vocab_size:,}, written here by "
        f"`bertlite pretrain`. {USE_NOTE}",
        use=USE,
        figures=figures_of(figures, run),
        data=as_list(data_lines(figures, run)),
        recipe=recipe_lines(tokenizer, figures, run, start),
        limits=LIMITS,
        licences=published.licences(start),
    )
    return write_card(folder, card)


def figures_of(figures: dict[str, Any], run: dict[str, Any]) -> str:
    """The table of what was measured, and on what."""
    share = f"{run['held_out_share']:.1%} of the documents"
    held_out = "other files" if run["held_out_inputs"] else share
    rows = [[title, float(figures[name])] for name, title in FIGURES.items() if name in figures]
    return (
        f"On text that was held out of training, {held_out}, masked once and for all:\n\n"
        f"{as_table(['', ''], rows)}\n\nOne run with one seed ({run['seed']}). Unrounded they "
        "stand in `metrics.json`."
    )


def data_lines(figures: dict[str, Any], run: dict[str, Any]) -> list[str]:
    """What was read, and how much of it was shown."""
    apart, text = run["held_out_inputs"], figures["text"]
    sources = {"train": run["inputs"], **({"held out": apart} if apart else {})}
    shown = ", ".join(f"{share:.1%} in rows of {length}" for length, share in text["shown"].items())
    return [
        *(f"{split}: {named(inputs)}" for split, inputs in sources.items()),
        f"Of the text, one pass shows {shown}; the run made {text['passes']:.2f} passes.",
    ]


def recipe_lines(
    tokenizer: Any, figures: dict[str, Any], run: dict[str, Any], start: str | None
) -> list[str]:
    """How it was trained: one item each."""
    facts = figures.get("run") or {}
    lengths = " and then ".join(map(str, run["max_lengths"]))
    unit = "whole words" if run["whole_words"] else "pieces of words"
    return [
        f"Start: {'random weights' if start is None else f'`{start}`'}.",
        f"Tokenizer: {described(tokenizer)}.",
        f"{figures['steps']:,} updates, {figures['tokens_seen']:,} tokens seen.",
        f"Rows of {lengths} tokens; beside masked words: {TASKS[run['task']]}.",
        f"Masked: {run['mask_probability']:.0%} of the tokens, {unit}.",
        f"AdamW, peak learning rate {run['learning_rate']:g}, linear warm-up and decay.",
        f"Trained on {facts.get('hardware', NOT_RECORDED)}.",
        f"{facts.get('versions', f'Versions: {NOT_RECORDED}')}.",
        "All options stand in `pretraining.json`.",
    ]


def named(inputs: list[str]) -> str:
    """The last part of each input's name: not the folders of whoever trained."""
    return ", ".join(
        f"`{each if each.startswith('hub:') else Path(each).name}`" for each in inputs[:10]
    ) + (f" and {len(inputs) - 10} more" if len(inputs) > 10 else "")


def described(tokenizer: Any) -> str:
    """A tokenizer's kind, and what it does to case and accents."""
    lower = getattr(tokenizer, "do_lower_case", None)
    if lower is None:
        return type(tokenizer).__name__
    strips = getattr(tokenizer, "strip_accents", None)
    accents = "taken away" if (lower if strips is None else strips) else "kept"
    return (
        f"{type(tokenizer).__name__}, {'lower case' if lower else 'case kept'}, accents {accents}"
    )


def front_matter(
    folder: Path, figures: dict[str, Any], run: dict[str, Any], published: Published
) -> ModelCardData:
    """The card's YAML, with the figures as the hub's `model-index`, unrounded."""
    results = [
        EvalResult(
            task_type="fill-mask",
            dataset_type="local",
            dataset_name="held-out text of the run",
            dataset_split="validation",
            metric_type=name.removeprefix("eval_"),
            metric_value=figures[name],
        )
        for name in FIGURES
        if name in figures
    ]
    model = run["model"]
    return ModelCardData(
        library_name="transformers",
        pipeline_tag="fill-mask",
        tags=["bert", "bertlite"],
        base_model=None if model is None or Path(model).exists() else model,
        model_name=folder.resolve().name,
        eval_results=results,
        **published.metadata(),
    )
