"""A training step of translation (forward, backward, AdamW), bertlite against transformers' Marian.

    python -m benchmarks translation-step

Batches of 32 pairs as they come, not sorted by length: sources of log-normal lengths (mean 25
tokens), targets 0.8 to 1.2 times as long, padded to the longest of their batch. The same random
weights; losses are compared in evaluation, where no dropout hides a difference. `padded targets` is
bertlite as it was before decoders left out targets that nobody reads.
"""

import argparse
import copy
import tempfile

import numpy as np
import torch
from common import Race, natural_lengths, print_environment
from masked_lm_step import Training
from transformers import MarianConfig, MarianMTModel
from transformers.utils import logging

import bertlite
from bertlite.backends.cpu.backend import CpuBackend

VOCABULARY, ROWS = 8000, 32


class PaddedTargets(CpuBackend):
    """The CPU's backend, which leaves decoders to the plain core."""

    def unsupported(self, work, model, **wanted):
        return ["as before"] if work == "decode" else super().unsupported(work, model, **wanted)


def with_padded_targets(model: torch.nn.Module) -> torch.nn.Module:
    """A copy of a model whose decoder computes every target."""
    copied, backend = copy.deepcopy(model), PaddedTargets()
    for module in copied.modules():
        if hasattr(module, "backend_choice"):
            module.backend_choice, module.installed = backend, ()
    return copied


def ragged(lengths: np.ndarray, padding: int, seed: int) -> torch.Tensor:
    """Random ids `(B, T)` of these lengths, with `padding` behind them."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, VOCABULARY, (len(lengths), int(lengths.max())), generator=generator)
    sizes = torch.from_numpy(lengths)[:, None]
    return ids.masked_fill(torch.arange(ids.shape[1]) >= sizes, padding)


def batches_of(count: int) -> list[dict]:
    """Batches of sources and labels."""
    sources = natural_lengths(count * ROWS, longest=100, mean=25.0)
    chance = np.random.default_rng(1)
    targets = np.clip(sources * chance.uniform(0.8, 1.2, len(sources)), 2, 120).astype(int)
    found = []
    for number in range(count):
        rows = slice(number * ROWS, (number + 1) * ROWS)
        ids = ragged(sources[rows], 0, 2 * number)
        labels = ragged(targets[rows], -100, 2 * number + 1)
        found.append({"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--width", type=int, default=256)
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    print_environment(options.threads)
    torch.manual_seed(0)
    sizes = {"encoder_layers": options.layers, "decoder_layers": options.layers}
    sizes |= {f"{part}_ffn_dim": 4 * options.width for part in ("encoder", "decoder")}
    sizes |= {f"{part}_attention_heads": options.width // 64 for part in ("encoder", "decoder")}
    tokens = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    config = MarianConfig(vocab_size=VOCABULARY, d_model=options.width, **sizes, **tokens)
    theirs = MarianMTModel(config)
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = bertlite.TransformerLiteForConditionalGeneration.from_pretrained(folder)
    batches = batches_of(8)
    with torch.no_grad():
        losses = [float(model.eval()(**batches[0]).loss) for model in (theirs, ours)]
    race = Race(
        {
            "transformers": Training(theirs, batches, fused=True).step,
            "bertlite, padded targets": Training(
                with_padded_targets(ours), batches, fused=True
            ).step,
            "bertlite": Training(ours, batches, fused=True).step,
        }
    ).run(options.rounds)
    real = [sum(int((batch[name] > 0).sum()) for batch in batches) for name in batches[0]]
    every = [sum(batch[name].numel() for batch in batches) for name in batches[0]]
    race.print(
        f"{options.layers} + {options.layers} layers x {options.width}, vocabulary {VOCABULARY}: "
        f"{every[0] / real[0]:.2f} positions a real source token, {every[2] / real[2]:.2f} a real "
        f"target, losses {losses[0]:.6f} and {losses[1]:.6f}"
    )


if __name__ == "__main__":
    main()
