"""Choose: `python run.py QUESTION CHOICE CHOICE ...`, or a line of them with tabs on the input."""

import json
import sys

from engine import load
from texts import SETTINGS, batch, softmax, tokenizer

compute = load()


def choose(question, choices):
    """The best choice by its number and text, and the probabilities of all."""
    tokenizer.enable_truncation(SETTINGS["max_length"])
    rows = tokenizer.encode_batch([(question, choice) for choice in choices])
    tokenizer.no_truncation()
    arrays = {name: each[None] for name, each in batch(rows).items()}  # (1, choices, length)
    scores = softmax(compute(arrays)[0][0])
    best = int(scores.argmax())
    chosen = {"label": best, "choice": choices[best], "score": float(scores[best])}
    return {**chosen, "scores": scores.tolist()}


if __name__ == "__main__":
    asked = (
        [sys.argv[1:]] if sys.argv[1:] else [each.rstrip("\n").split("\t") for each in sys.stdin]
    )
    for question, *choices in asked:
        print(json.dumps(choose(question, choices), ensure_ascii=False))
