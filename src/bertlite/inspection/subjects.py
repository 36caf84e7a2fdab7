"""A model, a text and a number that the model gives for it: what every attribution works on.

A subject takes the vectors of its tokens, as they are before positions are added, and gives the
number. So that a text may be changed token by token, or moved step by step to one that says
nothing.

Shapes: `B` rows, `T` tokens of the subject, `S` of the source, `P` of what was written, `E` hidden
size.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from ..inference.batching import evaluating
from ..inference.embedding_recipe import EmbeddingRecipe
from ..inference.encode import finished
from ..inference.pooling import pool
from .targets import Target
from .tokens import TextTokens

BASELINES = ("mask", "pad", "zero")


@dataclass(frozen=True)
class Subject:
    """One text and one target of a model that reads it whole.

    Attributes:
        model: with the head that the target belongs to.
        tokenizer: of the model.
        tokens: those that are explained.
        target: the number.
    """

    model: Any
    tokenizer: Any
    tokens: TextTokens
    target: Target

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        """The target's value for rows of word vectors, `(B, T, E)` to `(B,)`."""
        return self.target.value_of(self.outputs(vectors))

    def outputs(self, vectors: torch.Tensor, **kwargs: Any) -> Any:
        """The model's outputs for rows of word vectors `(B, T, E)`."""
        return self.model(inputs_embeds=vectors, **self.segments(len(vectors)), **kwargs)

    def segments(self, rows: int) -> dict[str, torch.Tensor]:
        """`token_type_ids` `(B, T)`, where the model has such."""
        if "token_type_ids" not in self.tokens.inputs:
            return {}
        row = torch.tensor([self.tokens.inputs["token_type_ids"]], device=self.model.device)
        return {"token_type_ids": row.expand(rows, -1)}

    def attentions(self, vectors: torch.Tensor) -> tuple[torch.Tensor, list[Any]]:
        """The value `(1,)`, and with it the weights of each layer that attends to the tokens.

        Each of the latter as `(1, H, queries, S)`, and the places of its S keys.
        """
        outputs = self.outputs(vectors, output_attentions=True)
        places = range(len(self.tokens))
        return self.target.value_of(outputs), [(each, places) for each in outputs.attentions]

    def ids(self) -> torch.Tensor:
        """`(T,)`, as the text has them."""
        return torch.tensor(self.tokens.inputs["input_ids"], device=self.model.device)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Word vectors of ids `(..., T)`: `(..., T, E)`."""
        return self.model.get_input_embeddings()(ids).detach()

    def changeable(self) -> torch.Tensor:
        """`(T,)`: which tokens stand for something in the text, and may be taken away."""
        return ~torch.tensor(self.tokens.special, device=self.model.device)

    def without(self, taken: torch.Tensor) -> torch.Tensor:
        """Ids of rows in which tokens have been taken away.

        Args:
            taken: `(B, T)` boolean; a taken token is replaced by the mask, or where the
                vocabulary has none by the unknown token.
        """
        return self.ids().where(~taken, self.nothing())

    def nothing(self) -> int:
        """The id that stands for no word in particular."""
        tokenizer = self.tokenizer
        known = (tokenizer.mask_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id)
        return next(id for id in known if id is not None)

    def baseline(self, kind: str = "mask") -> torch.Tensor:
        """Vectors `(T, E)` of a text of the same length that says nothing.

        Args:
            kind: "mask" has the mask (or the unknown token) in the place of each token of the
                text, "pad" the padding, "zero" a vector of zeros. Added tokens stay.

        Raises:
            ValueError: another kind, or padding that the tokenizer does not have.
        """
        if kind not in BASELINES:
            raise ValueError(f"baseline must be one of {BASELINES}, got {kind!r}")
        if kind == "pad" and self.tokenizer.pad_token_id is None:
            raise ValueError("baseline must be 'mask' or 'zero' for a tokenizer without padding")
        changed = self.changeable()
        filler = self.tokenizer.pad_token_id if kind == "pad" else self.nothing()
        vectors = self.embed(self.ids().where(~changed, filler))
        return vectors.masked_fill(changed[:, None], 0) if kind == "zero" else vectors


@dataclass(frozen=True)
class SimilaritySubject(Subject):
    """Two texts and the cosine of their vectors, as `encode` makes them.

    Attributes:
        first: tokens of the first text; the rest are the second's.
        recipe: how vectors are made.
        inputs: of each text, as the encoder takes them.
    """

    first: int
    recipe: EmbeddingRecipe
    inputs: tuple[dict[str, list[int]], dict[str, list[int]]]

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        parts = (vectors[:, : self.first], vectors[:, self.first :])
        one, two = (self.vector(part) for part in parts)
        return torch.nn.functional.cosine_similarity(one, two, dim=-1)

    def vector(self, vectors: torch.Tensor, found: Any = None) -> torch.Tensor:
        """`encode`'s vectors `(B, E)` of rows of one of the texts."""
        mask = torch.ones(vectors.shape[:2], dtype=torch.long, device=vectors.device)
        found = self.encode(vectors) if found is None else found
        pooled = pool(found.last_hidden_state, mask, self.recipe.poolings)
        return finished(pooled, self.recipe, self.recipe.normalize)

    def encode(self, vectors: torch.Tensor, **kwargs: Any) -> Any:
        """The encoder's outputs."""
        model = self.model
        encoder = model.get_encoder() if model.config.is_encoder_decoder else model.base_model
        return encoder(inputs_embeds=vectors, **kwargs)

    def attentions(self, vectors: torch.Tensor) -> tuple[torch.Tensor, list[Any]]:
        parts, layers, found = (vectors[:, : self.first], vectors[:, self.first :]), [], []
        for number, part in enumerate(parts):
            outputs = self.encode(part, output_attentions=True)
            start = number * self.first
            places = range(start, start + part.shape[1])
            layers += [(each, places) for each in outputs.attentions]
            found.append(self.vector(part, outputs))
        return torch.nn.functional.cosine_similarity(found[0], found[1], dim=-1), layers


@dataclass(frozen=True)
class WritingSubject(Subject):
    """A source, what an encoder-decoder has written so far, and the token that it writes next.

    Attributes:
        source: S, tokens of the source; the rest were written.
    """

    source: int

    def outputs(self, vectors: torch.Tensor, **kwargs: Any) -> Any:
        return self.model(
            inputs_embeds=vectors[:, : self.source],
            decoder_inputs_embeds=vectors[:, self.source :],
            use_cache=False,
            **kwargs,
        )

    def attentions(self, vectors: torch.Tensor) -> tuple[torch.Tensor, list[Any]]:
        outputs = self.outputs(vectors, output_attentions=True)
        source, written = range(self.source), range(self.source, len(self.tokens))
        layers = [
            (each, source) for each in (*outputs.encoder_attentions, *outputs.cross_attentions)
        ]
        layers += [(each, written) for each in outputs.decoder_attentions]
        return self.target.value_of(outputs), layers

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        tables = self.model.get_input_embeddings(), self.model.get_decoder().get_input_embeddings()
        parts = ids[..., : self.source], ids[..., self.source :]
        both = [table(part) for table, part in zip(tables, parts, strict=True)]
        return torch.cat(both, dim=-2).detach()


@contextmanager
def frozen(model: Any, device: Any = None) -> Iterator[None]:
    """In evaluation, with gradients of inputs alone; afterwards all is as it was.

    An optimised model computes no gradients: meanwhile its own weights do the work.
    """
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    packed = [
        (module, module.backend_choice)
        for module in model.modules()
        if not isinstance(getattr(module, "backend_choice", ""), str)
    ]
    try:
        for parameter in wanted:
            parameter.requires_grad_(False)
        for module, _ in packed:
            module.backend_choice = "auto"
        with evaluating(model, device), torch.enable_grad():
            yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
        for module, choice in packed:
            module.backend_choice = choice
