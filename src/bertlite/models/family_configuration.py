"""What the configurations of BERT's relatives share."""

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict

from .configuration import BertLiteConfig, LiteConfig


@strict
class FamilyConfig(LiteConfig):
    """What the configuration of a family adds to transformers' own of it.

    A family's class inherits from transformers' class first, so that fields and defaults are
    theirs, and `config.json` stays a file of that family. The class attributes are what BERT's
    layers ask for and such a file does not say.
    """

    activation_dropout: ClassVar[float] = 0.0
    normalize_embedding: ClassVar[bool] = True
    scale_embedding: ClassVar[bool] = False
    position_embedding_type: ClassVar[str] = "absolute"
    type_vocab_size: ClassVar[int] = 0
    classifier_dropout: ClassVar[float | None] = None
    heads_per_layer: ClassVar[list[int] | None] = None
    intermediate_sizes: ClassVar[list[int] | None] = None
    by_layer: ClassVar[dict[str, tuple[str, str]]] = BertLiteConfig.by_layer
    shares = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    sizes = ("vocab_size", "max_position_embeddings", "intermediate_size")
    counts = ("num_hidden_layers",)

    def _check_choices(self) -> None:
        super()._check_choices()
        if self.norm_first:
            expected = f"False: a {self.model_type} has its norms where they are"
            self._refuse("norm_first", True, expected)

    def to_dict(self) -> dict[str, Any]:
        """As the library's; no code travels with a family."""
        return {name: each for name, each in super().to_dict().items() if name != "auto_map"}

    @classmethod
    def adopt(cls, config_dict: dict[str, Any], source: str = "config") -> dict[str, Any]:
        """As of `LiteConfig`; a folder has to say that it is of this family."""
        found = config_dict.get("model_type")
        if found != cls.model_type:
            raise ValueError(
                f"{source}: model_type {found!r}; {cls.__name__} reads only {cls.model_type}"
            )
        return dict(config_dict)


class NarrowConfig:
    """Mixed into the configuration of a family whose embeddings have a width of their own."""

    embedding_size: int

    @property
    def embedding_width(self) -> int:
        """As of `LiteConfig`."""
        return self.embedding_size
