"""What the benchmarks of families share: the models, ragged batches, and a compared race."""

import argparse
import importlib.util
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from common import Race, natural_lengths, padded_batches, positions_a_token, print_environment

import bertlite
from bertlite.export import ctranslate2_format
from bertlite.export.sources import Source

VOCABULARY = 8000
TOLERANCE = 1e-4  # of the largest value, or of 1 where that is smaller


def options_of(doc: str, names: Iterable[str], defaults: Iterable[str]) -> argparse.ArgumentParser:
    """The options of both."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--families", nargs="+", default=list(defaults), choices=sorted(names))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--sentences", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    return parser


def ragged_batches(options: argparse.Namespace) -> list[dict[str, torch.Tensor]]:
    """Sentences of very different lengths, in batches of 32; says how much of them is padding."""
    print_environment(options.threads)
    lengths = natural_lengths(options.sentences, longest=256, spread=0.8)
    batches = padded_batches(lengths, VOCABULARY, batch_size=32)
    print(f"{len(lengths)} sentences, {positions_a_token(batches):.2f} positions a real token")
    return batches


def with_padding(batches: list[dict], padding: int) -> list[dict[str, torch.Tensor]]:
    """The same with a family's own id in the padding, which no word has."""
    return [
        {**each, "input_ids": each["input_ids"].masked_fill(each["attention_mask"] == 0, padding)}
        for each in batches
    ]


def rivals(theirs: Any) -> dict[str, Any]:
    """Transformers' model, ours of the same folder as loaded, and ours optimised."""
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        loaded, fast = bertlite.load(folder), bertlite.optimize(bertlite.load(folder))
    return {"transformers": theirs, "bertlite, as loaded": loaded, "bertlite, optimised": fast}


class CTranslate2:
    """An encoder of ours as CTranslate2 computes it, in fp32, called as ours is.

    Args:
        model: without a head, of a family that CTranslate2 has.
    """

    def __init__(self, model: Any):
        import ctranslate2

        words: Any = SimpleNamespace(get_vocab=dict, unk_token="<unused0>")
        with tempfile.TemporaryDirectory() as folder:
            ctranslate2_format.convert(Source("", model, words, "Model"), Path(folder), None)
            self.encoder = ctranslate2.Encoder(
                str(Path(folder, ctranslate2_format.FOLDER)),
                compute_type="float32",
                intra_threads=torch.get_num_threads(),
            )

    @staticmethod
    def has(model: Any) -> bool:
        """Whether it is installed and has the family."""
        known = ctranslate2_format.kind_of(model.config) in ctranslate2_format.ENCODERS
        return known and importlib.util.find_spec("ctranslate2") is not None

    def __call__(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        """`(B, T)` ids to vectors `(B, T, E)`."""
        import ctranslate2

        given = [input_ids.numpy(), attention_mask.sum(1).numpy()]
        views = [ctranslate2.StorageView.from_array(each.astype(np.int32)) for each in given]
        found = self.encoder.forward_batch(*views).last_hidden_state
        return SimpleNamespace(last_hidden_state=torch.from_numpy(np.array(found)))


def vectors(encoder: Any, batches: list[dict]) -> torch.Tensor:
    """Every real vector, `(tokens, E)`."""
    made = [encoder(**batch).last_hidden_state[batch["attention_mask"].bool()] for batch in batches]
    return torch.cat(made)


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether vectors are the same."""
    return bool((found - expected).abs().max() < TOLERANCE * max(1.0, expected.abs().max()))


def race(title: str, models: dict[str, Any], work: Callable, same: Callable, rounds: int) -> None:
    """Compare what `work` makes with each model, then time it."""
    expected = work(models["transformers"])
    for name, model in models.items():
        assert same(work(model), expected), f"{title}, {name}: other results"
    calls = {name: lambda model=model: work(model) for name, model in models.items()}
    Race(calls, pause=0.3 if "CTranslate2" in calls else 0.1).run(rounds).print(title)
