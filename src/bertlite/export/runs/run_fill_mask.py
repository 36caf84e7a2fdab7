"""Words for the mask: `python run.py "Paris is the [MASK] of France."`, or a text a line."""

import numpy as np
from engine import load
from texts import SETTINGS, main, run, softmax, tokenizer

compute = load()


def fill_mask(texts, top_k=5):
    """For each text the likeliest words at its first mask, as the pipeline "fill-mask"."""
    mask = tokenizer.token_to_id(SETTINGS["mask_token"])
    tokenizer.enable_truncation(SETTINGS["max_length"])
    rows = tokenizer.encode_batch(texts)
    tokenizer.no_truncation()
    results = []
    for text, row, (logits, *_) in zip(
        texts, rows, run(compute, rows, per_token=True), strict=True
    ):
        if mask not in row.ids:
            raise ValueError(f"a text must hold {SETTINGS['mask_token']}, got {text!r:.80}")
        scores = softmax(logits[row.ids.index(mask)])
        best = np.argsort(-scores)[:top_k]
        results.append(
            [
                {"token": int(n), "token_str": tokenizer.decode([n]), "score": float(scores[n])}
                for n in best
            ]
        )
    return results


if __name__ == "__main__":
    main(fill_mask)
