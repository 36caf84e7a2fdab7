"""Runs the folder `model`: needs ctranslate2 and numpy."""

from pathlib import Path

import ctranslate2
import numpy as np
from texts import SETTINGS

FOLDER = Path(__file__).with_name("model")
POOLINGS = {  # of the vectors (tokens, size) of a text
    "mean": lambda states: states.mean(0),
    "cls": lambda states: states[0],
    "max": lambda states: states.max(0),
    "mean_sqrt_len": lambda states: states.sum(0) / len(states) ** 0.5,
    "weighted_mean": lambda states: np.average(states, 0, np.arange(1, len(states) + 1)),
    "last": lambda states: states[-1],
}


def load():
    """The encoder, as a function from arrays by their names to vectors of tokens and of texts."""
    encoder = ctranslate2.Encoder(str(FOLDER))

    def run(given):
        counts = given["attention_mask"].sum(1).astype(np.int32)
        ids = ctranslate2.StorageView.from_array(given["input_ids"].astype(np.int32))
        types = given["token_type_ids"].tolist() if "token_type_ids" in given else None
        found = encoder.forward_batch(ids, ctranslate2.StorageView.from_array(counts), types)
        states = np.array(found.last_hidden_state)
        return [states, np.stack([pool(row[:n]) for row, n in zip(states, counts, strict=True)])]

    return run


def pool(states):
    """The vectors of a text's tokens to one."""
    vector = np.concatenate([POOLINGS[name](states) for name in SETTINGS["poolings"]])
    return vector / max(np.linalg.norm(vector), 1e-12) if SETTINGS["normalize"] else vector


def translator():
    """The encoder-decoder."""
    return ctranslate2.Translator(str(FOLDER))
