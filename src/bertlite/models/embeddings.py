"""Tokens, positions and segments as vectors, for BERT and for both sides of the Transformer.

Shapes: `B` batch, `T` length, `E` hidden size.
"""

import math
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers import initialization as init

from .inputs import out_of_range
from .parts import Names, Part, Tree

BERT_EMBEDDINGS: Names = {
    "word_embeddings": "word_embeddings",
    "position_embeddings": "position_embeddings",
    "token_type_embeddings": "token_type_embeddings",
    "embedding_norm": "LayerNorm",
    "embedding_dropout": "dropout",
}
ROBERTA_EMBEDDINGS: Names = {  # in the order of its own files
    "word_embeddings": "word_embeddings",
    "token_type_embeddings": "token_type_embeddings",
    "embedding_norm": "LayerNorm",
    "embedding_dropout": "dropout",
    "position_embeddings": "position_embeddings",
}
MODERNBERT_EMBEDDINGS: Names = {
    "word_embeddings": "tok_embeddings",
    "embedding_norm": "norm",
    "embedding_dropout": "drop",
}
MARIAN_EMBEDDINGS: Names = {
    "word_embeddings": "embed_tokens",
    "position_embeddings": "embed_positions",
    # Marian has neither; a Transformer that starts from a BERT has both.
    "token_type_embeddings": "embeddings.token_type_embeddings",
    "embedding_norm": "embeddings.LayerNorm",
    "embedding_dropout": "dropout",
    "layers": "layers",
    "final_norm": "final_norm",
}
# BART's, and those of all that followed it; each has some of them.
BART_EMBEDDINGS: Names = {
    "word_embeddings": "embed_tokens",
    "position_embeddings": "embed_positions",
    "layers": "layers",
    "embedding_norm": "layernorm_embedding",
    "final_norm": "layer_norm",
    "embedding_dropout": "dropout",
}


def sinusoidal_table(length: int, hidden_size: int) -> torch.Tensor:
    """PE(pos, 2i) = sin(pos / 10000^(2i/E)), PE(pos, 2i+1) = cos(the same), `(length, E)`.

    Source: Vaswani et al. 2017, section 3.5.

    Deviation: the sines fill the first half of the vector and the cosines the second, as in Marian,
    where the paper interleaves them. The first projection absorbs the permutation, and Marian
    checkpoints keep their meaning.
    """
    exponents = torch.arange(0, hidden_size, 2, dtype=torch.float64) / hidden_size
    positions = torch.arange(length, dtype=torch.float64)
    angles = positions[:, None] / 10000.0**exponents  # (length, ceil(E / 2))
    return torch.cat([angles.sin(), angles.cos()[:, : hidden_size // 2]], dim=-1)


class SinusoidalEmbedding(nn.Embedding):
    """Position vectors that are computed, never learned and never saved."""

    def __init__(self, num_embeddings: int, embedding_dim: int):
        super().__init__(num_embeddings, embedding_dim, _freeze=True)
        self.fill()

    @torch.no_grad()
    def fill(self) -> None:
        """Write the table; `_init_weights` calls it where a file holds none."""
        init.copy_(self.weight, sinusoidal_table(*self.weight.shape).to(self.weight.dtype))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Positions `(B, T)` to `(B, T, E)`; whoever unfreezes everything does not train these."""
        return super().forward(input).detach()


class OffsetEmbedding(nn.Embedding):
    """Learned position vectors whose table has unused rows before the first: BART has two."""

    def __init__(self, num_embeddings: int, embedding_dim: int, unused: int):
        super().__init__(num_embeddings + unused, embedding_dim)
        self.num_embeddings, self.unused = num_embeddings, unused

    @property
    def table(self) -> torch.Tensor:
        """The vectors of positions 0, 1 and so on, `(positions, E)`."""
        return self.weight[self.unused :]

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Positions `(B, T)` to `(B, T, E)`."""
        return nn.functional.embedding(input, self.table)


class PaddedSinusoidalEmbedding(nn.Module):
    """M2M100's position vectors, of which padding, position -1, has none.

    They are computed, never learned, and in no file.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, first: int):
        super().__init__()
        self.num_embeddings, self.embedding_dim, self.first = num_embeddings, embedding_dim, first
        table = torch.empty(num_embeddings + first, embedding_dim)
        self.weights = nn.Buffer(table, persistent=False)
        self.fill()

    @torch.no_grad()
    def fill(self) -> None:
        """Write the table, as `SinusoidalEmbedding.fill`.

        Deviation: in fp32 and with frequencies that end at 1 / 10000, as in fairseq, so that
        vectors are its to the bit. The position of a token is counted from `first`, and the row
        before it is zero.
        """
        half = self.embedding_dim // 2
        step = math.log(10000) / (half - 1)
        frequencies = torch.exp(torch.arange(half).float() * -step)  # (E / 2,)
        angles = torch.arange(len(self.weights)).float()[:, None] * frequencies
        table = torch.cat([angles.sin(), angles.cos()], dim=1)  # (rows, E or E - 1)
        table = nn.functional.pad(table, (0, self.embedding_dim % 2))
        table[self.first - 1] = 0
        init.copy_(self.weights, table.to(self.weights.dtype))

    @property
    def table(self) -> torch.Tensor:
        """The vectors of positions 0, 1 and so on, `(positions, E)`."""
        return self.weights[self.first :]

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Positions `(B, T)` to `(B, T, E)`."""
        return nn.functional.embedding(input + 1, self.weights[self.first - 1 :])


def position_table(embedding: Any) -> torch.Tensor:
    """The vectors of positions 0, 1 and so on, `(positions, E)`, of any kind of embedding."""
    is_plain = not isinstance(embedding, OffsetEmbedding | PaddedSinusoidalEmbedding)
    return embedding.weight if is_plain else embedding.table


def position_embeddings(config: PreTrainedConfig) -> nn.Module:
    """The table of positions that the config asks for."""
    kind, size = config.position_embedding_type, config.embedding_width
    count = config.max_position_embeddings
    if kind == "sinusoidal":
        return SinusoidalEmbedding(count, size)
    if kind == "sinusoidal-from-ids":
        return PaddedSinusoidalEmbedding(count, size, (config.pad_token_id or 0) + 1)
    unused = config.traits.unused_positions if config.is_encoder_decoder else 0
    if unused:
        return OffsetEmbedding(count, size, unused)
    return nn.Embedding(count, size, padding_idx=config.position_padding)


def positions_from_ids(input_ids: torch.Tensor, padding: int, start: int) -> torch.Tensor:
    """Positions `(B, T)` of real tokens, counted from `start`; -1 at padding.

    >>> positions_from_ids(torch.tensor([[1, 1, 7, 8, 1, 9]]), padding=1, start=0)
    tensor([[-1, -1,  0,  1, -1,  2]])
    """
    real = input_ids != padding
    return (real.long().cumsum(-1) + start).masked_fill(~real, 0) - 1


def number_tokens(
    input_ids: torch.Tensor | None,
    length: int,
    start: int,
    device: torch.device,
    padding_idx: int | None = None,
) -> torch.Tensor:
    """The positions of tokens, where nobody gives them.

    Args:
        input_ids: `(B, T)`; None where vectors are given instead.
        length: T.
        start: tokens that stand before these.
        device: of the result.
        padding_idx: in RoBERTa and its kind the id of padding, whose own position has this number
            too; those of real tokens are the next ones. None: positions begin at 0.

    Returns:
        `(1, T)`, or `(B, T)` where they depend on the ids.
    """
    if padding_idx is not None and input_ids is not None:
        return positions_from_ids(input_ids, padding_idx, start) + (padding_idx + 1)
    start += 0 if padding_idx is None else padding_idx + 1
    return (torch.arange(length, device=device) + start)[None]


def embedding_parts(
    config: PreTrainedConfig, vocab_size: int, type_vocab_size: int
) -> dict[str, nn.Module]:
    """The parts of an embedding, by role, as the config asks for them."""
    hidden_size = config.embedding_width
    parts: dict[str, nn.Module] = {
        "word_embeddings": nn.Embedding(vocab_size, hidden_size, padding_idx=config.pad_token_id),
        "embedding_dropout": nn.Dropout(config.hidden_dropout_prob),
    }
    if config.position_embedding_type != "rotary":  # those are in attention
        parts["position_embeddings"] = position_embeddings(config)
    if type_vocab_size:
        parts["token_type_embeddings"] = nn.Embedding(type_vocab_size, hidden_size)
    if config.normalize_embedding:
        parts["embedding_norm"] = nn.LayerNorm(
            hidden_size, config.layer_norm_eps, bias=config.norm_bias
        )
    return parts


class EmbeddingSteps:
    """word · scale (+ segment) + position, then (norm and) dropout, on parts found by role.

    BERT learns positions, adds segments and normalises (Devlin et al. 2018, figure 2); the
    Transformer scales words by √E and adds sinusoids (Vaswani et al. 2017, sections 3.4 and 3.5).
    """

    word_embeddings, position_embeddings = Part(), Part()
    token_type_embeddings = Part()
    embedding_norm, embedding_dropout = Part(), Part()
    embedding_scale: float
    argument_prefix = ""  # of the names by which errors call the ids
    adds_positions_last = False  # after the norm

    def default_positions(
        self, input_ids: torch.Tensor | None, length: int, start: int, device: torch.device
    ) -> torch.Tensor:
        """Positions of `length` tokens where the caller gives none, counted from `start`.

        `(1, T)`, or `(B, T)` where padding has none.
        """
        positions = self.position_embeddings
        if isinstance(positions, PaddedSinusoidalEmbedding) and input_ids is not None:
            return positions_from_ids(input_ids, positions.first - 1, start)
        return (torch.arange(length, device=device) + start)[None]

    def embed(
        self,
        input_ids: torch.Tensor | None,
        token_type_ids: torch.Tensor | None,
        position_ids: torch.Tensor,
        inputs_embeds: torch.Tensor | None,
    ) -> torch.Tensor:
        """Ids `(B, T)`, or word vectors `(B, T, E)` not yet scaled, to `(B, T, E)`.

        Raises:
            ValueError: an id that is in no table.
        """
        try:
            return self.look_up(input_ids, token_type_ids, position_ids, inputs_embeds)
        except IndexError as error:
            raise self.index_error(input_ids, token_type_ids, position_ids) or error from error

    def look_up(
        self,
        input_ids: torch.Tensor | None,
        token_type_ids: torch.Tensor | None,
        position_ids: torch.Tensor,
        inputs_embeds: torch.Tensor | None,
    ) -> torch.Tensor:
        """The sum of the three vectors of each token."""
        hidden_states = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        if self.embedding_scale != 1.0:
            hidden_states = hidden_states * self.embedding_scale
        if self.token_type_embeddings is not None:
            if token_type_ids is None:
                token_type_ids = position_ids.new_zeros(hidden_states.shape[:2])
            hidden_states = hidden_states + self.token_type_embeddings(token_type_ids)
        if self.position_embeddings is not None and not self.adds_positions_last:
            hidden_states = hidden_states + self.position_embeddings(position_ids)  # (B, T, E)
        if self.embedding_norm is not None:
            hidden_states = self.embedding_norm(hidden_states)
        if self.adds_positions_last:
            hidden_states = hidden_states + self.position_embeddings(position_ids)
        return self.embedding_dropout(hidden_states)

    def index_error(
        self,
        input_ids: torch.Tensor | None,
        token_type_ids: torch.Tensor | None,
        position_ids: torch.Tensor,
    ) -> ValueError | None:
        """Which id was in no table, as an error that says so."""
        words, positions = self.word_embeddings, self.position_embeddings
        name, limit = f"{self.argument_prefix}input_ids", words.num_embeddings
        found = out_of_range(name, input_ids, limit, "(vocab_size)")
        if positions is not None:
            name, limit = f"{self.argument_prefix}position_ids", positions.num_embeddings
            found = found or out_of_range(name, position_ids, limit, "(max_position_embeddings)")
        if self.token_type_embeddings is not None:
            limit = self.token_type_embeddings.num_embeddings
            found = found or out_of_range(
                "token_type_ids", token_type_ids, limit, "(type_vocab_size)"
            )
        return found


class BertEmbeddings(EmbeddingSteps, Tree):
    """BERT's `embeddings`, with its tensor names and arguments."""

    embedding_scale = 1.0
    part_names = BERT_EMBEDDINGS

    def __init__(self, config: PreTrainedConfig):
        super().__init__(self.part_names)
        self.grow(embedding_parts(config, config.vocab_size, config.type_vocab_size))
        self.padding_idx = config.position_padding
        # Kept for those who read them, as they do from BERT's; nothing here needs them.
        length = config.max_position_embeddings
        self.position_ids = nn.Buffer(torch.arange(length)[None], persistent=False)
        self.token_type_ids = nn.Buffer(torch.zeros_like(self.position_ids), persistent=False)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        past_key_values_length: int = 0,
    ) -> torch.Tensor:
        """Ids `(B, T)`, or word vectors `(B, T, E)`, to `(B, T, E)`.

        Args:
            input_ids: `(B, T)`.
            token_type_ids: `(B, T)`; None: all in the first segment.
            position_ids: `(B, T)` or `(1, T)`; None: counted from `past_key_values_length`.
            inputs_embeds: `(B, T, E)`, instead of `input_ids`.
            past_key_values_length: where positions begin.

        Raises:
            ValueError: an id that is in no table.
        """
        if position_ids is None:
            given: Any = input_ids if inputs_embeds is None else inputs_embeds
            position_ids = number_tokens(
                input_ids, given.shape[1], past_key_values_length, given.device, self.padding_idx
            )
        return self.embed(input_ids, token_type_ids, position_ids, inputs_embeds)
