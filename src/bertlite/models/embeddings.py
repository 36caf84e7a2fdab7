"""Tokens, positions and segments as vectors, for BERT and for both sides of the Transformer.

Shapes: `B` batch, `T` length, `E` hidden size.
"""

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
MARIAN_EMBEDDINGS: Names = {
    "word_embeddings": "embed_tokens",
    "position_embeddings": "embed_positions",
    # Marian has neither; a Transformer that starts from a BERT has both.
    "token_type_embeddings": "embeddings.token_type_embeddings",
    "embedding_norm": "embeddings.LayerNorm",
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


def embedding_parts(
    config: PreTrainedConfig, vocab_size: int, type_vocab_size: int
) -> dict[str, nn.Module]:
    """The parts of an embedding, by role, as the config asks for them."""
    hidden_size, positions = config.hidden_size, config.max_position_embeddings
    is_sinusoidal = config.position_embedding_type == "sinusoidal"
    parts: dict[str, nn.Module] = {
        "word_embeddings": nn.Embedding(vocab_size, hidden_size, padding_idx=config.pad_token_id),
        "position_embeddings": (
            SinusoidalEmbedding(positions, hidden_size)
            if is_sinusoidal
            else nn.Embedding(positions, hidden_size)
        ),
        "embedding_dropout": nn.Dropout(config.hidden_dropout_prob),
    }
    if type_vocab_size:
        parts["token_type_embeddings"] = nn.Embedding(type_vocab_size, hidden_size)
    if config.normalize_embedding:
        parts["embedding_norm"] = nn.LayerNorm(hidden_size, config.layer_norm_eps)
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
        hidden_states = hidden_states + self.position_embeddings(position_ids)  # (B, T, E)
        if self.embedding_norm is not None:
            hidden_states = self.embedding_norm(hidden_states)
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

    def __init__(self, config: PreTrainedConfig):
        super().__init__(BERT_EMBEDDINGS)
        self.grow(embedding_parts(config, config.vocab_size, config.type_vocab_size))
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
            given = input_ids if inputs_embeds is None else inputs_embeds
            positions = torch.arange(given.shape[1], device=given.device)  # type: ignore[union-attr]
            position_ids = (positions + past_key_values_length)[None]  # (1, T)
        return self.embed(input_ids, token_type_ids, position_ids, inputs_embeds)
