"""Layers compiled on tokens laid end to end, once for all sizes.

The layers see `(1, N, E)` and the ends of sequences, so that one graph with an open N serves every
batch; whole models are not compiled, since what comes before the layers depends on values. A test
counts the graphs.
"""

from typing import Any

from torch import nn

from ...models.layers import EncoderLayer


def layers_in(model: nn.Module) -> list[EncoderLayer]:
    """The layers of encoders in a model; those of decoders, which have caches, are left out."""
    return [module for module in model.modules() if type(module) is EncoderLayer]


def compile_layers(model: nn.Module, **options: Any) -> nn.Module:
    """Compile the encoder layers of a model on a GPU, in place, for training and inference.

    The first batches take seconds to a minute longer. Half precision (or autocast) is needed: torch
    cannot yet compile the gradient of its fp32 kernel.

    Args:
        model: a BertLite or TransformerLite model on a GPU, or a module that holds one.
        options: for `torch.compile`, such as `mode`; `dynamic=True` is set.

    Returns:
        The same model.

    Raises:
        ValueError: a model without our layers, or not on a GPU: elsewhere attention depends on the
            values of lengths, and each batch would be compiled anew.
    """
    layers = layers_in(model)
    if not layers:
        raise ValueError(
            f"model must hold a BertLite or TransformerLite encoder, got {type(model).__name__}"
        )
    devices = {each.device.type for each in model.parameters()}
    if devices != {"cuda"}:
        raise ValueError(f"model must lie on a GPU to have its layers compiled, got {devices}")
    return compile_each(model, **options)


def compile_each(model: nn.Module, **options: Any) -> nn.Module:
    """`compile_layers` without a look at the device."""
    for layer in layers_in(model):
        layer.compile(dynamic=True, **options)
    return model


def graphs_compiled() -> int:
    """How many graphs this process has compiled; it stands still once all shapes were seen."""
    from torch._dynamo.utils import counters

    return counters["stats"]["unique_graphs"]
