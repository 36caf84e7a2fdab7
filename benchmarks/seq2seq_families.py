"""Encoding and writing of each encoder-decoder family against transformers' own class.

Random weights, sentences of very different lengths; the same ids and weights for all, in turn in
one process, outputs compared. `python -m benchmarks seq2seq-families` prints a table a work.
"""

import argparse

import torch
import transformers
from family_race import (
    VOCABULARY,
    close,
    options_of,
    race,
    ragged_batches,
    rivals,
    vectors,
    with_padding,
)

from bertlite.models.transformer_families import FAMILIES

SIZES = {"vocab_size": VOCABULARY, "d_model": 512, "max_position_embeddings": 512}
# Without Marian, which `python -m benchmarks generation` measures.
NAMES = [name for name in FAMILIES if name != "marian"]


def model_of(family: str, layers: int) -> transformers.PreTrainedModel:
    """Transformers' model with random weights."""
    sides = {}
    for side in ("encoder", "decoder"):
        sides |= {f"{side}_layers": layers, f"{side}_ffn_dim": 2048, f"{side}_attention_heads": 8}
    prefix = FAMILIES[family].prefix
    config = getattr(transformers, f"{prefix}Config")(**SIZES, **sides)
    torch.manual_seed(0)
    return getattr(transformers, f"{prefix}ForConditionalGeneration")(config).eval()


def measure(family: str, batches: list[dict], options: argparse.Namespace) -> None:
    """Encode all batches; write texts for the first sources, greedily and with beams."""
    models = rivals(model_of(family, options.layers))
    batches = with_padding(batches, models["transformers"].config.pad_token_id)
    few = {name: each[: options.sources] for name, each in batches[0].items()}
    given = {"min_new_tokens": options.tokens, "max_new_tokens": options.tokens}
    given |= {"decoder_start_token_id": 2, "forced_eos_token_id": None}
    encoders = {name: model.get_encoder() for name, model in models.items()}
    with torch.inference_mode():
        title, rounds = f"{family}: encoding", options.rounds
        race(title, encoders, lambda encoder: vectors(encoder, batches), close, rounds)
        for beams in (1, 4) if options.tokens else ():
            count = len(few["input_ids"])
            title = f"{family}: {options.tokens} tokens for {count} texts, {beams} beams"
            race(
                title,
                models,
                lambda model, beams=beams: model.generate(**few, num_beams=beams, **given),
                torch.equal,
                rounds,
            )


def main() -> None:
    """Measure the families asked for."""
    parser = options_of(__doc__, NAMES, NAMES)
    parser.add_argument("--sources", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=20, help="0: encoding alone")
    options = parser.parse_args()
    batches = ragged_batches(options)
    for family in options.families:
        measure(family, batches, options)


if __name__ == "__main__":
    main()
