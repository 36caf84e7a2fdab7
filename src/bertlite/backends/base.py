"""What a backend is: the other side of `models.seam`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class Backend:
    """Does what the plain core does, another way.

    It is asked at each call with `unsupported`, and used where that gives no reason against it.
    """

    name: str

    def serves(self, device: torch.device) -> bool:
        """Whether it is made for models on this device."""
        raise NotImplementedError

    def prepare(self, model: nn.Module) -> None:
        """Called once for each model on its device, before the first forward."""

    def restore(self, model: nn.Module) -> None:
        """Take back what `prepare` has done."""

    def unsupported(self, work: str, model: nn.Module, **wanted: Any) -> list[str]:
        """Why it cannot do `work` for `model`, in words; an empty list: it can.

        Args:
            work: "encode", "decode", "vocabulary_loss" or "generate".
            model: a model of the core.
            wanted: the arguments of that work.
        """
        raise NotImplementedError

    def encode(self, encoder: Any, batch: Any, positions: torch.Tensor | None, **kwargs: Any):
        """As `TextEncoder.encode`."""
        raise NotImplementedError

    def decoding_method(self) -> Callable:
        """What `generate` takes as `custom_generate`, token for token as the library's loop."""
        raise NotImplementedError

    def encode_with_first(
        self, encoder: Any, batch: Any, positions: torch.Tensor, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As `TextEncoder.encode_with_first`."""
        first = torch.zeros_like(positions)
        first[:, 0] = True
        read = positions | first
        vectors = self.encode(encoder, batch, read, **kwargs)
        return vectors[positions[read]], vectors[first[read]]

    def count_of(self, positions: torch.Tensor) -> int | None:
        """As `Seam.count_of`."""
        return None

    def flat_source(
        self,
        decoder: Any,
        encoder_hidden_states: torch.Tensor,
        encoder_attention_mask: torch.Tensor | None,
        targets: tuple[int, int],
        lengths: Any,
    ) -> tuple[torch.Tensor, Any]:
        """What a decoder's layers shall see of a source `(B, S, E)`.

        Args:
            decoder: a `TransformerDecoder`.
            encoder_hidden_states: `(B, S, E)`.
            encoder_attention_mask: `(B, S)`, or None.
            targets: (B, T).
            lengths: `BatchLengths` of the source, or None.

        Returns:
            The vectors, and the function for `Attention` that attends to them.
        """
        raise NotImplementedError

    def vocabulary_loss(self, hidden_states, linear, labels, **options: Any) -> torch.Tensor:
        """As `LitePreTrainedModel.vocabulary_loss`."""
        raise NotImplementedError


def is_plain_linear(linear: nn.Module) -> bool:
    """Whether a layer is what it looks like: its product is its weight's, and nobody is between."""
    weight = linear.__dict__.get("_parameters", {}).get("weight")
    return type(linear) is nn.Linear and type(weight) is nn.Parameter
