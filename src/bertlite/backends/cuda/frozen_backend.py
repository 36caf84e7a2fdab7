"""`optimize` on a GPU: a frozen encoder in one precision, its launches replayed from graphs.

Shapes: `B` batch, `T` length, `N` real tokens, `E` hidden size.
"""

from typing import Any

import torch
from torch import nn
from transformers.utils import logging

from ...models.inputs import TextBatch
from ..flat_backend import is_plain_layer
from ..frozen import FrozenEncoder, check_frozen, encoders_of, undo_optimize
from .backend import CudaBackend
from .frozen_layers import FrozenLayers
from .graphs import Graphs
from .kernels import Ends, choose
from .memory import explained_memory

logger = logging.get_logger(__name__)
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class FrozenCudaBackend(FrozenEncoder, CudaBackend):
    """The CUDA backend with copied weights, for one frozen encoder.

    Weights are copied at the first call, and again when they have changed.

    Args:
        encoder: of the core, in evaluation mode.
        dtype: of the copies; None: that of the encoder.
        recorder: records launches; None: CUDA graphs.
    """

    name = "cuda-frozen"

    def __init__(self, encoder: Any, dtype: torch.dtype | None, recorder: Any = None):
        super().__init__()
        self.freeze(encoder)
        self.dtype, self.recorder = dtype, recorder
        self.graphs: Graphs | None = None
        self.state: list[int] = []

    def __getstate__(self) -> dict:
        return {**super().__getstate__(), "graphs": None, "state": []}

    def against_encoding(self, encoder: Any, batch: TextBatch, positions, zero_padding, **kwargs):
        self.refuse_training(batch.inputs_embeds)
        if reasons := self.against_flat(encoder, batch, **kwargs):
            return reasons
        if encoder is not self.encoder:
            return ["it was made for another encoder"]
        if torch.is_autocast_enabled(self.device_type):
            return ["autocast is on"]
        if encoder.config._attn_implementation != "sdpa":
            return ["attention has another implementation"]
        if kwargs.get("cu_seq_lens_q") is not None:
            return ["the caller has laid the sequences end to end"]
        layers = encoder.stack.layers
        if not len(layers) or not all(is_frozen_layer(layer) for layer in layers):
            return ["a layer has been exchanged"]
        return super().against_encoding(encoder, batch, positions, zero_padding, **kwargs)

    def choice_of(self, model: Any):
        dtype = self.dtype or model.dtype
        return choose(model.device, dtype, model.config.hidden_size // model.num_heads)

    def current_graphs(self) -> Graphs:
        """The graphs, made anew where a weight is no longer the one that was copied."""
        layers = self.encoder.stack.layers
        weights = list(layers.parameters())
        state = [*map(torch.Tensor.data_ptr, weights), *(each._version for each in weights)]
        if self.graphs is None or state != self.state:
            with torch.inference_mode(False), torch.no_grad():
                frozen = FrozenLayers(layers, self.dtype or self.encoder.dtype)
            kernel = self.choice_of(self.encoder).plain
            assert kernel is not None  # `against_attention` has seen to it

            def run(hidden_states: torch.Tensor, ends: Ends) -> torch.Tensor:
                return frozen(hidden_states, ends, kernel)

            self.graphs, self.state = Graphs(run, self.recorder), state
        return self.graphs

    def encode(
        self, encoder: Any, batch: TextBatch, positions: torch.Tensor | None, **kwargs: Any
    ) -> torch.Tensor:
        with torch.no_grad(), explained_memory():
            layout, hidden_states = self.run_flat(encoder, batch)
            if positions is not None:
                places = self.places_read(layout, positions, batch.facts.read)
                return hidden_states.index_select(0, places)
            if layout is not None:
                return layout.put_back(hidden_states[None])
            return hidden_states.view(*batch.shape, -1)

    def encode_with_first(
        self, encoder: Any, batch: TextBatch, positions: torch.Tensor, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad(), explained_memory():
            layout, hidden_states = self.run_flat(encoder, batch)
            places = self.places_read(layout, positions, batch.facts.read)
            first = torch.zeros_like(positions)
            first[:, 0] = True
            first_places = self.places_read(layout, first, batch.shape[0])
            vectors = (hidden_states.index_select(0, each) for each in (places, first_places))
            return tuple(vectors)  # type: ignore[return-value]

    def run_flat(self, encoder: Any, batch: TextBatch) -> tuple[Any, torch.Tensor]:
        """The layout, and all real tokens' vectors `(N, E)`."""
        layout, hidden_states, ends = self.embed_flat(encoder, batch)
        graphs = self.current_graphs()
        dtype = hidden_states.dtype
        made = graphs(hidden_states[0].to(self.dtype or dtype), ends, batch.facts.longest)
        return layout, encoder.finish(made.to(dtype))


def is_frozen_layer(layer: nn.Module) -> bool:
    """Whether a layer can be copied: as it was built, its products and norms plain ones."""
    if not is_plain_layer(layer):
        return False
    leaves = [part for part in layer.modules() if any(True for _ in part.parameters(recurse=False))]
    return all(type(part) in (nn.Linear, nn.LayerNorm) for part in leaves)


def optimize_on_gpu(model: nn.Module, dtype: str | None) -> nn.Module:
    """As `backends.frozen.optimize`, for a model on a GPU."""
    if dtype is not None and dtype not in DTYPES:
        known = ", ".join(repr(name) for name in DTYPES)
        raise ValueError(f"dtype must be None, {known} on a GPU, got {dtype!r}")
    encoders = list(encoders_of(model))
    check_frozen(model, encoders)
    undo_optimize(model)
    for encoder in encoders:
        frozen = FrozenCudaBackend(encoder, None if dtype is None else DTYPES[dtype])
        encoder.requires_grad_(False)
        encoder.backend_choice = frozen
    logger.info(f"Optimised {len(encoders)} encoder(s) for inference on a GPU")
    return model
