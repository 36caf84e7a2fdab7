"""What is recorded: a model with its inputs by position and its outputs as plain tensors.

Shapes: `B` batch, `C` choices, `T` length, `E` hidden size, `K` numbers of a vector.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..backends.engines.onnx_graph import additive_mask, fusable_attention
from ..inference.embedding_recipe import EmbeddingRecipe


class HeadGraph(nn.Module):
    """A BERT with a head.

    Args:
        model: in evaluation mode, on the plain core.
        inputs: names of the inputs, in order.
        outputs: names of the fields of the model's output.
        attention: the function that attends; None: the one that the model's config names.
    """

    def __init__(
        self,
        model: Any,
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        attention: Callable | None = fusable_attention,
    ):
        super().__init__()
        self.model, self.inputs, self.outputs = model, inputs, outputs
        self.attention = attention

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The outputs, in their order; inputs `(B, T)`, of multiple choice `(B, C, T)`."""
        given = dict(zip(self.inputs, tensors, strict=True))
        mask = given["attention_mask"]
        prepared = additive_mask(mask.flatten(0, -2))  # (B or B * C, 1, 1, T)
        if mask.ndim == 3:  # the head joins B and C again
            prepared = prepared.reshape(*mask.shape[:2], 1, 1, mask.shape[-1])
        given["attention_mask"] = prepared
        found = self.model(**given, attention_interface=self.attention, return_dict=True)
        return tuple(found[name] for name in self.outputs)


class EmbeddingGraph(nn.Module):
    """An encoder, and one vector a row: pooled, through the folder's layers, and to length 1.

    Args:
        encoder: a BERT without a head, or the encoder of a Transformer.
        inputs: names of the inputs, in order.
        recipe: how vectors are made of the tokens' vectors.
        attention: as in `HeadGraph`.
    """

    def __init__(
        self,
        encoder: Any,
        inputs: tuple[str, ...],
        recipe: EmbeddingRecipe,
        attention: Callable | None = fusable_attention,
    ):
        super().__init__()
        self.encoder, self.inputs, self.recipe = encoder, inputs, recipe
        self.attention = attention
        parts = [part for pair in recipe.layers for part in pair]
        self.layers = nn.Sequential(*parts)

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The tokens' vectors `(B, T, E)`, and the rows' `(B, K)`."""
        given = dict(zip(self.inputs, tensors, strict=True))
        mask = given["attention_mask"]
        given["attention_mask"] = additive_mask(mask)
        found = self.encoder(**given, attention_interface=self.attention, return_dict=True)
        states = found["last_hidden_state"]  # (B, T, E)
        weights = mask.to(states.dtype)  # (B, T)
        pooled = torch.cat([pool(states, weights, each) for each in self.recipe.poolings], -1)
        vectors = self.layers(pooled)  # (B, K)
        return states, nn.functional.normalize(
            vectors, dim=-1
        ) if self.recipe.normalize else vectors


def pool(states: torch.Tensor, mask: torch.Tensor, name: str) -> torch.Tensor:
    """`(B, T, E)` to `(B, E)` by a way of `inference.pooling`, over real tokens only.

    Args:
        states: the tokens' vectors.
        mask: `(B, T)`, 1 at real tokens, as floating-point numbers.
        name: of the way.
    """
    places = mask.cumsum(1) * mask  # (B, T): 1, 2, ... at real tokens
    counts = mask.sum(1, keepdim=True).clamp(min=1)  # (B, 1)
    if name == "max":
        lowest = torch.finfo(states.dtype).min
        return (states + (1 - mask)[:, :, None] * lowest).amax(1)
    if name == "cls":
        chosen = (places == 1).to(states.dtype)
    elif name == "last":
        chosen = ((places == counts) & (mask > 0)).to(states.dtype)
    elif name == "mean_sqrt_len":
        chosen = mask / counts.sqrt()
    elif name == "weighted_mean":
        chosen = places / places.sum(1, keepdim=True).clamp(min=1)
    else:
        chosen = mask / counts
    return (states * chosen[:, :, None]).sum(1)
