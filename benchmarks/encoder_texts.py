"""From texts to vectors.

Sentence-transformers' `encode` against `bertlite.encode`, tokenising included.
"""

import importlib.util
from functools import partial

import numpy as np
import torch
from common import Race
from encoder_peers import set_torch_threads
from encoder_race import LOWEST_COSINE, PAUSE, TOLERANCE, spread

THEIRS, OURS = "sentence-transformers encode", "bertlite.encode, optimised fp32"
LONGEST = 256  # tokens a text is cut to, by both
KINDS = {OURS: "fp32", "bertlite.encode": None, "bertlite.encode, optimised int8": "int8"}


def encoders(weights: str, threads: int) -> dict:
    """Name to a function of texts that gives vectors of length 1 `(texts, E)`."""
    from sentence_transformers import SentenceTransformer
    from transformers import AutoTokenizer

    import bertlite

    set_torch_threads(threads)
    theirs = SentenceTransformer(weights, device="cpu")
    theirs.max_seq_length = LONGEST
    tokenizer = AutoTokenizer.from_pretrained(weights)
    found = {THEIRS: partial(theirs.encode, normalize_embeddings=True, show_progress_bar=False)}
    for name, dtype in KINDS.items():
        model = bertlite.BertLiteModel.from_pretrained(weights).eval()
        model = model if dtype is None else bertlite.optimize(model, dtype=dtype)
        found[name] = partial(bertlite.encode, model=model, tokenizer=tokenizer, max_length=LONGEST)
    return found


def compare(found: dict, texts: list[str]) -> dict[str, dict]:
    """Largest difference and lowest cosine to sentence-transformers' vectors."""
    expected = found[THEIRS](texts)
    rows = {}
    for name, encode in found.items():
        vectors = encode(texts)
        figures = {"max_difference": float(np.abs(vectors - expected).max())}
        figures["cosine"] = float((vectors * expected).sum(1).min())
        exact = KINDS.get(name) != "int8"
        right = (
            figures["max_difference"] <= TOLERANCE if exact else figures["cosine"] >= LOWEST_COSINE
        )
        rows[name] = {**figures, "right": bool(right)}
    return rows


def measure(
    weights: str, texts: list[str], threads: int, rounds: int
) -> tuple[dict, dict[str, str]]:
    """A result as of the other scenarios, and who is left out."""
    if importlib.util.find_spec("sentence_transformers") is None:
        return {}, {THEIRS: "not installed: sentence-transformers"}
    found = encoders(weights, threads)
    rows = compare(found, texts)
    calls = {name: partial(encode, texts) for name, encode in found.items() if rows[name]["right"]}
    with torch.inference_mode():
        race = Race(calls, pause=PAUSE).run(rounds)
    for name in calls:
        ours = {"to_ours": race.ratio(name, OURS)} if OURS in calls else {}
        rows[name] |= {**spread(race, name), **ours, "to_sdpa": race.ratio(name, THEIRS)}
    title = (
        f"{len(texts)} film reviews as texts, tokenising included; the last ratio is to "
        "sentence-transformers"
    )
    result = {
        "name": "texts",
        "title": title,
        "tokens": None,
        "rounds": rounds,
        "rounds_kept": len(race.kept),
    }
    return {**result, "rows": rows, "floor": {}}, {}
