"""ModernBERT (Warner et al. 2024, https://arxiv.org/abs/2412.13663), and Ettin, whose encoders are
of the same type: rotary positions, a gated feed-forward, norms before the sub-layers, no biases,
and layers of which most see no farther than a window.
"""

from typing import Any, ClassVar

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import initialization as init
from transformers.models.modernbert import configuration_modernbert as original
from transformers.models.modernbert import modeling_modernbert as their

from .embeddings import MODERNBERT_EMBEDDINGS, BertEmbeddings
from .encoder import LayerStack
from .family_configuration import FamilyConfig
from .family_heads import FamilyModel, rows_of
from .inputs import TextBatch
from .layers import EncoderLayer
from .modeling_bertlite import (
    BertLiteForMaskedLM,
    BertLiteForMultipleChoice,
    BertLiteForQuestionAnswering,
    BertLiteForSequenceClassification,
    BertLiteForTokenClassification,
    BertLiteModel,
    BertLitePreTrainedModel,
)
from .names import MODERNBERT_ATTENTION, MODERNBERT_LAYER

LOCAL = "sliding_attention"  # in `layer_types`, a layer that has a window


@strict
class ModernBertConfig(original.ModernBertConfig, FamilyConfig):
    """Configuration of a ModernBERT."""

    norm_first: ClassVar[bool] = True
    gated_feed_forward: ClassVar[bool] = True
    position_embedding_type: ClassVar[str] = "rotary"
    position_kinds = ("rotary",)
    shares = ("attention_dropout", "mlp_dropout", "embedding_dropout", "classifier_dropout")
    counts = ("num_hidden_layers", "local_attention")
    attribute_map = {
        "layer_norm_eps": "norm_eps",
        "qkv_bias": "attention_bias",
        "hidden_act": "hidden_activation",
        "activation_dropout": "mlp_dropout",
        "attention_probs_dropout_prob": "attention_dropout",
        "hidden_dropout_prob": "attention_dropout",  # of what attention adds
    }


class ModernBertEmbeddings(BertEmbeddings):
    """ModernBERT's `embeddings`: words alone."""

    part_names = MODERNBERT_EMBEDDINGS

    def __init__(self, config: Any):
        super().__init__(config)
        self.drop = nn.Dropout(config.embedding_dropout)


def make_layers(config: Any) -> nn.ModuleList:
    """The layers, of which the first gets what the embeddings have just normalised."""
    layers = nn.ModuleList(
        EncoderLayer(
            config,
            MODERNBERT_LAYER,
            MODERNBERT_ATTENTION,
            num_heads=config.num_attention_heads,
            intermediate_size=config.intermediate_size,
            layer_idx=index,
            window=config.sliding_window if config.layer_types[index] == LOCAL else None,
        )
        for index in range(config.num_hidden_layers)
    )
    if layers:
        layers[0].attn_norm = nn.Identity()
    return layers


class ModernBertPreTrainedModel(FamilyModel, BertLitePreTrainedModel):
    """Base of the family."""

    config: ModernBertConfig  # type: ignore[assignment]
    base_model_prefix = "model"
    embeddings_class, pooler_class = ModernBertEmbeddings, None
    encoder_class, encoder_name = staticmethod(make_layers), "layers"  # type: ignore[assignment]

    def _initialize_weights(self, module: nn.Module, is_custom_code: bool = False) -> None:
        """As the library's for its own code: it asks of modules without own weights, too."""
        super()._initialize_weights(module)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Normal numbers, cut off, and smaller ones in what is added to the residual."""
        super()._init_weights(module)
        usual = self.config.initializer_range
        small = usual / (2 * self.config.num_hidden_layers) ** 0.5
        if isinstance(module, EncoderLayer):
            attention = module.self_attention
            self.draw(usual, attention.query_key_value, module.inner)
            self.draw(small, attention.projection, module.outer)
        elif isinstance(module, ModernBertEmbeddings):
            self.draw(usual, module.word_embeddings)
        elif isinstance(module, their.ModernBertPredictionHead):
            self.draw(small, module.dense)
        elif isinstance(module, ModernBertForMaskedLM):
            self.draw(small, module.decoder)
        elif isinstance(module, ModernBertHead):
            self.draw(self.config.hidden_size**-0.5, module.classifier)
        elif isinstance(module, their.ModernBertRotaryEmbedding):
            for name, table in their.ModernBertRotaryEmbedding(self.config).named_buffers():
                init.copy_(getattr(module, name), table)

    def draw(self, deviation: float, *modules: Any) -> None:
        """Fill the weights of these."""
        limit = self.config.initializer_cutoff_factor * deviation
        for module in modules:
            init.trunc_normal_(module.weight, std=deviation, a=-limit, b=limit)


class ModernBertModel(LayerStack, ModernBertPreTrainedModel, BertLiteModel):
    """ModernBERT without a head."""

    special_attention = ("rotary positions", "a window")
    layerdrop, limits_rows = 0.0, False

    def __init__(self, config: Any, add_pooling_layer: bool = False):
        super().__init__(config, add_pooling_layer)
        self.rotary_emb = their.ModernBertRotaryEmbedding(config)

    @property
    def layers(self) -> Any:  # type: ignore[override]
        """The layers stand in the model itself."""
        return self._modules["layers"]

    @property
    def stack(self) -> LayerStack:
        return self

    @property
    def window(self) -> int | None:
        return self.config.sliding_window

    def make_batch(self, *given: Any, past_length: int = 0, **kwargs: Any) -> TextBatch:
        """As of `TextEncoder`; nothing may stand before the batch."""
        if past_length:
            raise ValueError(
                "past_key_values must be None, since a window counts the batch's own tokens, got "
                f"{past_length} keys"
            )
        return super().make_batch(*given, **kwargs)

    def rotations(
        self, position_ids: torch.Tensor, hidden_states: torch.Tensor
    ) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        wide = torch.promote_types(hidden_states.dtype, torch.float32)
        like = hidden_states.new_empty(0, dtype=wide)
        names = {"full_attention": "rotation", LOCAL: "local_rotation"}
        kinds = set(self.config.layer_types or ())
        return {names[kind]: self.rotary_emb(like, position_ids, kind) for kind in kinds}


ModernBertPreTrainedModel.base_class = ModernBertModel


class ModernBertForMaskedLM(ModernBertPreTrainedModel, BertLiteForMaskedLM):
    """Masked language model."""

    _tied_weights_keys = {"decoder.weight": "model.embeddings.tok_embeddings.weight"}
    output_name = "decoder"

    def add_head(self, config: Any) -> None:
        self.head = their.ModernBertPredictionHead(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size, bias=config.decoder_bias)

    def transform(self, vectors: torch.Tensor) -> torch.Tensor:
        return self.head(vectors)


class ModernBertHead:
    """What the other heads share: dense, activation, norm, dropout, linear."""

    def add_head(self: Any, config: Any) -> None:
        count = 1 if isinstance(self, BertLiteForMultipleChoice) else config.num_labels
        self.head = their.ModernBertPredictionHead(config)
        self.drop = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, count)

    def score(self: Any, vectors: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.drop(self.head(vectors)))


class RowHead(ModernBertHead):
    """A head that reads one vector of each row: its first, or the mean of all real ones."""

    reads_pooler = False
    first_is_real = False  # whether "first" is the first real one, or at position 0

    def add_head(self: Any, config: Any) -> None:
        super().add_head(config)
        if self.first_is_real or config.classifier_pooling == "mean":
            self.base_model.reads_first_position, self.base_model.ignores_padding = False, True

    def first_vectors(self: Any, *given: Any, **kwargs: Any) -> torch.Tensor | None:
        others = self.base_model.ignores_padding
        return None if others else super().first_vectors(*given, **kwargs)

    def score(self: Any, outputs: Any, attention_mask: torch.Tensor | None) -> torch.Tensor:
        vectors = rows_of(outputs)  # (B, T, E)
        if not self.base_model.ignores_padding:
            return super().score(vectors[:, 0])
        mask = vectors.new_ones(vectors.shape[:2]) if attention_mask is None else attention_mask
        if mask.ndim != 2:
            shape = tuple(vectors.shape[:2])
            raise ValueError(f"attention_mask must have shape {shape}, got {tuple(mask.shape)}")
        return super().score(self.read(vectors, mask))

    def read(self: Any, vectors: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """`(B, T, E)` and `(B, T)` to `(B, E)`."""
        if self.config.classifier_pooling == "cls":
            first = mask.bool().long().argmax(-1)
            return vectors[torch.arange(len(first), device=first.device), first]
        mask = mask.to(vectors.dtype)
        return (vectors * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


class ModernBertForSequenceClassification(
    RowHead, ModernBertPreTrainedModel, BertLiteForSequenceClassification
):
    """Classes or scores of a sequence, or of a pair."""


class ModernBertForMultipleChoice(RowHead, ModernBertPreTrainedModel, BertLiteForMultipleChoice):
    """Scores of C choices."""

    first_is_real = True


class ModernBertForTokenClassification(
    ModernBertHead, ModernBertPreTrainedModel, BertLiteForTokenClassification
):
    """A class for each token."""


class ModernBertForQuestionAnswering(
    ModernBertHead, ModernBertPreTrainedModel, BertLiteForQuestionAnswering
):
    """Where the answer begins and ends in the row."""
