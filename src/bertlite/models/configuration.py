"""Configurations of BERT and of the Transformer.

`BertLiteConfig` keeps the field names of a BERT `config.json` and `TransformerLiteConfig` those of
a Marian one (and of its relatives, see `transformer_families.py`), so that each side reads the
other's files. The shared layers read BERT's names; `attribute_map` lends them to the other.
Sources: Vaswani et al. 2017 (https://arxiv.org/abs/1706.03762), Devlin et al. 2018
(https://arxiv.org/abs/1810.04805).
"""

from typing import Any, ClassVar

# First, since a release that was not tested may lack what the others import.
from .versions import check_transformers  # noqa: F401

# isort: split
from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

from .config_fields import check_fields, refuse
from .transformer_families import FAMILIES, TransformerFamily

MARIAN_NORM_EPS = 1e-5  # of Marian and its relatives, whose configs have no field for it


@strict
class LiteConfig(PreTrainedConfig):
    """Fields and checks that both families share."""

    # What a folder may call itself, and the fields without which a nameless one is not ours.
    accepted_model_types: ClassVar[tuple[str, ...]] = ()
    required_fields: ClassVar[tuple[str, ...]] = ()

    # Whether positions begin after the number of the padding id, as RoBERTa counts them.
    positions_after_padding: ClassVar[bool] = False
    # Whether there is a bias: of queries, keys and values; of what they end in; of the others.
    qkv_bias: ClassVar[bool] = True
    attention_bias: ClassVar[bool] = True
    mlp_bias: ClassVar[bool] = True
    norm_bias: ClassVar[bool] = True
    gated_feed_forward: ClassVar[bool] = False

    is_decoder: bool = False
    tie_word_embeddings: bool = True
    bos_token_id: int | None = None
    # Post-norm, as in both papers; True puts the norm before each sub-layer (pre-norm).
    norm_first: bool = False
    # Whether a backend may lay real tokens end to end; False: the plain core, padding included.
    unpad_inputs: bool = True
    # Labelled positions that meet the vocabulary at a time in training; 0: all logits, always.
    loss_chunk_size: int = 1024

    # Fields that are a probability, those that are at least 1, and those that are at least 0.
    shares: ClassVar[tuple[str, ...]] = ()
    sizes: ClassVar[tuple[str, ...]] = ()
    counts: ClassVar[tuple[str, ...]] = ()
    position_kinds: ClassVar[tuple[str, ...]] = ("absolute", "sinusoidal")
    # Lists that pruning sets, a number a layer: where they are None, which field says the size of
    # all layers (and the most that a list may say), and which one the number of layers.
    by_layer: ClassVar[dict[str, tuple[str, str]]] = {}

    def __post_init__(self, **kwargs):
        check_fields(self)
        super().__post_init__(**kwargs)
        self._check_numbers()
        self._check_choices()

    def _check_numbers(self) -> None:
        for name in self.shares:
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                self._refuse(name, value, "at least 0 and below 1")
        for name in self.sizes:
            self._check_range(name, 1)
        for name in ("loss_chunk_size", "layer_norm_eps"):
            self._check_range(name, 0)
        for name in self.counts:  # nobody shall wait for ever for a damaged file's layers
            self._check_range(name, 0, 10_000)

    def _check_range(self, name: str, low: int, high: int | None = None) -> None:
        value = getattr(self, name)
        if value < low or high is not None and value > high:
            self._refuse(name, value, f"at least {low}" if value < low else f"at most {high}")

    def _check_choices(self) -> None:
        if bool(self.is_encoder_decoder) != type(self).is_encoder_decoder:
            self._refuse("is_encoder_decoder", self.is_encoder_decoder, "as in its family")
        if self.is_decoder and not self.is_encoder_decoder:
            expected = "False: this family encodes, TransformerLite has the decoder"
            self._refuse("is_decoder", True, expected)
        if self.hidden_act not in ACT2FN:
            self._refuse("hidden_act", self.hidden_act, f"one of {sorted(ACT2FN)}")
        if self.position_embedding_type not in self.position_kinds:
            expected = " or ".join(map(repr, self.position_kinds))
            self._refuse("position_embedding_type", self.position_embedding_type, expected)

    @property
    def position_padding(self) -> int | None:
        """The position of padding, after which those of tokens begin; None: they begin at 0."""
        return self.pad_token_id if self.positions_after_padding else None

    @property
    def embedding_width(self) -> int:
        """Of the vectors that the embeddings give: the hidden size, unless a family says else."""
        return self.hidden_size

    @property
    def max_tokens(self) -> int:
        """Tokens that a row may hold."""
        padding = self.position_padding
        return self.max_position_embeddings - (0 if padding is None else padding + 1)

    def check_heads(self) -> None:
        """Refuse, when a model is built, sizes that do not fit: of heads, layers, words."""
        pad, words = self.pad_token_id, getattr(self, "vocab_size", None)
        if pad is not None and words is not None and not -words <= pad < words:
            self._refuse("pad_token_id", pad, f"None or below vocab_size, {words}")
        for heads in self.head_counts():
            if heads < 1 or self.hidden_size < 1 or self.hidden_size % heads:
                expected = f"a positive multiple of the {heads} attention heads"
                self._refuse("hidden_size", self.hidden_size, expected)
        for name, (size, layers) in self.by_layer.items():
            most, count, found = getattr(self, size), getattr(self, layers), self.sizes_of(name)
            if len(found) != count or not all(1 <= each <= most for each in found):
                expected = f"{count} numbers ({layers}) from 1 to {most} ({size})"
                self._refuse(name, found, expected)

    def sizes_of(self, name: str) -> list[int]:
        """What `name`, one of `by_layer`, says of each layer; alike in all unless it was pruned."""
        size, layers = self.by_layer[name]
        given = getattr(self, name)
        return [getattr(self, size)] * getattr(self, layers) if given is None else list(given)

    @property
    def saves_positions(self) -> bool:
        """Whether the family's files hold a table of positions that is computed."""
        return False

    def head_counts(self) -> tuple[int, ...]:
        """Attention heads of each side."""
        return (self.num_attention_heads,)

    @property
    def is_pruned(self) -> bool:
        """Whether layers differ in size, which transformers' classes cannot have."""
        return any(getattr(self, name) is not None for name in self.by_layer)

    def plain_model_type(self) -> str | None:
        """The `model_type` under which transformers' own classes compute the same; else None.

        A model is saved under it, so that nobody needs our code to load it.
        """
        return None

    def _refuse(self, name: str, got: Any, expected: str) -> None:
        refuse(self, name, got, expected)

    @classmethod
    def adopt(cls, config_dict: dict[str, Any], source: str = "config") -> dict[str, Any]:
        """Rename an accepted folder's `model_type` to ours.

        Raises:
            ValueError: another architecture's.
        """
        found = config_dict.get("model_type")
        missing = [field for field in cls.required_fields if field not in config_dict]
        if (found is None and missing) or found not in (None, *cls.accepted_model_types):
            came = f"model_type {found!r}"
            if found is None:
                came = f"no model_type, and no {', '.join(missing)}"
            accepted = " and ".join(cls.accepted_model_types)
            raise ValueError(f"{source}: {came}; {cls.__name__} reads only {accepted}")
        return {**config_dict, "model_type": cls.model_type}

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs):
        config_dict, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
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
    shares = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
    sizes = ("vocab_size", "max_position_embeddings", "intermediate_size")
    counts = ("num_hidden_layers",)
    by_layer: ClassVar[dict[str, tuple[str, str]]] = {
        "heads_per_layer": ("num_attention_heads", "num_hidden_layers"),
        "intermediate_sizes": ("intermediate_size", "num_hidden_layers"),
    }

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
    # Of a pruned model. A head keeps the size hidden_size / num_attention_heads.
    heads_per_layer: list[int] | None = None
    intermediate_sizes: list[int] | None = None

    def plain_model_type(self) -> str | None:
        """As of every configuration: post-norm with learned positions and segments is BERT."""
        learned = self.position_embedding_type == "absolute" and self.type_vocab_size > 0
        return "bert" if learned and not self.norm_first and not self.is_pruned else None


@strict
class TransformerLiteConfig(LiteConfig):
    """Configuration of the encoder-decoders; field names and defaults are Marian's.

    A folder of another family of `transformer_families.py` is read with that family's defaults, and
    `of_family` makes such a configuration from nothing.
    """

    model_type = "transformerlite"
    accepted_model_types = ("transformerlite", *FAMILIES)
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
    shares: ClassVar[tuple[str, ...]] = ("dropout", "attention_dropout", "activation_dropout")
    shares += ("encoder_layerdrop", "decoder_layerdrop", "label_smoothing")
    sizes = ("vocab_size", "max_position_embeddings", "encoder_ffn_dim", "decoder_ffn_dim")
    counts = ("encoder_layers", "decoder_layers")
    position_kinds = ("absolute", "sinusoidal", "sinusoidal-from-ids")
    by_layer: ClassVar[dict[str, tuple[str, str]]] = {
        "encoder_heads_per_layer": ("encoder_attention_heads", "encoder_layers"),
        "encoder_ffn_dims": ("encoder_ffn_dim", "encoder_layers"),
        "decoder_heads_per_layer": ("decoder_attention_heads", "decoder_layers"),
        "cross_heads_per_layer": ("decoder_attention_heads", "decoder_layers"),
        "decoder_ffn_dims": ("decoder_ffn_dim", "decoder_layers"),
    }

    # One of `FAMILIES`: whose names, norms and positions the model has.
    family: str = "marian"
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
    position_embedding_type: str = "sinusoidal"  # as in the paper; "absolute": learned, as in BERT
    type_vocab_size: int = 0  # segment embeddings of the encoder; 2 when it starts from a BERT
    # A norm after the embeddings; True when it starts from a BERT.
    normalize_embedding: bool = False
    layer_norm_eps: float = MARIAN_NORM_EPS
    init_std: float = 0.02
    scale_embedding: bool = False  # multiply embeddings by sqrt(d_model), section 3.4
    label_smoothing: float | int = 0.0  # section 5.4 uses 0.1
    classifier_dropout: float | int = 0.0  # of BART's heads
    is_encoder_decoder: bool = True
    use_cache: bool = True
    share_encoder_decoder_embeddings: bool = True
    pad_token_id: int | None = 58100
    eos_token_id: int | list[int] | None = 0
    # None: each text begins with its language, which generation is told.
    decoder_start_token_id: int | None = 58100
    forced_eos_token_id: int | list[int] | None = 0
    # Of a pruned model. A head keeps the size d_model / attention heads of its side; the decoder's
    # heads that look at the source are the cross heads.
    encoder_heads_per_layer: list[int] | None = None
    encoder_ffn_dims: list[int] | None = None
    decoder_heads_per_layer: list[int] | None = None
    cross_heads_per_layer: list[int] | None = None
    decoder_ffn_dims: list[int] | None = None

    def __post_init__(self, **kwargs):
        self.decoder_vocab_size = self.decoder_vocab_size or self.vocab_size
        if self.family not in FAMILIES:
            self._refuse("family", self.family, f"one of {', '.join(FAMILIES)}")
        if self.family != "marian":
            for name, value in self.traits.fields.items():
                setattr(self, name, value)
        super().__post_init__(**kwargs)
        if self.share_encoder_decoder_embeddings and self.decoder_vocab_size != self.vocab_size:
            self._refuse(
                "decoder_vocab_size",
                self.decoder_vocab_size,
                f"{self.vocab_size}: embeddings are shared",
            )
        start = self.decoder_start_token_id
        if start is not None and not 0 <= start < self.target_vocab_size:
            expected = f"a token below decoder_vocab_size {self.target_vocab_size}"
            self._refuse("decoder_start_token_id", start, expected)

    def plain_model_type(self) -> str | None:
        """As of every configuration: the family's, where nothing of BERT or of ours is in it."""
        traits = {name: getattr(self, name) for name in self.traits.fields}
        differs = traits != self.traits.fields or self.type_vocab_size or self.is_pruned
        if self.family == "marian":
            differs = differs or self.decoder_start_token_id is None
        return None if differs or self.layer_norm_eps != MARIAN_NORM_EPS else self.family

    @property
    def traits(self) -> TransformerFamily:
        """What the family does otherwise than Marian."""
        return FAMILIES[self.family]

    @property
    def saves_positions(self) -> bool:
        """As `LiteConfig.saves_positions`."""
        return self.traits.saves_positions

    @property
    def target_vocab_size(self) -> int:
        """The decoder's vocabulary."""
        return self.decoder_vocab_size or self.vocab_size

    def head_counts(self) -> tuple[int, ...]:
        """Attention heads of encoder and decoder."""
        return (self.encoder_attention_heads, self.decoder_attention_heads)

    @classmethod
    def of_family(cls, family: str, **fields: Any) -> "TransformerLiteConfig":
        """A configuration with a family's own defaults.

        >>> TransformerLiteConfig.of_family("pegasus", d_model=64).pad_token_id
        0
        """
        defaults = FAMILIES[family].defaults if family in FAMILIES else {}
        return cls(**{**defaults, **fields, "family": family})

    @classmethod
    def adopt(cls, config_dict: dict[str, Any], source: str = "config") -> dict[str, Any]:
        """As `LiteConfig.adopt`; what a family's folder leaves out has that family's defaults."""
        adopted = super().adopt(config_dict, source)
        family = config_dict.get("model_type")
        if family not in FAMILIES or family == "marian":
            return adopted
        defaults = dict(FAMILIES[family].defaults)
        if config_dict.get("id2label") is not None:
            defaults.pop("num_labels", None)
        return {**defaults, **adopted, "family": family}

    def to_dict(self) -> dict[str, Any]:
        """As the library's; a family other than Marian keeps its own `model_type` and names.

        So whatever reads that family's folders reads what is saved from here.
        """
        written = super().to_dict()
        if self.family != "marian":
            written["model_type"] = self.family
            written["normalize_before"] = self.norm_first  # what CTranslate2's converter asks for
            names = written.get("architectures") or []
            prefix = self.traits.prefix
            written["architectures"] = [name.replace("TransformerLite", prefix) for name in names]
        return written

    def to_diff_dict(self) -> dict[str, Any]:
        """What a file holds: also what equals Marian's defaults and not those of the family."""
        written, whole = super().to_diff_dict(), self.to_dict()
        if self.family != "marian":
            names = ["model_type", "architectures", "normalize_before", "normalize_embedding"]
            if "num_labels" in self.traits.defaults:
                names += ["id2label", "label2id"]
            written |= {name: whole[name] for name in self.traits.defaults if name in whole}
            written |= {name: whole[name] for name in names if name in whole}
        return written
