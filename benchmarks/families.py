"""Encoding sentences of very different lengths: each family against transformers' own class.

Random weights of layers of the base size; the same ids and weights for all, in turn in one
process, outputs compared. `python -m benchmarks families` prints a table a family.
"""

import argparse
import tempfile

import torch
import transformers
from common import Race, natural_lengths, padded_batches, positions_a_token, print_environment

import bertlite
from bertlite.models.families import FAMILIES

VOCABULARY = 8000
WIDE = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
OWN = {"electra": {**WIDE, "embedding_size": 768}, "albert": {**WIDE, "hidden_act": "gelu"}}
ENCODERS = ("roberta", "distilbert", "mpnet", "electra", "albert")
TOLERANCE = 1e-4  # of values of norm's size


def vectors(model: torch.nn.Module, batches: list[dict]) -> torch.Tensor:
    """Every real vector, `(tokens, E)`."""
    made = [model(**batch).last_hidden_state[batch["attention_mask"].bool()] for batch in batches]
    return torch.cat(made)


def measure(family: str, batches: list[dict], layers: int, rounds: int) -> None:
    """Transformers' class, ours as loaded, and ours optimised."""
    names = FAMILIES[family]
    config = getattr(transformers, f"{names.stem}Config")(
        vocab_size=VOCABULARY, num_hidden_layers=layers, **OWN.get(family, {})
    )
    theirs = getattr(transformers, f"{names.stem}Model")(config).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        loaded = bertlite.load(folder)
        fast = bertlite.optimize(bertlite.load(folder))
    models = {"transformers": theirs, "bertlite, as loaded": loaded, "bertlite, optimised": fast}
    with torch.inference_mode():
        expected = vectors(theirs, batches)
        for name, model in models.items():
            difference = (vectors(model, batches) - expected).abs().max().item()
            assert difference < TOLERANCE, f"{family}, {name}: differs by {difference}"
        calls = {
            name: lambda model=model: vectors(model, batches) for name, model in models.items()
        }
        race = Race(calls, pause=0.1).run(rounds)
    race.print(f"{family} ({config._attn_implementation})")


def main() -> None:
    """Measure the families asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--families", nargs="+", default=ENCODERS, choices=sorted(FAMILIES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--sentences", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    print_environment(options.threads)
    lengths = natural_lengths(options.sentences, longest=256, spread=0.8)
    batches = padded_batches(lengths, VOCABULARY, batch_size=32)
    for batch in batches:  # no id of padding among the words, and padding's where it differs
        batch["input_ids"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, 1)
    print(f"{len(lengths)} sentences, {positions_a_token(batches):.2f} positions a real token")
    for family in options.families:
        measure(family, batches, options.layers, options.rounds)


if __name__ == "__main__":
    main()
