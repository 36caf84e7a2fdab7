"""The shape of OpenAI's interface: what its official client sends and reads."""

import base64
from typing import Any

import torch

from .catalog import Catalog
from .errors import Refused
from .requests import EmbedRequest, OpenAIEmbeddingsRequest
from .works import Work


def to_embed(asked: OpenAIEmbeddingsRequest) -> EmbedRequest:
    """The same request in our own words."""
    return EmbedRequest(texts=asked.input, model=asked.model)


def embeddings_reply(
    name: str, vectors: torch.Tensor, work: Work, asked: OpenAIEmbeddingsRequest
) -> dict[str, Any]:
    """Vectors `(texts, E)` as a list of embeddings.

    Raises:
        Refused: another number of dimensions was asked for than the vectors have.
    """
    size = vectors.shape[-1]
    if asked.dimensions not in (None, size):
        raise Refused(
            400,
            f"dimensions must be {size}, as {name} has them, got {asked.dimensions}",
            "dimensions",
        )
    as_bytes = asked.encoding_format == "base64"
    made = map(encoded, vectors) if as_bytes else vectors.tolist()
    data = [
        {"object": "embedding", "index": index, "embedding": each}
        for index, each in enumerate(made)
    ]
    tokens = sum(work.lengths())
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": name, "usage": usage}


def encoded(vector: torch.Tensor) -> str:
    """A vector as base64 of its fp32 numbers, little end first."""
    return base64.b64encode(vector.numpy().astype("<f4").tobytes()).decode("ascii")


def models_reply(catalog: Catalog) -> dict[str, Any]:
    """The models of this server."""
    data = [
        {
            "id": each.name,
            "object": "model",
            "created": 0,
            "owned_by": "bertlite",
            "tasks": list(each.tasks),
            "languages": each.languages,
        }
        for each in catalog.models.values()
    ]
    return {"object": "list", "data": data}
