"""Encoding sentences of very different lengths: each family against transformers' own class.

And against CTranslate2, where it is installed and has the family.

Random weights of layers of the base size; the same ids and weights for all, in turn in one
process, outputs compared. `python -m benchmarks families` prints a table a family.
"""

import argparse

import torch
import transformers
from family_race import (
    VOCABULARY,
    CTranslate2,
    close,
    options_of,
    race,
    ragged_batches,
    rivals,
    vectors,
    with_padding,
)

from bertlite.models.families import FAMILIES

WIDE = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
OWN = {"electra": {**WIDE, "embedding_size": 768}, "albert": {**WIDE, "hidden_act": "gelu"}}
OWN["modernbert"] = {f"{name}_token_id": 1 for name in ("pad", "bos", "eos", "cls", "sep")}
ENCODERS = ("roberta", "distilbert", "mpnet", "electra", "albert", "modernbert")


def measure(family: str, batches: list[dict], options: argparse.Namespace) -> None:
    """Transformers' class, ours as loaded, and ours optimised."""
    stem = FAMILIES[family].stem
    config = getattr(transformers, f"{stem}Config")(
        vocab_size=VOCABULARY, num_hidden_layers=options.layers, **OWN.get(family, {})
    )
    models = rivals(getattr(transformers, f"{stem}Model")(config).eval())
    if CTranslate2.has(models["bertlite, as loaded"]):
        models["CTranslate2"] = CTranslate2(models["bertlite, as loaded"])
    batches = with_padding(batches, 1)  # of every family, and none of the words
    with torch.inference_mode():
        title = f"{family} ({config._attn_implementation})"
        race(title, models, lambda model: vectors(model, batches), close, options.rounds)


def main() -> None:
    """Measure the families asked for."""
    options = options_of(__doc__, ENCODERS, ENCODERS).parse_args()
    batches = ragged_batches(options)
    for family in options.families:
        measure(family, batches, options)


if __name__ == "__main__":
    main()
