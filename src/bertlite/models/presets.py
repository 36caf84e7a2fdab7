"""The sizes that the papers publish, by name.

Sources: Vaswani et al. 2017, table 3; Devlin et al. 2018, section 3; Turc et al. 2019
(https://arxiv.org/abs/1908.08962) for the small BERTs.
"""

from typing import Any

from .configuration import BertLiteConfig, LiteConfig, TransformerLiteConfig


def _bert(layers: int, hidden: int) -> dict[str, Any]:
    """BERT's rule for every published size: heads of 64, a feed-forward of 4 times the width."""
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": hidden // 64,
        "intermediate_size": 4 * hidden,
    }


def _transformer(
    hidden: int, feed_forward: int, heads: int, dropout: float, vocab_size: int
) -> dict[str, Any]:
    """Six layers each side, one vocabulary for both languages, ReLU, label smoothing 0.1.

    Deviation: the paper's "about 37,000" pieces would give 63M and 214M parameters; the vocabulary
    sizes here give its published 65M and 213M. Give your tokenizer's size as `vocab_size`.
    """
    sides = {}
    for side in ("encoder", "decoder"):
        sides.update(
            {f"{side}_layers": 6, f"{side}_ffn_dim": feed_forward, f"{side}_attention_heads": heads}
        )
    return {
        **sides,
        "d_model": hidden,
        "dropout": dropout,
        "vocab_size": vocab_size,
        "scale_embedding": True,
        "activation_function": "relu",
        "label_smoothing": 0.1,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
        "forced_eos_token_id": None,
    }


PRESETS: dict[str, tuple[type[LiteConfig], dict[str, Any]]] = {
    "transformer-base": (TransformerLiteConfig, _transformer(512, 2048, 8, 0.1, 40576)),
    "transformer-big": (TransformerLiteConfig, _transformer(1024, 4096, 16, 0.3, 35648)),
    "bert-base": (BertLiteConfig, _bert(12, 768)),
    "bert-large": (BertLiteConfig, _bert(24, 1024)),
    "bert-medium": (BertLiteConfig, _bert(8, 512)),
    "bert-small": (BertLiteConfig, _bert(4, 512)),
    "bert-mini": (BertLiteConfig, _bert(4, 256)),
    "bert-tiny": (BertLiteConfig, _bert(2, 128)),
}


def preset(name: str, **overrides) -> LiteConfig:
    """The config of a published size; `overrides` replace single fields.

    Raises:
        ValueError: `name` is not one of `PRESETS`, or a field does not fit.

    >>> preset("bert-tiny", vocab_size=1000).hidden_size
    128
    """
    if name not in PRESETS:
        raise ValueError(f"preset: name must be one of {sorted(PRESETS)}, got {name!r}")
    config_class, fields = PRESETS[name]
    return config_class(**{**fields, **overrides})
