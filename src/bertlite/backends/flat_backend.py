"""What backends share that run an encoder's own layers on real tokens laid end to end.

Shapes: `B` batch, `T` length, `N` real tokens, `K` vectors that are read, `E` hidden size.
"""

from typing import Any

import torch
from torch import nn

from ..models.attention import Attention
from ..models.inputs import TextBatch
from ..models.layers import EncoderLayer, LayerNode
from ..models.seam import HOOKS, RECORDER, hooked_module, is_blind
from .base import Backend


class FlatBackend(Backend):
    """Runs the layers of the core on `(1, N, E)`."""

    special_attention: tuple[str, ...] = ()  # what it knows of an encoder's

    def against_flat(self, encoder: Any, batch: TextBatch, **kwargs: Any) -> list[str]:
        """Reasons not to lay a batch end to end that need no look at its values."""
        for name in ("output_attentions", "output_hidden_states"):
            wanted = kwargs.get(name)
            if wanted if wanted is not None else getattr(encoder.config, name):
                return [f"{name} was asked for"]
        if encoder.config._attn_implementation == "flex_attention":
            return ["flex_attention takes padded batches"]
        for special in encoder.special_attention:
            if special not in self.special_attention:
                return [f"attention has {special}"]
        if batch.is_prepared:
            return ["the attention mask is prepared"]
        if kwargs.get("past_key_values") is not None:
            return ["keys and values stand before the batch"]
        return []

    def against_watching(self, encoder: Any) -> list[str]:
        """The reason that somebody sees the tensors of the layers, where one does."""
        watched = hooked_module(encoder)
        return [f"a hook watches {watched}"] if watched else []

    def few_places(self, places: torch.Tensor) -> torch.Tensor:
        """`places` `(K,)`, perhaps with spare ones at the end, so that K takes few values."""
        return places

    def run_to(
        self,
        encoder: Any,
        hidden_states: torch.Tensor,
        places: torch.Tensor,
        bias: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """`(1, N, E)` through all layers, to the vectors at `places` `(K,)` alone, `(K, E)`.

        What comes after the last layer's attention is computed for those only. `bias` is what the
        attention function takes in place of a mask.
        """
        layers = list(encoder.stack.layers)
        if not layers or encoder.stack.layerdrop or not is_plain_layer(layers[-1]):
            hidden_states = encoder.finish(encoder.run_layers(hidden_states, bias, **kwargs))[0]
            return hidden_states.index_select(0, places.to(hidden_states.device))
        for layer in layers[:-1]:
            hidden_states = layer(hidden_states, bias, **kwargs)
        read = self.few_places(places.to(hidden_states.device))
        hidden_states = end_at(layers[-1], hidden_states, read, bias, **kwargs)
        return encoder.finish(hidden_states)[0, : len(places)]


def end_at(
    layer: EncoderLayer,
    hidden_states: torch.Tensor,
    places: torch.Tensor,
    bias: torch.Tensor | None = None,
    **kwargs: Any,
) -> torch.Tensor:
    """The steps of an `EncoderLayer`, from `(1, N, E)` to the vectors at `places`, `(1, K, E)`."""
    inputs = layer.attention_norm(hidden_states) if layer.norm_first else hidden_states
    context, _ = layer.self_attention(inputs, attention_mask=bias, **kwargs)  # (1, N, E)
    context = context.index_select(1, places)
    residual = hidden_states.index_select(1, places)
    return layer.feed_forward_sublayer(layer.step("end_attention", context, residual))


def is_plain_layer(layer: nn.Module) -> bool:
    """Whether a layer's steps may be taken one by one: none was exchanged, and none is watched.

    A `forward` of a module's own, such as the one that loads its weights from a disk, is an
    exchange too. The library's recorder stays on a layer once it was used, and hinders nothing.
    """
    if type(layer) is not EncoderLayer:
        return False
    nodes = [node for node in layer.modules() if node._modules]
    known = all(type(node) in (EncoderLayer, LayerNode, Attention) for node in nodes)
    exchanged = any("forward" in vars(node) for node in nodes)
    hooks = (hook for node in nodes for name in HOOKS for hook in vars(node)[name].values())
    return known and not exchanged and all(is_blind(hook, RECORDER) for hook in hooks)
