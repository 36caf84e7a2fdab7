"""Pruning that is real: heads, inner neurons and whole layers cut out of the matrices.

A layer without some of its heads has fewer rows in W^Q, W^K and W^V and fewer columns in W^O; one
without some inner neurons has fewer rows in W1 and fewer columns in W2. What is cut adds nothing
any more, as if it were masked (`heads.py`); the rest computes as before.

The sizes stand in the config, a number a layer: `heads_per_layer` and `intermediate_sizes` for
BERT. transformers' BERT class cannot have such layers and refuses the folder; the code that travels
with it can. Where all layers keep all heads and the same inner size, or whole layers are cut, the
folder stays one that BERT's class reads.
"""

import copy
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from ..backends.choice import use_backend
from ..backends.frozen import undo_optimize
from .layer_parts import (
    attention_of,
    checked_choice,
    head_counts,
    layers_of,
    neuron_counts,
    projection_of,
)

Chosen = Mapping[int, Iterable[int]]
# By part the fields that say heads and inner sizes of each layer; a config has one of each pair.
FIELDS = {
    "encoder": (
        ("heads_per_layer", "intermediate_sizes"),
        ("encoder_heads_per_layer", "encoder_ffn_dims"),
    ),
    "decoder": (("decoder_heads_per_layer", "decoder_ffn_dims"),),
    "cross": (("cross_heads_per_layer", None),),
}


def prune(
    model: Any,
    *,
    heads: Chosen | None = None,
    neurons: Chosen | None = None,
    layers: Iterable[int] = (),
    part: str = "encoder",
) -> Any:
    """A smaller model, without some heads, inner neurons and layers.

    At least one head and one neuron of each layer stay, and at least one layer.

    Args:
        model: a BertLite or TransformerLite model with any head; it stays as it is.
        heads: numbers of the heads to cut by number of layer, both from 0.
        neurons: numbers of the inner neurons to cut, likewise; none of "cross".
        layers: numbers of the layers to cut whole.
        part: "encoder", "decoder" or "cross", as in `mask_heads`.

    Returns:
        A new model of the same class, whose `save_pretrained` writes what loads again as it is.

    Raises:
        ValueError: a part, layer, head or neuron that there is not; nothing of a layer would stay;
            a layer that was exchanged, as by adapters or a quantiser; a model of a family whose
            config has no sizes of each layer, or that shares its layers.

    >>> import bertlite
    >>> from bertlite.inspection import prune
    >>> model = bertlite.BertLiteModel(bertlite.preset("bert-tiny")).eval()
    >>> small = prune(model, heads={0: [1]}, neurons={1: range(256)})
    >>> small.config.heads_per_layer, small.config.intermediate_sizes
    ([1, 2], [512, 256])
    """
    check_family(model, part, by_layer=bool(heads or neurons))
    cut_heads = checked_choice("heads", heads, head_counts(model, part))
    cut_neurons = {}
    if neurons:
        cut_neurons = checked_choice("neurons", neurons, neuron_counts(model, part))
    dropped = checked_layers(layers, len(layers_of(model, part)), part)
    check_what_stays(model, cut_heads, cut_neurons, part)
    smaller = undo_optimize(copy.deepcopy(model))
    use_backend(smaller, "auto")  # it prepares the new layers, too
    for number, layer in enumerate(layers_of(smaller, part)):
        if cut_heads.get(number):
            cut_heads_of(layer, cut_heads[number], part)
        if cut_neurons.get(number):
            cut_neurons_of(layer, cut_neurons[number])
    if dropped:
        drop_layers(smaller, dropped, part)
    note_sizes(smaller)
    return smaller


def check_family(model: Any, part: str, *, by_layer: bool) -> None:
    """Refuse, with a ValueError, a model whose layers are shared, or whose config has no sizes.

    Args:
        model: the model.
        part: as in `prune`.
        by_layer: whether layers are to have sizes of their own.
    """
    layers = layers_of(model, part)
    config: Any = getattr(model, "config", None)
    known = [] if config is None else [each for each in fields_of(config) if each[0] == part]
    said = {field.name for field in dataclasses.fields(config)} if known else set()
    if not known or (by_layer and known[0][1] not in said):
        raise ValueError(
            f"model must be a BertLite or a TransformerLite for heads or neurons to be cut, got a "
            f"{type(model).__name__}, whose config.json has no sizes of each layer"
        )
    if getattr(config, "layer_types", None):
        raise ValueError(
            f"model must have layers that are alike, got a {type(model).__name__}, of which some "
            "see a window and the first has no norm"
        )
    if len(set(map(id, layers))) < len(layers):
        raise ValueError(
            f"model must have layers of its own at each depth, got a {type(model).__name__}, whose "
            "depths share one"
        )


def checked_layers(layers: Iterable[int], count: int, part: str) -> list[int]:
    """The layers to cut, each once.

    Raises:
        ValueError: one that there is not, none that would stay, or layers of "cross".
    """
    dropped = list(dict.fromkeys(layers))
    if not all(isinstance(number, int) for number in dropped):
        raise ValueError(f"layers must be whole numbers, got {layers!r}")
    dropped.sort()
    if dropped and part == "cross":
        raise ValueError("part must be encoder or decoder where layers are cut, got 'cross'")
    if any(not 0 <= number < count for number in dropped):
        raise ValueError(f"layers must be from 0 to {count - 1}, got {dropped}")
    if len(dropped) == count:
        raise ValueError(f"layers must leave at least one of {count}, got all of them")
    return dropped


def check_what_stays(
    model: Any, heads: dict[int, list[int]], neurons: dict[int, list[int]], part: str
) -> None:
    """Refuse, with a ValueError, to cut all of a layer, or out of a layer that was exchanged."""
    for number, layer in enumerate(layers_of(model, part)):
        counts = {"heads": attention_of(layer, part).num_heads}
        if part != "cross":
            counts["neurons"] = layer.outer.in_features
        for name, cut in (("heads", heads), ("neurons", neurons)):
            if number in cut and len(cut[number]) >= counts[name]:
                raise ValueError(
                    f"{name} must leave at least one of the {counts[name]} of layer {number}, got "
                    "all of them; layers cuts a whole layer"
                )
        for product in products_of(layer, part) if number in {**heads, **neurons} else ():
            if type(product) is not nn.Linear:
                raise ValueError(
                    f"model must have plain linear layers where it is cut, got a "
                    f"{type(product).__name__} in layer {number}; merge adapters first"
                )


def products_of(layer: Any, part: str) -> list[nn.Module]:
    """What is cut in a layer."""
    attention = attention_of(layer, part)
    found = [attention.query, attention.key, attention.value, projection_of(layer, part)]
    return found if part == "cross" else [*found, layer.inner, layer.outer]


def cut_heads_of(layer: Any, cut: list[int], part: str) -> None:
    """Cut heads out of a layer where it stands."""
    attention = attention_of(layer, part)
    kept = [head for head in range(attention.num_heads) if head not in set(cut)]
    size = attention.head_dim
    places = torch.tensor([head * size + each for head in kept for each in range(size)])
    owner, role = (attention, "projection")
    if attention.projection is None:
        owner, role = (layer, "attention_projection")
    for each in ("query", "key", "value"):
        exchange(attention, each, rows_kept(getattr(attention, each), places))
    exchange(owner, role, columns_kept(getattr(owner, role), places))
    attention.num_heads = len(kept)


def cut_neurons_of(layer: Any, cut: list[int]) -> None:
    """Cut inner neurons out of a layer where it stands."""
    gone = set(cut)
    places = torch.tensor([each for each in range(layer.outer.in_features) if each not in gone])
    exchange(layer, "inner", rows_kept(layer.inner, places))
    exchange(layer, "outer", columns_kept(layer.outer, places))


def exchange(owner: Any, role: str, part: nn.Module) -> None:
    """Put a part in the place of its role."""
    owner.place(owner.paths[role], part)


def rows_kept(linear: Any, places: torch.Tensor) -> nn.Linear:
    """A linear layer with some of its outputs."""
    places = places.to(linear.weight.device)
    bias = None if linear.bias is None else linear.bias[places]
    return linear_of(linear, linear.weight[places], bias)


def columns_kept(linear: Any, places: torch.Tensor) -> nn.Linear:
    """A linear layer that reads some of its inputs."""
    return linear_of(linear, linear.weight[:, places.to(linear.weight.device)], linear.bias)


def linear_of(like: nn.Linear, weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    """A linear layer with these weights, trainable as `like` is."""
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    made.weight = nn.Parameter(weight.detach().clone(), like.weight.requires_grad)
    if bias is not None:
        made.bias = nn.Parameter(bias.detach().clone(), like.bias.requires_grad)
    return made.train(like.training)


def drop_layers(model: Any, dropped: list[int], part: str) -> None:
    """Take layers out of the stack; those that stay get new numbers."""
    layers = layers_of(model, part)
    stack = next(
        module
        for module in model.modules()
        if isinstance(module, nn.ModuleList) and list(module) == layers
    )
    kept = [layer for number, layer in enumerate(layers) if number not in dropped]
    del stack[len(kept) :]
    for number, layer in enumerate(kept):
        stack[number] = layer
        for name in ("self_attention", "cross_attention"):
            attention = getattr(layer, name, None)
            if attention is not None:
                attention.layer_idx = number


def note_sizes(model: Any) -> None:
    """Write the sizes of the layers into the config: as one number where they are alike.

    The number of heads must stay the one by which a head's size is told, so that fewer of them are
    a list.
    """
    config = model.config
    for part, heads, neurons in fields_of(config):
        layers = layers_of(model, part) if has_part(model, part) else []
        if not layers:
            continue
        size, count = config.by_layer[heads]
        note(config, count, len(layers))
        found = [attention_of(layer, part).num_heads for layer in layers]
        note(config, heads, None if set(found) == {getattr(config, size)} else found)
        if neurons is None:
            continue
        size, _ = config.by_layer[neurons]
        found = [layer.outer.in_features for layer in layers]
        if len(set(found)) == 1:
            note(config, size, found[0])
        note(config, neurons, None if len(set(found)) == 1 else found)
    config.check_heads()


def note(config: Any, name: str, value: Any) -> None:
    """Set a field that has another value: a family's config has some of them fixed."""
    if getattr(config, name) != value:
        setattr(config, name, value)


def fields_of(config: Any) -> list[tuple[str, str, str | None]]:
    """Part, field of its heads and field of its inner sizes, of those that a config has."""
    return [
        (part, heads, neurons)
        for part, pairs in FIELDS.items()
        for heads, neurons in pairs
        if heads in config.by_layer
    ]


def has_part(model: Any, part: str) -> bool:
    """Whether a model has such layers: an encoder alone has no decoder."""
    mark = "encode_plainly" if part == "encoder" else "see_source"
    return any(hasattr(type(module), mark) for module in model.modules())
