"""What stands on top of BERT, with BERT's own names: pooler, vocabulary head, next sentence.

Each is a module with a `forward` of its own and can be exchanged.

Shapes: `B` batch, `T` length, `E` hidden size, `V` vocabulary.
"""

import torch
from torch import nn
from transformers.activations import ACT2FN

from .configuration import BertLiteConfig, TransformerLiteConfig
from .inputs import assert_soon, is_traced


class BertPooler(nn.Module):
    """BERT's summary of a sequence: tanh(W h + b) of the first token's vector."""

    def __init__(self, config: BertLiteConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = nn.Tanh()

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(B, T, E)` to `(B, E)`."""
        return self.activation(self.dense(hidden_states[:, 0]))


class BertPredictionTransform(nn.Module):
    """What comes before the vocabulary: dense, activation, norm."""

    def __init__(self, config: BertLiteConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.transform_act_fn = ACT2FN[config.hidden_act]
        self.LayerNorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(..., E)` to `(..., E)`."""
        return self.LayerNorm(self.transform_act_fn(self.dense(hidden_states)))


class BertPredictions(nn.Module):
    """Scores over the vocabulary: a transform, then the transposed word embedding and a bias."""

    def __init__(self, config: BertLiteConfig):
        super().__init__()
        self.transform = BertPredictionTransform(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))  # the file's name of decoder.bias

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(..., E)` to `(..., V)`."""
        return self.decoder(self.transform(hidden_states))


class BertMaskedLMHead(nn.Module):
    """BERT's `cls` of a masked language model."""

    def __init__(self, config: BertLiteConfig):
        super().__init__()
        self.predictions = BertPredictions(config)

    def forward(self, sequence_output: torch.Tensor) -> torch.Tensor:
        """`(..., E)` to `(..., V)`."""
        return self.predictions(sequence_output)


class BertNextSentenceHead(nn.Module):
    """BERT's `cls` of next-sentence prediction."""

    def __init__(self, config: BertLiteConfig):
        super().__init__()
        self.seq_relationship = nn.Linear(config.hidden_size, 2)

    def forward(self, pooled_output: torch.Tensor) -> torch.Tensor:
        """`(B, E)` to `(B, 2)`."""
        return self.seq_relationship(pooled_output)


class BertPreTrainingHeads(nn.Module):
    """BERT's `cls` of pretraining: both of them."""

    def __init__(self, config: BertLiteConfig):
        super().__init__()
        self.predictions = BertPredictions(config)
        self.seq_relationship = nn.Linear(config.hidden_size, 2)

    def forward(
        self, sequence_output: torch.Tensor, pooled_output: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`(..., E)` and `(B, E)` to `(..., V)` and `(B, 2)`."""
        return self.predictions(sequence_output), self.seq_relationship(pooled_output)


def head_dropout(config: BertLiteConfig) -> nn.Dropout:
    """The dropout before a head's linear layer."""
    if config.classifier_dropout is None:
        return nn.Dropout(config.hidden_dropout_prob)
    return nn.Dropout(config.classifier_dropout)


class BartClassificationHead(nn.Module):
    """BART's head: dropout, dense, tanh, dropout, scores."""

    def __init__(self, config: TransformerLiteConfig):
        super().__init__()
        self.dense = nn.Linear(config.d_model, config.d_model)
        self.dropout = nn.Dropout(config.classifier_dropout)
        labels: int = config.num_labels  # type: ignore[assignment]
        self.out_proj = nn.Linear(config.d_model, labels)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(B, E)` to `(B, L)`."""
        inner = self.dense(self.dropout(hidden_states)).tanh()
        return self.out_proj(self.dropout(inner))


def last_ends(input_ids: torch.Tensor, eos_token_id: int | list[int] | None) -> torch.Tensor:
    """Where the last end token of each row of `(B, T)` stands, `(B,)`.

    Raises:
        ValueError: a row has none.
    """
    known = eos_token_id if isinstance(eos_token_id, list) else [eos_token_id]
    ends = torch.isin(input_ids, torch.tensor(known, device=input_ids.device))  # (B, T)
    if not is_traced():
        said = "input_ids must hold an end token (eos_token_id) in every row"
        assert_soon(ends.any(-1).all(), said)
    places = torch.arange(input_ids.shape[1], device=ends.device)
    return (ends * places).argmax(-1)
