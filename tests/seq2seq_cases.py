"""Tiny models of every encoder-decoder family: in transformers' class, and in ours from its folder.

Weights are random and large, biases and tables included, so that a wrong norm, position or tie
shows.
"""

from pathlib import Path

import torch
import transformers
from cases import IGNORED, VOCABULARY, randomize

import bertlite
from bertlite.models.transformer_families import FAMILIES

NAMES = [name for name in FAMILIES if name != "marian"]
SIZES = {"vocab_size": VOCABULARY, "d_model": 32, "max_position_embeddings": 40}
SIZES |= {
    f"{side}_{name}": value
    for side in ("encoder", "decoder")
    for name, value in (("layers", 2), ("attention_heads", 2), ("ffn_dim", 48))
}
STILL = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
STILL |= {"encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0}


def their_config(family: str, **fields):
    """Transformers' configuration of a tiny model."""
    config_class = getattr(transformers, f"{FAMILIES[family].prefix}Config")
    return config_class(**{**SIZES, **STILL, **fields})


def their_model(family: str, head: str = "ForConditionalGeneration", std: float = 0.25, **fields):
    """Transformers' model, with large random weights, in `eval` mode."""
    model_class = getattr(transformers, f"{FAMILIES[family].prefix}{head}")
    model = model_class(their_config(family, **fields))
    computed = {
        name: value.clone() for name, value in model.named_parameters() if not value.requires_grad
    }
    randomize(model, std=std, seed=len(family))
    with torch.no_grad():  # a table that is computed stays as it is
        for name, value in model.named_parameters():
            if name in computed:
                value.copy_(computed[name])
        words = model.get_input_embeddings()
        words.weight[words.padding_idx] = 0.3  # padding has a vector too
    return model


def pair(
    family: str,
    folder: Path,
    head: str = "ForConditionalGeneration",
    attention: str = "sdpa",
    **fields,
):
    """The same weights in their class and in ours, which loads what theirs has saved."""
    theirs = their_model(family, head, **fields)
    theirs.save_pretrained(folder)
    ours = getattr(bertlite, f"TransformerLite{head}")
    return theirs, ours.from_pretrained(folder, attn_implementation=attention).eval()


def batch_of(config, side: str | None = "right", sources=(9, 5, 7, 2), targets=(6, 3, 4, 5)):
    """Ragged sources and targets; padding holds padding tokens, as a tokenizer's does.

    `side` is where sources are padded; None: nowhere, and there are no masks.
    """
    generator = torch.Generator().manual_seed(1)
    batch = {}
    for prefix, lengths, where in (("", sources, side), ("decoder_", targets, "right")):
        if side is None:
            lengths = [max(lengths)] * len(lengths)
        mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
        mask = mask.flip(-1) if where == "left" else mask
        ids = torch.randint(3, VOCABULARY, mask.shape, generator=generator)
        batch[f"{prefix}input_ids"] = ids.masked_fill(~mask, config.pad_token_id)
        if side is not None:
            batch[f"{prefix}attention_mask"] = mask.long()
    return batch


def labels_of(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Words to be written at the real places of the targets, some of them left out.

    The last one of each row is kept: mBART starts with it.
    """
    generator = torch.Generator().manual_seed(2)
    ids = batch["decoder_input_ids"]
    mask = batch.get("decoder_attention_mask", torch.ones_like(ids)).bool()
    return torch.randint(3, VOCABULARY, ids.shape, generator=generator).masked_fill(~mask, IGNORED)
