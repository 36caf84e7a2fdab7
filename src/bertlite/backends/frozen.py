"""`optimize`: a loaded model's encoder for frozen inference. Same class, same `forward`, less work.

What is done for it differs from device to device; what is asked of the model, and how it is taken
back, does not.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ..models.inputs import is_traced

ENGINES = ("onnxruntime", "openvino")
BACKENDS = (None, "packed", "auto", *ENGINES)
USUAL = (None, "sdpa", "eager")  # attention implementations whose result the copies give
WAY_OUT = "call bertlite.undo_optimize(model) to train it"


class FrozenEncoder:
    """Mixed into a backend that computes with copies of one encoder's weights.

    Args:
        encoder: of the core, in evaluation mode.
    """

    encoder: Any

    def freeze(self, encoder: Any) -> None:
        """Remember the encoder, and which of its parameters were trainable."""
        self.encoder = encoder
        named = encoder.named_parameters()
        self.trainable = [name for name, weight in named if weight.requires_grad]

    def refuse_training(self, inputs_embeds: torch.Tensor | None) -> None:
        """Nothing here knows a gradient, and to lose one in silence would be worse than to stop."""
        if self.encoder.training:
            raise ValueError(
                "model must be in evaluation mode while it is optimised, got training mode; "
                f"{WAY_OUT}"
            )
        if torch.is_grad_enabled():
            asking = any(weight.requires_grad for weight in self.encoder.parameters())
            if asking or (inputs_embeds is not None and inputs_embeds.requires_grad):
                raise ValueError(
                    "an optimised model must run without gradients, got requires_grad=True; "
                    f"{WAY_OUT}"
                )

    def against_caller(self, **wanted: Any) -> list[str]:
        """Reasons that lie in how the caller runs the model on a CPU, the same for all copies."""
        self.refuse_training(wanted["batch"].inputs_embeds)
        if is_traced():  # copies are no part of a graph
            return ["the model is traced"]
        if torch.is_autocast_enabled("cpu"):
            return ["autocast is on"]
        if self.encoder.config._attn_implementation not in USUAL:
            return ["attention has another implementation"]
        if wanted.get("cu_seq_lens_q") is not None:
            return ["the caller has laid the sequences end to end"]
        return []


def encoders_of(model: nn.Module) -> Iterator[Any]:
    """The encoders in a model: BertLite's own, a head's, a TransformerLite's, a wrapper's.

    Raises:
        ValueError: no model that is loaded, but the name of a folder, say.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"model must be a loaded model, as bertlite.load gives it, got {model!r:.80}"
        )
    return (module for module in model.modules() if hasattr(module, "encode_plainly"))


def check_frozen(model: nn.Module, encoders: list[Any]) -> None:
    """Refuse a model that is being trained, or that has none of our encoders."""
    if not encoders:
        raise ValueError(
            f"model must hold a BertLite or TransformerLite encoder, got {type(model).__name__}"
        )
    if any(encoder.training for encoder in encoders):
        raise ValueError(
            "model must be in evaluation mode, got training mode; call model.eval() first"
        )
    weights = (weight for encoder in encoders for weight in encoder.parameters())
    if any(weight.grad is not None for weight in weights):
        # A fused optimizer that steps on them would change weights in a way that torch does not
        # count.
        raise ValueError(
            "model must hold no gradients, got some of a training step; call model.zero_grad() "
            "first"
        )


def optimize(
    model: nn.Module, *, dtype: str | None = None, backend: str | None = None
) -> nn.Module:
    """Make a model's encoder fast for frozen inference where it lies; `undo_optimize` undoes it.

    The model keeps its class, its `forward`, its parameters and its tensor names. Until it is
    undone the encoder's parameters do not require gradients, while a head on top of it may still be
    trained. What the copied layers do not cover (attention weights, hidden states, hooks, prepared
    masks, other devices) runs through the plain ones. The copies take memory beside the layers'
    own: as much in fp32, half of it in fp16 and bf16, a quarter in int8. Move a model to its device
    first.

    Args:
        model: a BertLite or TransformerLite model in evaluation mode, or a module that holds one.
        dtype: on a CPU None or "fp32": outputs within 1e-5; "bf16": fp32 stays where the processor
            cannot multiply bf16; "int8": activations quantised row by row on the fly. On a GPU
            "fp32", "fp16", "bf16", or None: the model's own precision.
        backend: on a CPU, in fp32, who computes the encoder: None or "packed": our layers with
            packed weights; "onnxruntime" or "openvino": a graph in that engine; "auto": for each
            batch the one of these, as far as they are installed, that was fastest at its size on
            this machine, which is measured here for some seconds.

    Returns:
        The same model.

    Raises:
        ValueError: another dtype or backend, an engine that is not installed, a model in training
            mode, with gradients or without our encoder, int8 without oneDNN.

    >>> import bertlite
    >>> model = bertlite.BertLiteModel(bertlite.preset("bert-tiny")).eval()
    >>> model = bertlite.optimize(model)
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {BACKENDS}, got {backend!r}")
    if backend == "auto":
        from .engines.measured import optimize_by_measuring

        return optimize_by_measuring(model, dtype)
    if backend in ENGINES:
        from .engines.backend import optimize_by_engine

        return optimize_by_engine(model, dtype, str(backend))
    if any(encoder.device.type == "cuda" for encoder in encoders_of(model)):
        from .cuda.frozen_backend import optimize_on_gpu

        return optimize_on_gpu(model, dtype)
    from .cpu.packed_backend import optimize_on_cpu

    return optimize_on_cpu(model, dtype)


def undo_optimize(model: nn.Module) -> nn.Module:
    """Give back the trainable model that `optimize` was called on; others stay as they are."""
    for encoder in encoders_of(model):
        frozen = vars(encoder).get("backend_choice")
        if isinstance(frozen, FrozenEncoder):
            del encoder.backend_choice
            for name, weight in encoder.named_parameters():
                weight.requires_grad_(name in frozen.trainable)
    return model
