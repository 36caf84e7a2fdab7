"""Shapes, batches and models of the GPU benchmark: the same weights in transformers and here."""

import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    MarianConfig,
    MarianMTModel,
)

import bertlite
from bertlite.data.collators import lengths_of

IGNORED = -100
FULL = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
FULL |= {"intermediate_size": 3072, "vocab_size": 30522}
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL |= {"intermediate_size": 64, "vocab_size": 500}
# Median, spread and limits of log-normal lengths, as measured on texts of reviews and of pages.
LENGTHS = {"skewed": (28, 0.7, 4, 256), "long": (150, 0.8, 8, 512)}
PAIRS = {
    "base": (BertModel, bertlite.BertLiteModel),
    "masked-lm": (BertForMaskedLM, bertlite.BertLiteForMaskedLM),
    "classes": (BertForSequenceClassification, bertlite.BertLiteForSequenceClassification),
    "writer": (MarianMTModel, bertlite.TransformerLiteForConditionalGeneration),
}


@dataclass
class Setting:
    """Where and how large the benchmark runs."""

    device: str
    quick: bool
    rounds: int
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="bertlite-gpu-")))

    @property
    def is_gpu(self) -> bool:
        return self.device.startswith("cuda")

    @property
    def size(self) -> dict[str, int]:
        """Of the encoder: BERT-base, or a toy."""
        return SMALL if self.quick else FULL

    def scaled(self, number: int) -> int:
        """A number of rows, or few of them."""
        return min(number, 4) if self.quick else number

    def wait(self) -> None:
        """Until the device has done its work."""
        if self.is_gpu:
            torch.cuda.synchronize()


def make_folders(setting: Setting) -> None:
    """Random weights, once for both sides."""
    torch.manual_seed(0)
    bert = BertConfig(**setting.size, num_labels=2)
    width, layers = (64, 2) if setting.quick else (512, 6)
    sides = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in (("layers", layers), ("attention_heads", 8), ("ffn_dim", 4 * width))
    }
    marian = MarianConfig(
        vocab_size=300 if setting.quick else 32000,
        d_model=width,
        **sides,
        max_position_embeddings=512,
        pad_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=0,
        forced_eos_token_id=None,
        scale_embedding=True,
        activation_function="relu",
        init_std=0.2,
    )
    BertForMaskedLM(bert).save_pretrained(setting.folder / "masked-lm")
    BertForSequenceClassification(bert).save_pretrained(setting.folder / "classes")
    MarianMTModel(marian).save_pretrained(setting.folder / "writer")


def load(
    setting: Setting, kind: str, *, ours: bool, dtype: torch.dtype = torch.float32, **config: Any
) -> nn.Module:
    """A model of `PAIRS` on the device, by its kind."""
    folder = setting.folder / ("masked-lm" if kind == "base" else kind)
    load_it = partial(PAIRS[kind][ours].from_pretrained, folder, dtype=dtype, **config)
    return load_it(attn_implementation="sdpa").to(setting.device)


def lengths(kind: str, count: int, seed: int = 0) -> np.ndarray:
    """Lengths of texts: "skewed", "long", or all of one number."""
    if kind not in LENGTHS:
        return np.full(count, int(kind))
    median, spread, low, high = LENGTHS[kind]
    drawn = np.random.default_rng(seed).lognormal(np.log(median), spread, count)
    return np.clip(drawn.round(), low, high).astype(int)


def batches(setting: Setting, kind: str, count: int, size: int, labels: str = "") -> list[dict]:
    """Padded batches on the host; `labels`: "words" (15 % are masked), "rows", or none."""
    vocabulary = setting.size["vocab_size"]
    generator = torch.Generator().manual_seed(0)
    made, all_lengths = [], lengths(kind, setting.scaled(count))
    for start in range(0, len(all_lengths), size):
        part = torch.as_tensor(all_lengths[start : start + size])
        real = torch.arange(int(part.max())) < part[:, None]
        ids = torch.randint(110, vocabulary, real.shape, generator=generator) * real
        batch = {
            "input_ids": ids,
            "attention_mask": real.long(),
            "token_type_ids": torch.zeros_like(ids),
        }
        if labels == "words":
            chosen = (torch.rand(ids.shape, generator=generator) < 0.15) & real
            batch["labels"] = ids.masked_fill(~chosen, IGNORED)
            batch["input_ids"] = ids.masked_fill(chosen, 103)
        if labels == "rows":
            batch["labels"] = torch.randint(0, 2, (len(ids),), generator=generator)
        made.append(batch)
    return made


def on_device(setting: Setting, batch: dict, *, with_lengths: bool = False) -> dict:
    """A batch where the model is; with what our collator knows of it."""
    moved = {key: value.to(setting.device) for key, value in batch.items()}
    if with_lengths:
        moved["lengths"] = lengths_of(batch)
    return moved


def real_tokens(made: list[dict]) -> int:
    return sum(int(batch["attention_mask"].sum()) for batch in made)


def padded(made: list[dict]) -> float:
    """Positions for each real token."""
    return sum(batch["attention_mask"].numel() for batch in made) / real_tokens(made)


def sources(setting: Setting, count: int) -> dict[str, torch.Tensor]:
    """Texts to be translated, on the device."""
    drawn = np.random.default_rng(1).lognormal(np.log(22), 0.5, count)
    part = torch.as_tensor(np.clip(drawn.round(), 4, 100).astype(int))
    real = torch.arange(int(part.max())) < part[:, None]
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 290, real.shape, generator=generator) * real
    return {
        "input_ids": ids.to(setting.device),
        "attention_mask": real.long().to(setting.device),
    }
