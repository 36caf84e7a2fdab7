"""Tokens, positions and segments as vectors.

One class for BERT and for both sides of the Transformer.

Shapes: `B` batch, `T` length, `E` hidden size.
"""

import torch
from torch import nn
from transformers import PreTrainedConfig

from .linear import Dropout
from .masking import check_integers, is_traced


def sinusoidal_table(
    length: int, hidden_size: int, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """PE(pos, 2i) = sin(pos / 10000^(2i/E)), PE(pos, 2i+1) = cos(the same)  (Vaswani et al.

    2017, section 3.5).

    Deviation: the sines fill the first half of the vector and the cosines the second, as in Marian,
    where the paper interleaves them. The first projection absorbs the permutation, and Marian
    checkpoints keep their meaning.
    """
    exponents = torch.arange(0, hidden_size, 2, dtype=torch.float64) / hidden_size
    angles = (
        torch.arange(length, dtype=torch.float64)[:, None] / 10000.0**exponents
    )  # (length, ceil(E / 2))
    return torch.cat([angles.sin(), angles.cos()[:, : hidden_size // 2]], dim=-1).to(dtype)


class SinusoidalPositions(nn.Module):
    """Fixed position vectors: a table that is computed, never learned and never saved."""

    def __init__(self, num_embeddings: int, hidden_size: int):
        super().__init__()
        self.num_embeddings = num_embeddings
        self.weight = nn.Buffer(sinusoidal_table(num_embeddings, hidden_size), persistent=False)

    def forward(self, position_ids: torch.Tensor) -> torch.Tensor:
        return nn.functional.embedding(position_ids, self.weight)


class Embeddings(nn.Module):
    """word · scale + position (+ segment), then (norm and) dropout.

    BERT learns positions, adds segments and normalises (Devlin et al. 2018, figure 2); the
    Transformer scales words by √E and adds sinusoids (Vaswani et al. 2017, sections 3.4 and 3.5).
    """

    def __init__(self, config: PreTrainedConfig, *, vocab_size: int, type_vocab_size: int):
        super().__init__()
        hidden_size, positions = config.hidden_size, config.max_position_embeddings
        self.scale = hidden_size**0.5 if config.scale_embedding else 1.0
        self.word_embeddings = nn.Embedding(
            vocab_size, hidden_size, padding_idx=config.pad_token_id
        )
        kind = (
            SinusoidalPositions if config.position_embedding_type == "sinusoidal" else nn.Embedding
        )
        self.position_embeddings = kind(positions, hidden_size)
        self.token_type_embeddings = (
            nn.Embedding(type_vocab_size, hidden_size) if type_vocab_size else None
        )
        self.LayerNorm = (
            nn.LayerNorm(hidden_size, config.layer_norm_eps) if config.normalize_embedding else None
        )
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(
        self, input_ids=None, token_type_ids=None, position_ids=None, inputs_embeds=None
    ) -> torch.Tensor:
        """`(B, T)` ids, or `(B, T, E)` word vectors not yet scaled, to `(B, T, E)`."""
        words = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        hidden_states = words if self.scale == 1.0 else words * self.scale
        if self.token_type_embeddings is not None:
            weight = self.token_type_embeddings.weight
            hidden_states = hidden_states + (
                weight[0] if token_type_ids is None else weight[token_type_ids]
            )
        hidden_states = hidden_states + self.position_embeddings(position_ids)  # (B, T, E)
        return self.dropout(
            hidden_states if self.LayerNorm is None else self.LayerNorm(hidden_states)
        )

    def check(
        self,
        input_ids=None,
        token_type_ids=None,
        position_ids=None,
        inputs_embeds=None,
        start: int = 0,
    ):
        """Refuse, with a ValueError, what cannot be embedded.

        Return what was given. `start`: length of the cache.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        given, dims = (input_ids, 2) if inputs_embeds is None else (inputs_embeds, 3)
        name = "input_ids" if dims == 2 else "inputs_embeds"
        if is_traced():
            return given
        width = self.word_embeddings.embedding_dim
        if given.ndim != dims or 0 in given.shape or given.shape[2:] not in ((), (width,)):
            expected = "(batch, length)" if dims == 2 else f"(batch, length, {width})"
            raise ValueError(
                f"{name} must have shape {expected} with no empty side, got {tuple(given.shape)}"
            )
        limit = self.position_embeddings.num_embeddings
        if position_ids is None and start + given.shape[1] > limit:
            advice = f"got {start + given.shape[1]}; truncate with tokenizer(..., truncation=True, max_length={limit})"
            raise ValueError(
                f"{name} must hold at most {limit} tokens a row (max_position_embeddings), {advice}"
            )
        shape, kinds = given.shape[:2], getattr(self.token_type_embeddings, "num_embeddings", 0)
        check_integers(
            "input_ids", input_ids, self.word_embeddings.num_embeddings, shape, "vocab_size"
        )
        check_integers("position_ids", position_ids, limit, shape, "max_position_embeddings")
        check_integers("token_type_ids", token_type_ids, kinds, shape, "type_vocab_size")
        return given
