"""The encoder-decoder families: what each does otherwise than Marian, as a table.

All are the Transformer of Vaswani et al. 2017 with the same layers and nearly the same tensor
names. They differ in where norms stand, how positions are told, and in what their files leave out
because it is the default of their own configuration.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TransformerFamily:
    """A family of checkpoints.

    Args:
        prefix: of its classes in transformers.
        norm_first: pre-norm layers, and a norm after the last one.
        position_embedding_type: "sinusoidal", "absolute" (learned), or "sinusoidal-from-ids":
            padding, wherever it stands, has no position and is not counted.
        unused_positions: rows of the learned table before that of the first position.
        normalize_embedding: a norm after the embeddings.
        adds_positions_last: the decoder normalises words, which it never scales, before it adds
            positions.
        has_logits_bias: whether files hold a bias of the output layer.
        saves_positions: whether files hold the positions that are computed.
        starts_with_last_label: in training the decoder's input begins with the last label, which
            is the target's language, and not with one token for all.
        reads_source: a decoder that is given nothing reads the source, moved by one.
        heads: endings of the classes beside the model's and ForConditionalGeneration.
        defaults: values of the configuration that differ from Marian's.
    """

    prefix: str
    norm_first: bool = False
    position_embedding_type: str = "sinusoidal"
    unused_positions: int = 0
    normalize_embedding: bool = False
    adds_positions_last: bool = False
    has_logits_bias: bool = True
    saves_positions: bool = False
    starts_with_last_label: bool = False
    reads_source: bool = False
    heads: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fields(self) -> dict[str, Any]:
        """The values of the configuration that the family decides."""
        names = ("norm_first", "position_embedding_type", "normalize_embedding")
        return {name: getattr(self, name) for name in names}


# Of BART and those that follow it.
FAIRSEQ_TOKENS = {"vocab_size": 50265, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
BOTH_HEADS = ("ForSequenceClassification", "ForQuestionAnswering")

FAMILIES: dict[str, TransformerFamily] = {
    # Junczys-Dowmunt et al. 2018, https://arxiv.org/abs/1804.00344
    "marian": TransformerFamily("Marian"),
    # Lewis et al. 2019, https://arxiv.org/abs/1910.13461
    "bart": TransformerFamily(
        "Bart",
        position_embedding_type="absolute",
        unused_positions=2,
        normalize_embedding=True,
        reads_source=True,
        heads=BOTH_HEADS,
        defaults={
            **FAIRSEQ_TOKENS,
            "decoder_start_token_id": 2,
            "forced_eos_token_id": 2,
            "num_labels": 3,
        },
    ),
    # Liu et al. 2020, https://arxiv.org/abs/2001.08210
    "mbart": TransformerFamily(
        "MBart",
        norm_first=True,
        position_embedding_type="absolute",
        unused_positions=2,
        normalize_embedding=True,
        starts_with_last_label=True,
        reads_source=True,
        heads=BOTH_HEADS,
        defaults={**FAIRSEQ_TOKENS, "decoder_start_token_id": None, "forced_eos_token_id": 2},
    ),
    # Fan et al. 2020, https://arxiv.org/abs/2010.11125; NLLB (Costa-jussà et al. 2022,
    # https://arxiv.org/abs/2207.04672) has its architecture.
    "m2m_100": TransformerFamily(
        "M2M100",
        norm_first=True,
        position_embedding_type="sinusoidal-from-ids",
        has_logits_bias=False,
        defaults={
            **FAIRSEQ_TOKENS,
            "vocab_size": 128112,
            "activation_function": "relu",
            "attention_dropout": 0.1,
            "encoder_layerdrop": 0.05,
            "decoder_layerdrop": 0.05,
            "scale_embedding": True,
            "decoder_start_token_id": 2,
            "forced_eos_token_id": None,
        },
    ),
    # Zhang et al. 2019, https://arxiv.org/abs/1912.08777
    "pegasus": TransformerFamily(
        "Pegasus",
        norm_first=True,
        saves_positions=True,
        defaults={
            "vocab_size": 50265,
            "pad_token_id": 0,
            "eos_token_id": 1,
            "decoder_start_token_id": 0,
            "forced_eos_token_id": 1,
        },
    ),
    # Roller et al. 2020, https://arxiv.org/abs/2004.13637
    "blenderbot-small": TransformerFamily(
        "BlenderbotSmall",
        position_embedding_type="absolute",
        normalize_embedding=True,
        adds_positions_last=True,
        defaults={
            "vocab_size": 50265,
            "d_model": 512,
            "encoder_layers": 8,
            "encoder_ffn_dim": 2048,
            "decoder_layers": 8,
            "decoder_ffn_dim": 2048,
            "max_position_embeddings": 512,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
            "forced_eos_token_id": 2,
        },
    ),
}
