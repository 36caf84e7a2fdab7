"""Attention weighted by what it carries: a large weight on a small value moves nothing.

Source: Kobayashi et al. 2020, 'Attention is Not Only a Weight', section 2: the output of a head is
the sum over tokens of α · f(x), where f(x) = (x W_V + b_V) W_O. What counts is ‖α f(x)‖.

Shapes: `H` heads of a layer, `T` tokens that attend, `S` tokens that are attended to, `D` head
size, `E` hidden size.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from .attention import AttentionMaps, attention_maps
from .loading import open_model


def value_weighted_norms(
    text: str, model: Any, tokenizer: Any = None, **options: Any
) -> tuple[AttentionMaps, AttentionMaps]:
    """The attention weights of every head, and the norms ‖α f(x)‖ in the same shapes.

    Rows of the norms do not sum to 1.

    Args:
        text: as in `attention_maps`, and so are the others.
        model: a folder, a hub name or a loaded bertlite model.
        tokenizer: a tokenizer, or where to load one.
        options: of `attention_maps`.

    Raises:
        ValueError: those of `attention_maps`; a model that is none of bertlite's.
    """
    model, tokenizer = open_model("value_weighted_norms", model, tokenizer, options.get("device"))
    if not hasattr(model, "backend_report"):
        raise ValueError(
            "value_weighted_norms: model must be one of bertlite's classes, got "
            f"{type(model).__name__}"
        )
    parts = attention_parts(model)
    modules = [attention for pairs in parts.values() for attention, _ in pairs]
    with last_values(modules) as values:
        maps = attention_maps(text, model, tokenizer, **options)
    norms = {
        kind: tuple(
            weighted(weights, values[attention], attention, projection)
            for weights, (attention, projection) in zip(getattr(maps, kind), pairs, strict=True)
        )
        for kind, pairs in parts.items()
    }
    return maps, AttentionMaps(maps.source, read=maps.read, written=maps.written, **norms)


def attention_parts(model: Any) -> dict[str, list[tuple[Any, nn.Linear]]]:
    """Of each kind of attention, layer by layer, the module and its output projection."""
    base = model.base_model
    if not model.config.is_encoder_decoder:
        return {"encoder": self_attention(base.stack.layers)}
    decoder = base.decoder.layers
    cross = [(layer.cross_attention, layer.cross_attention.projection) for layer in decoder]
    return {
        "encoder": self_attention(base.encoder.stack.layers),
        "decoder": self_attention(decoder),
        "cross": cross,
    }


def self_attention(layers: Any) -> list[tuple[Any, nn.Linear]]:
    """Self-attention of each layer, with its projection, which BERT keeps behind it."""
    found = []
    for layer in layers:
        own = layer.self_attention.projection
        found.append((layer.self_attention, layer.attention_projection if own is None else own))
    return found


@contextmanager
def last_values(modules: list[Any]) -> Iterator[dict[Any, torch.Tensor]]:
    """The values `(1, S, H · D)` of the last forward, by attention module.

    A forward in between, such as one step of generation, is overwritten by the next.
    """
    found: dict[Any, torch.Tensor] = {}

    def keep(attention: Any):
        def hook(module: nn.Module, given: Any, output: torch.Tensor) -> None:
            is_whole = attention.query_key_value is None
            found[attention] = (output if is_whole else output.chunk(3, dim=-1)[2]).detach()

        return hook

    products = {module: module.value or module.query_key_value for module in modules}
    handles = [product.register_forward_hook(keep(module)) for module, product in products.items()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def weighted(
    weights: torch.Tensor, values: torch.Tensor, attention: Any, projection: nn.Linear
) -> torch.Tensor:
    """‖α f(x)‖, `(H, T, S)`, of weights α `(H, T, S)` and values `(1, S, H · D)`."""
    split = attention.split_heads(values)[0].float().cpu()  # (H, S, D)
    matrix = projection.weight.detach().float().cpu()  # (E, H · D)
    heads = matrix.unflatten(1, (len(split), -1)).permute(1, 2, 0)  # (H, D, E)
    return weights * (split @ heads).norm(dim=-1)[:, None]
