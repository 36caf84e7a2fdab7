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

    def decode(
        self,
        decoder: Any,
        targets: Any,
        source: tuple[torch.Tensor, torch.Tensor | None],
        target_mask: torch.Tensor | None,
        lengths: Any,
        **kwargs: Any,
    ) -> torch.Tensor:
        """The vectors of the targets, `(B, T, E)`, through all layers of a decoder.

        Args:
            decoder: a `TransformerDecoder`.
            targets: a `TextBatch` of the targets.
            source: the encoder's vectors `(B, S, E)`, and their mask `(B, S)` or None.
            target_mask: as of `TransformerDecoder`: the others may come back as zeros.
            lengths: `BatchLengths` of the source, or None.
            kwargs: for the layers.
        """
        raise NotImplementedError

    def vocabulary_loss(self, hidden_states, linear, labels, **options: Any) -> torch.Tensor:
        """As `LitePreTrainedModel.vocabulary_loss`."""
        raise NotImplementedError


def is_plain_linear(linear: nn.Module) -> bool:
    """Whether a layer is what it looks like: its product is its weight's, and nobody is between."""
    weight = linear.__dict__.get("_parameters", {}).get("weight")
    return type(linear) is nn.Linear and type(weight) is nn.Parameter
