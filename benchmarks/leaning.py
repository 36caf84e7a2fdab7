"""Which words without an opinion does the review model take for one? Words exchanged in held-out
reviews, and in a sentence that says nothing.

    bertlite demo --output-dir out/demo
    python -m benchmarks leaning --model out/demo

1. In every held-out review (the demo's test and validation parts) that has the first word of a
   pair, it is exchanged for the second, which says no more and no less: the mean change of the
   log-odds of "positive", its standard error, and how many labels turn over.
2. `This is the ... one.`, filled with countries, genres and people: the probability of "positive",
   against the share of positive reviews among those of the training part that have the word.

Writes benchmarks/results/leaning.json.
"""

import argparse
import json
import re
import statistics
from pathlib import Path

import torch
import transformers
from common import print_environment, processor
from scipy.stats import spearmanr

from bertlite import classify
from bertlite.cli.demo import read_reviews, split_reviews
from bertlite.inspection.loading import open_model

PAIRS = [("movie", "film"), ("film", "movie"), ("movies", "films"), ("women", "men")]
PAIRS += [("comedy", "documentary"), ("french", "german"), ("american", "french")]
FILLERS = (
    "american british canadian chinese french german indian iranian israeli italian japanese "
    "mexican russian hollywood tv video movie film flick picture documentary comedy drama thriller "
    "horror musical romance action animated western women men girls boys adults teens kids children"
)
SENTENCE = "This is the {} one."


def log_odds(texts: list[str], model, tokenizer) -> torch.Tensor:
    """Of "positive", by `classify`."""
    found = classify(texts, model, tokenizer, top_k=2, show_progress=False)
    chances = [next(e["score"] for e in each if e["label"] == "positive") for each in found]
    return torch.tensor(chances, dtype=torch.float64).logit()


def exchanged(texts: list[str], first: str, second: str) -> list[tuple[str, str]]:
    """Texts that have the word, each with the one in which it is exchanged."""
    pattern = re.compile(rf"\b{first}\b", re.IGNORECASE)
    return [(text, pattern.sub(second, text)) for text in texts if pattern.search(text)]


def share(rows: list[dict], word: str) -> tuple[int, float]:
    """Reviews that have the word, and the share of positive ones."""
    labels = [r["label"] for r in rows if re.search(rf"\b{word}\b", r["text"], re.IGNORECASE)]
    return len(labels), statistics.mean(labels) if labels else float("nan")


def swaps(held: list[dict], train: list[dict], model, tokenizer) -> list[dict]:
    """The first part: a row for each pair."""
    rows = []
    for first, second in PAIRS:
        pairs = exchanged([row["text"] for row in held], first, second)
        before, after = (log_odds([p[i] for p in pairs], model, tokenizer) for i in (0, 1))
        change = after - before
        rows.append(
            {
                "from": first,
                "to": second,
                "reviews": len(pairs),
                "change": float(change.mean()),
                "standard_error": float(change.std() / len(pairs) ** 0.5),
                "labels_turned": float(((before > 0) != (after > 0)).double().mean()),
                "training_share_from": share(train, first)[1],
                "training_share_to": share(train, second)[1],
            }
        )
        print(
            "{from:>9s} to {to:<12s} {reviews:4d} reviews  {change:+.3f} ± {standard_error:.3f} "
            "log-odds  {labels_turned:.1%} of labels turn  training shares "
            "{training_share_from:.2f}, {training_share_to:.2f}".format(**rows[-1]),
            flush=True,
        )
    return rows


def fillers(train: list[dict], model, tokenizer) -> dict:
    """The second part."""
    words = FILLERS.split()
    chances = log_odds([SENTENCE.format(word) for word in words], model, tokenizer).sigmoid()
    rows = []
    for word, chance in sorted(zip(words, chances.tolist(), strict=True), key=lambda row: row[1]):
        count, positive = share(train, word)
        rows.append({"word": word, "positive": chance, "reviews": count, "share": positive})
        print(f"  {word:12s} {chance:.2f}   {positive:.2f} of {count} training reviews")
    known = [row for row in rows if row["reviews"] >= 10]
    found = spearmanr([row["positive"] for row in known], [row["share"] for row in known])
    print(f"rank correlation, of {len(known)} words with ten reviews: {found.statistic:.2f}")
    return {"words": rows, "rank_correlation": float(found.statistic), "of": len(known)}


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="a sentiment model, as the demo makes it")
    parser.add_argument("--output", default="benchmarks/results/leaning.json")
    given = parser.parse_args()
    transformers.logging.set_verbosity_error()
    print_environment(torch.get_num_threads())
    model, tokenizer = open_model("leaning", given.model)
    parts = split_reviews(read_reviews())
    held = [*parts["test"], *parts["validation"]]
    result = {
        "processor": processor(),
        "sentence": fillers(parts["train"], model, tokenizer),
        "swaps": swaps(held, parts["train"], model, tokenizer),
    }
    Path(given.output).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
