"""The model card of a pretrained model.

What it is, how to use it, what it was trained on and how, what was measured, its limits.
"""

from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from .card import versions

CARD = """---
{metadata}
---

# {name}: {what}

A `BertLiteForPreTraining` with {layers} layers of width {width} and a vocabulary of {vocabulary:,},
written here by `bertlite pretrain`.

## Use

```python
import bertlite

model = bertlite.BertLiteForMaskedLM.from_pretrained("FOLDER OR HUB NAME")
```

Words that are masked are what it predicts. It is a start for fine-tuning
(`bertlite finetune TASK --model "FOLDER OR HUB NAME"`), not a model of any task.

## Figures

On text that was held out of training, {held_out}, masked once and for all:

| | |
| --- | --- |
{figures}

One run with one seed ({seed}). Unrounded they stand in `metrics.json`.

## Data

{data}
- Of the text, one pass shows {shown}; the run made {passes:.2f} passes.

## Recipe

- Start: {start}.
- Tokenizer: {tokenizer}.
- {steps:,} updates, {tokens:,} tokens seen.
- Rows of {lengths} tokens; beside masked words: {task}.
- Masked: {masked:.0%} of the tokens, {unit}.
- AdamW, peak learning rate {learning_rate:g}, linear warm-up and decay.
- {versions}.

All options stand in `pretraining.json`.

## Limits

Measured by the words it fills in, on held-out text of the same kind only. What a model has read it
may repeat, and it takes over what its text thinks of people. Licences of text and starting weights
are to be added by whoever publishes this model.
"""
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
    folder: Path, config: Any, tokenizer: Any, figures: dict[str, Any], run: dict[str, Any]
) -> Path:
    """Write `README.md` beside a pretrained model.

    Args:
        folder: where the model is saved.
        config: of the model.
        tokenizer: saved beside it.
        figures: as in `metrics.json`; `text` is what `survey_text` found.
        run: the options of the run, by their names in `pretraining.json`.

    Returns:
        The card's path.
    """
    text = figures["text"]
    start = "random weights" if run["model"] is None else f"`{Path(run['model']).name}`"
    apart = run["held_out_inputs"]
    sources = {"train": run["inputs"], **({"held out": apart} if apart else {})}
    card = CARD.format(
        metadata=front_matter(folder, config, figures, run).to_yaml().strip(),
        name=folder.resolve().name,
        what="a BERT" if run["model"] is None else f"{start}, trained further on other text",
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        vocabulary=config.vocab_size,
        held_out="other files" if apart else f"{run['held_out_share']:.1%} of the documents",
        figures="\n".join(
            f"| {title} | {figures[name]:.4f} |"
            for name, title in FIGURES.items()
            if name in figures
        ),
        seed=run["seed"],
        data="\n".join(f"- {split}: {named(inputs)}" for split, inputs in sources.items()),
        shown=", ".join(f"{share:.1%} in rows of {n}" for n, share in text["shown"].items()),
        passes=text["passes"],
        start=start,
        tokenizer=described(tokenizer),
        steps=figures["steps"],
        tokens=figures["tokens_seen"],
        lengths=" and then ".join(map(str, run["max_lengths"])),
        task=TASKS[run["task"]],
        masked=run["mask_probability"],
        unit="whole words" if run["whole_words"] else "pieces of words",
        learning_rate=run["learning_rate"],
        versions=versions(),
    )
    path = folder / "README.md"
    path.write_text(card, encoding="utf-8")
    return path


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
    folder: Path, config: Any, figures: dict[str, Any], run: dict[str, Any]
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
        tags=sorted({"bertlite", config.model_type}),
        base_model=None if model is None or Path(model).exists() else model,
        model_name=folder.resolve().name,
        eval_results=results,
    )
