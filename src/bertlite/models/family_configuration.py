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
    shares: ClassVar[tuple[str, ...]] = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    sizes: ClassVar[tuple[str, ...]] = (
        "vocab_size",
        "max_position_embeddings",
        "intermediate_size",
    )
    counts: ClassVar[tuple[str, ...]] = ("num_hidden_layers",)

    def _check_choices(self) -> None:
        super()._check_choices()
        own = type(self).norm_first
        if self.norm_first != own:
            expected = f"{own}: a {self.model_type} has its norms where they are"
            self._refuse("norm_first", self.norm_first, expected)

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


@strict
class PatchConfig(FamilyConfig):
    """What the configurations of families have in common that read patches instead of words.

    Sources: Dosovitskiy et al. 2020 (https://arxiv.org/abs/2010.11929), and for sound Gong et al.
    2021 (https://arxiv.org/abs/2104.01778).
    """

    norm_first: ClassVar[bool] = True
    sizes: ClassVar[tuple[str, ...]] = ("intermediate_size",)

    def __post_init__(self, **kwargs):
        super().__post_init__(**{**kwargs, "pad_token_id": None})  # it has no words

    def _check_numbers(self) -> None:
        super()._check_numbers()
        patch, whole = self.patch_sides, self.grid_of(*self.whole_sides)
        if min(patch) < 1:
            self._refuse("patch_size", self.patch_size, "at least 1")
        if min(whole) < 1:
            self._refuse("patch_size", self.patch_size, f"at most {self.whole_sides}")

    @property
    def patch_sides(self) -> tuple[int, int]:
        """Height and width of a patch."""
        return two_sides(self.patch_size)

    @property
    def patch_strides(self) -> tuple[int, int]:
        """How far apart patches begin, down and across: side by side, unless a family says else."""
        return self.patch_sides

    @property
    def whole_sides(self) -> tuple[int, int]:
        """Height and width of what has a position for each of its patches."""
        return two_sides(self.image_size)

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        """How many patches lie within these sides, down and across."""
        sides = zip((height, width), self.patch_sides, self.patch_strides, strict=True)
        down, across = (max(0, (whole - patch) // max(1, step) + 1) for whole, patch, step in sides)
        return down, across

    def sides_of(self, down: int, across: int) -> tuple[int, int]:
        """Height and width that so many patches reach over."""
        sides = zip((down, across), self.patch_sides, self.patch_strides, strict=True)
        height, width = ((count - 1) * step + patch for count, patch, step in sides)
        return height, width


def two_sides(size: Any) -> tuple[int, int]:
    """Height and width, of a number that says both or of the two.

    >>> two_sides(16), two_sides([12, 8])
    ((16, 16), (12, 8))
    """
    height, width = (size, size) if isinstance(size, int) else size
    return height, width
