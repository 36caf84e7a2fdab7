"""A masked-LM training step (forward, backward, AdamW).

Bertlite against transformers' BertForMaskedLM.

    python benchmarks/masked_lm_step.py

Batches of 32 rows of log-normal lengths (mean 35 tokens, cut at 128), 15 % of the tokens masked,
vocabulary 30,522, the same random weights. Losses are compared in evaluation, where no dropout
hides a difference. Most of the gain comes from the vocabulary projection and from padding: it
shrinks with a wider model, a smaller vocabulary or less padding.
"""

import argparse
import tempfile

import torch
from common import Race, natural_lengths, padded_batches, positions_a_token, print_environment
from transformers import BertConfig, BertForMaskedLM
from transformers.utils import logging

from bertlite import BertLiteForMaskedLM

SIZES = ((4, 256), (6, 384))


def mask_tokens(batches: list[dict], seed: int = 0) -> None:
    """Give each batch `labels`: 15 % of its real tokens, at least one."""
    generator = torch.Generator().manual_seed(seed)
    for batch in batches:
        chosen = (torch.rand(batch["input_ids"].shape, generator=generator) < 0.15) & batch[
            "attention_mask"
        ].bool()
        chosen[0, 0] = True
        batch["labels"] = batch["input_ids"].masked_fill(~chosen, -100)


class Training:
    """A model, its optimizer, and the next batch."""

    def __init__(self, model, batches: list[dict], **options):
        self.model, self.batches, self.step_number = model.train(), batches, 0
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, **options)

    def step(self) -> None:
        """Forward, backward, update."""
        batch = self.batches[self.step_number % len(self.batches)]
        self.step_number += 1
        self.model(**batch).loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def make_pair(layers: int, width: int, dropout: float):
    """A BertForMaskedLM and a BertLiteForMaskedLM with the same random weights."""
    config = BertConfig(
        num_hidden_layers=layers,
        hidden_size=width,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        attention_probs_dropout_prob=dropout,
    )
    theirs = BertForMaskedLM(config)
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        return theirs, BertLiteForMaskedLM.from_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--attention-dropout", type=float, default=0.1)
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    print_environment(arguments.threads)
    for layers, width in SIZES:
        torch.manual_seed(0)
        theirs, ours = make_pair(layers, width, arguments.attention_dropout)
        batches = padded_batches(natural_lengths(32 * 8, longest=128), theirs.config.vocab_size)
        mask_tokens(batches)
        with torch.no_grad():
            losses = [float(model.eval()(**batches[0]).loss) for model in (theirs, ours)]
        with tempfile.TemporaryDirectory() as folder:
            theirs.save_pretrained(folder)
            again = BertForMaskedLM.from_pretrained(folder)
        race = Race(
            {
                "transformers, AdamW": Training(theirs, batches).step,
                "transformers, AdamW(fused=True)": Training(again, batches, fused=True).step,
                "bertlite, AdamW(fused=True)": Training(ours, batches, fused=True).step,
            }
        ).run(arguments.rounds)
        tokens = sum(int(batch["attention_mask"].sum()) for batch in batches) / len(batches)
        race.print(
            f"{layers} layers x {width}, vocabulary {theirs.config.vocab_size}, attention dropout "
            f"{arguments.attention_dropout}: {tokens:.0f} real tokens a step, "
            f"{positions_a_token(batches):.2f} "
            f"positions a real token, losses {losses[0]:.6f} and {losses[1]:.6f}"
        )


if __name__ == "__main__":
    main()
