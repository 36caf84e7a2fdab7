"""Vectors of texts: `python run.py TEXT ...`, or a text a line on the input."""

import numpy as np
from engine import load
from texts import SETTINGS, main, run, tokenizer

compute = load()


def embed(texts):
    """One vector a text, `(texts, size)`, as `bertlite.encode`."""
    texts = [SETTINGS["prompt"] + text for text in texts]
    texts = [text.lower() if SETTINGS["lower_case"] else text for text in texts]
    tokenizer.enable_truncation(SETTINGS["max_length"])
    rows = tokenizer.encode_batch(texts)
    tokenizer.no_truncation()
    return np.stack([outputs[1] for outputs in run(compute, rows)]) if rows else np.zeros((0, 0))


if __name__ == "__main__":
    main(lambda texts: embed(texts).tolist())
