"""Encoding and writing of each encoder-decoder family against transformers' own class.

Random weights, sentences of very different lengths; the same ids and weights for all, in turn in
one process, outputs compared. `python -m benchmarks seq2seq-families` prints a table a work.
"""

import argparse
import tempfile
from collections.abc import Callable
from typing import Any

import torch
import transformers
from common import Race, natural_lengths, padded_batches, positions_a_token, print_environment

import bertlite
from bertlite.models.transformer_families import FAMILIES

VOCABULARY = 8000
SIZES = {"vocab_size": VOCABULARY, "d_model": 512, "max_position_embeddings": 512}
TOLERANCE = 1e-4  # of values of norm's size


def make_models(family: str, layers: int) -> dict[str, Any]:
    """Transformers' class, ours as loaded, and ours with an optimised encoder."""
    sides = {}
    for side in ("encoder", "decoder"):
        sides |= {f"{side}_layers": layers, f"{side}_ffn_dim": 2048, f"{side}_attention_heads": 8}
    prefix = FAMILIES[family].prefix
    config = getattr(transformers, f"{prefix}Config")(**SIZES, **sides)
    torch.manual_seed(0)
    theirs = getattr(transformers, f"{prefix}ForConditionalGeneration")(config).eval()
    ours = bertlite.TransformerLiteForConditionalGeneration
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        loaded = ours.from_pretrained(folder).eval()
        fast = bertlite.optimize(ours.from_pretrained(folder).eval())
    return {"transformers": theirs, "bertlite, as loaded": loaded, "bertlite, optimised": fast}


def race(title: str, models: dict[str, Any], work: Callable, same: Callable, rounds: int) -> None:
    """Compare what `work` makes with each model, then time it."""
    expected = work(models["transformers"])
    for name, model in models.items():
        assert same(work(model), expected), f"{title}, {name}: other results"
    calls = {name: lambda model=model: work(model) for name, model in models.items()}
    Race(calls, pause=0.1).run(rounds).print(title)


def measure(family: str, batches: list[dict], options: argparse.Namespace) -> None:
    """Encode all batches; write texts for the first sources, greedily and with beams."""
    models = make_models(family, options.layers)
    padding = models["transformers"].config.pad_token_id
    batches = [
        {
            **batch,
            "input_ids": batch["input_ids"].masked_fill(batch["attention_mask"] == 0, padding),
        }
        for batch in batches
    ]
    few = {name: each[: options.sources] for name, each in batches[0].items()}
    given = {"min_new_tokens": options.tokens, "max_new_tokens": options.tokens}
    given |= {"decoder_start_token_id": 2, "forced_eos_token_id": None}

    def vectors(model: Any) -> torch.Tensor:
        encoder = model.get_encoder()
        made = [
            encoder(**batch).last_hidden_state[batch["attention_mask"].bool()] for batch in batches
        ]
        return torch.cat(made)

    def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
        return bool((found - expected).abs().max() < TOLERANCE * max(1.0, expected.abs().max()))

    with torch.inference_mode():
        race(f"{family}: encoding", models, vectors, close, options.rounds)
        for beams in (1, 4):
            count = len(few["input_ids"])
            title = f"{family}: {options.tokens} tokens for {count} texts, {beams} beams"
            race(
                title,
                models,
                lambda model, beams=beams: model.generate(**few, num_beams=beams, **given),
                torch.equal,
                options.rounds,
            )


def main() -> None:
    """Measure the families asked for."""
    names = list(FAMILIES)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="+", default=names, choices=names)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--sentences", type=int, default=64)
    parser.add_argument("--sources", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    print_environment(options.threads)
    lengths = natural_lengths(options.sentences, longest=256, spread=0.8)
    batches = padded_batches(lengths, VOCABULARY, batch_size=32)
    print(f"{len(lengths)} sentences, {positions_a_token(batches):.2f} positions a real token")
    for family in options.families:
        if family != "marian":  # which `python -m benchmarks generation` measures
            measure(family, batches, options)


if __name__ == "__main__":
    main()
