"""Configurations of the two families.

`BertLiteConfig` keeps the field names of a BERT `config.json` and `TransformerLiteConfig` those of
a Marian one, so that each side reads the other's files. The shared layers read BERT's names;
`attribute_map` lends them to the other. Sources: Vaswani et al. 2017
(https://arxiv.org/abs/1706.03762), Devlin et al. 2018 (https://arxiv.org/abs/1810.04805).
"""

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN


@strict
class LiteConfig(PreTrainedConfig):
    """Fields and checks that both families share."""

    # What a checkpoint folder may call itself, and the fields without which a nameless folder is
    # not ours.
    accepted_model_types: ClassVar[tuple[str, ...]] = ()
    required_fields: ClassVar[tuple[str, ...]] = ()

    is_decoder: bool = False
    tie_word_embeddings: bool = True
    bos_token_id: int | None = None
    norm_first: bool = (
        False  # post-norm, as in both papers; True puts the norm before each sub-layer (pre-norm)
    )
    unpad_inputs: bool = (
        True  # lay real tokens end to end in the encoder; False computes padded positions too
    )
    loss_chunk_size: int = (
        1024  # labelled positions projected to the vocabulary at a time in training; 0: full logits
    )

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        for heads in {
            self.num_attention_heads,
            getattr(self, "decoder_attention_heads", self.num_attention_heads),
        }:
            if heads < 1 or self.hidden_size < 1 or self.hidden_size % heads:
                self._refuse(
                    "hidden_size",
                    self.hidden_size,
                    f"a positive multiple of the {heads} attention heads",
                )
        shares = ("dropout", "layerdrop", "label_smoothing")
        for name, value in vars(self).items():
            if any(part in name for part in shares) and value is not None and not 0 <= value < 1:
                self._refuse(name, value, "at least 0 and below 1")
            sizes = ("vocab_size", "max_position_embeddings", "intermediate_size")
            if (name in sizes or name.endswith("_ffn_dim")) and value < 1:
                self._refuse(name, value, "at least 1")
            if (
                name in ("loss_chunk_size", "layer_norm_eps") or name.endswith("_layers")
            ) and value < 0:
                self._refuse(name, value, "at least 0")
        if self.is_decoder and not self.is_encoder_decoder:
            self._refuse(
                "is_decoder", True, "False: this family encodes, TransformerLite has the decoder"
            )
        if self.hidden_act not in ACT2FN:
            self._refuse("hidden_act", self.hidden_act, f"one of {sorted(ACT2FN)}")
        if self.position_embedding_type not in ("absolute", "sinusoidal"):
            self._refuse(
                "position_embedding_type",
                self.position_embedding_type,
                "'absolute' or 'sinusoidal'",
            )

    def _refuse(self, name: str, got: Any, expected: str) -> None:
        raise ValueError(f"{type(self).__name__}: {name} must be {expected}, got {got!r}")

    @classmethod
    def adopt(cls, config_dict: dict[str, Any], source: str = "config") -> dict[str, Any]:
        """Rename an accepted folder's `model_type` to ours.

        A ValueError for another architecture's.
        """
        found = config_dict.get("model_type")
        missing = [field for field in cls.required_fields if field not in config_dict]
        if (found is None and missing) or found not in (None, *cls.accepted_model_types):
            came = (
                f"model_type {found!r}" if found else f"no model_type, and no {', '.join(missing)}"
            )
            raise ValueError(
                f"{source}: {came}; {cls.__name__} reads only "
                f"{' and '.join(cls.accepted_model_types)}"
            )
        return {**config_dict, "model_type": cls.model_type}

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs):
        config_dict, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        # Without the rename, the tensor-name mapping of our type is not found and the encoder stays
        # random.
        return cls.adopt(config_dict, str(pretrained_model_name_or_path)), kwargs


@strict
class BertLiteConfig(LiteConfig):
    """Configuration of the BERT family; defaults are BERT-base, uncased."""

    model_type = "bertlite"
    accepted_model_types = ("bertlite", "bert")
    required_fields = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
    activation_dropout: ClassVar[float] = 0.0
    normalize_embedding: ClassVar[bool] = True
    scale_embedding: ClassVar[bool] = False

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    max_position_embeddings: int = 512
    position_embedding_type: str = "absolute"  # learned, as in BERT; or "sinusoidal"
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    eos_token_id: int | list[int] | None = None
    classifier_dropout: float | int | None = None  # None: hidden_dropout_prob


@strict
class TransformerLiteConfig(LiteConfig):
    """Configuration of the encoder-decoder family; field names and defaults are Marian's."""

    model_type = "transformerlite"
    accepted_model_types = ("transformerlite", "marian")
    required_fields = (
        "vocab_size",
        "d_model",
        "encoder_layers",
        "decoder_layers",
        "encoder_attention_heads",
    )
    keys_to_ignore_at_inference = ["past_key_values"]
    attribute_map = {
        "hidden_size": "d_model",
        "hidden_act": "activation_function",
        "hidden_dropout_prob": "dropout",
        "num_attention_heads": "encoder_attention_heads",
        "num_hidden_layers": "encoder_layers",
        "attention_probs_dropout_prob": "attention_dropout",
    }

    vocab_size: int = 58101
    decoder_vocab_size: int | None = None  # None: vocab_size
    d_model: int = 1024
    encoder_layers: int = 12
    encoder_ffn_dim: int = 4096
    encoder_attention_heads: int = 16
    decoder_layers: int = 12
    decoder_ffn_dim: int = 4096
    decoder_attention_heads: int = 16
    encoder_layerdrop: float | int = 0.0
    decoder_layerdrop: float | int = 0.0
    activation_function: str = "gelu"
    dropout: float | int = 0.1
    attention_dropout: float | int = 0.0
    activation_dropout: float | int = 0.0
    max_position_embeddings: int = 1024
    position_embedding_type: str = (
        "sinusoidal"  # as in the paper; "absolute" learns them, as BERT does
    )
    type_vocab_size: int = 0  # segment embeddings of the encoder; 2 when it starts from a BERT
    normalize_embedding: bool = (
        False  # a norm after the embeddings; True when it starts from a BERT
    )
    layer_norm_eps: float = 1e-5
    init_std: float = 0.02
    scale_embedding: bool = False  # multiply embeddings by sqrt(d_model), section 3.4
    label_smoothing: float | int = 0.0  # section 5.4 uses 0.1
    is_encoder_decoder: bool = True
    use_cache: bool = True
    share_encoder_decoder_embeddings: bool = True
    pad_token_id: int | None = 58100
    eos_token_id: int | list[int] | None = 0
    decoder_start_token_id: int = 58100
    forced_eos_token_id: int | list[int] | None = 0

    def __post_init__(self, **kwargs):
        self.decoder_vocab_size = self.decoder_vocab_size or self.vocab_size
        super().__post_init__(**kwargs)
        if self.share_encoder_decoder_embeddings and self.decoder_vocab_size != self.vocab_size:
            self._refuse(
                "decoder_vocab_size",
                self.decoder_vocab_size,
                f"{self.vocab_size}: embeddings are shared",
            )
