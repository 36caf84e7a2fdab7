"""Heads that several families of BERT's kind share, with the names of their files.

Shapes: `B` batch, `T` length, `E` hidden size, `V` vocabulary, `L` labels.
"""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.modeling_outputs import BaseModelOutputWithPooling

from .heads import head_dropout
from .modeling_bertlite import BertLiteForMaskedLM, BertLiteForSequenceClassification


class FamilyModel:
    """Mixed into a family's models: what they save is a folder of that family, and no code."""

    config: Any
    is_of_bertlite: Any
    auto_map: dict[str, str] = {}

    def plain_names(self) -> tuple[str, str] | None:
        """As of `LitePreTrainedModel`: transformers' class has the same name."""
        return (self.config.model_type, type(self).__name__) if self.is_of_bertlite() else None


class LMHead(nn.Module):
    """RoBERTa's scores over the vocabulary: dense, GELU, norm, then word embedding and bias."""

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.layer_norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))  # the file's name of decoder.bias

    def transform(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(..., E)` to `(..., E)`."""
        return self.layer_norm(nn.functional.gelu(self.dense(hidden_states)))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(..., E)` to `(..., V)`."""
        return self.decoder(self.transform(hidden_states))


class LMHeadForMaskedLM(BertLiteForMaskedLM):
    """Masked language model with an `lm_head`."""

    output_name = "lm_head.decoder"

    def add_head(self, config: PreTrainedConfig) -> None:
        self.lm_head = LMHead(config)

    def transform(self, vectors: torch.Tensor) -> torch.Tensor:
        return self.lm_head.transform(vectors)

    def score(self, vectors: torch.Tensor) -> torch.Tensor:
        return self.lm_head(vectors)


class ClassificationHead(nn.Module):
    """Classes by the first vector: dropout, dense, activation, dropout, linear."""

    def __init__(self, config: Any, activation: str):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = head_dropout(config)
        self.out_proj = nn.Linear(config.hidden_size, config.num_labels or 2)
        self.activation = ACT2FN[activation]

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(B, T, E)` to `(B, L)`."""
        first = self.dropout(hidden_states[:, 0])  # (B, E)
        return self.out_proj(self.dropout(self.activation(self.dense(first))))


class FirstVectorClassification(BertLiteForSequenceClassification):
    """Classes or scores of a sequence by its first vector, without a pooler."""

    reads_pooler = False
    head_activation = "tanh"

    def add_head(self, config: PreTrainedConfig) -> None:
        self.classifier = ClassificationHead(config, self.head_activation)

    def score(
        self, outputs: BaseModelOutputWithPooling, attention_mask: torch.Tensor | None
    ) -> torch.Tensor:
        return self.classifier(rows_of(outputs))


def rows_of(outputs: BaseModelOutputWithPooling) -> torch.Tensor:
    """The vectors of each row `(B, T, E)`, or `(B, 1, E)` where only the first ones were read."""
    vectors: Any = outputs.last_hidden_state
    return vectors[:, None] if vectors.ndim == 2 else vectors


def first_vectors(outputs: BaseModelOutputWithPooling) -> torch.Tensor:
    """The first vector of each row, `(B, E)`."""
    return rows_of(outputs)[:, 0]
