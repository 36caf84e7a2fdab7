"""`bertlite.optimize(model, backend="onnxruntime")`: an encoder computed by another engine's graph.

The graph is recorded from the encoder as it stands, and again once a weight or a part of it has
changed; heads stay in torch. What a graph does not hold is left to the backends behind it.

Shapes: `B` batch, `T` length, `M` vectors that are read, `E` hidden size.
"""

import tempfile
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ...models.inputs import TextBatch
from ..cpu.packed_backend import parts_of, state_of
from ..flat_backend import FlatBackend
from ..frozen import FrozenEncoder, check_frozen, encoders_of, undo_optimize
from .onnx_graph import additive_mask, fusable_attention, fuse, write_onnx
from .sessions import Arrays, OnnxSession, OpenVinoSession, Session

OUTPUT = "last_hidden_state"
RECORDING = threading.RLock()  # one at a time in a process: torch's exporter has global state
TOLERANCE = 1e-4  # of the largest value, or of 1 where that is smaller


class EncoderGraph(nn.Module):
    """An encoder of the core as it is recorded: its inputs by position."""

    def __init__(self, encoder: Any, inputs: tuple[str, ...]):
        super().__init__()
        self.encoder, self.inputs = encoder, inputs

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        """`(B, T)` to `(B, T, E)`."""
        given = dict(zip(self.inputs, tensors, strict=True))
        batch = self.encoder.make_batch(
            given["input_ids"],
            additive_mask(given["attention_mask"]),
            given.get("token_type_ids"),
            None,
            None,
            None,
            None,
        )
        return self.encoder.encode_plainly(batch, attention_interface=fusable_attention)


class EngineBackend(FrozenEncoder, FlatBackend, ABC):
    """One frozen encoder, computed by a graph; a subclass says by which engine.

    Args:
        encoder: of the core, in evaluation mode, in fp32 on a CPU.
        spinning: whether the engine's threads wait for the next batch at full speed, which takes
            time from whatever else computes in the process.
    """

    def __init__(self, encoder: Any, spinning: bool = True):
        self.freeze(encoder)
        self.spinning = spinning
        self.session: Session | None = None
        self.weights: list[nn.Parameter] = []
        self.state: list[int] = []
        self.parts: tuple[list, ...] = ()
        self.fault = ""  # of the graph of the encoder as it is now

    def __getstate__(self) -> dict:
        """Copies and pickles record for themselves."""
        return {**vars(self), "session": None, "weights": [], "state": [], "parts": ()}

    @property
    def inputs(self) -> tuple[str, ...]:
        """What the graph reads."""
        types = ("token_type_ids",) if self.encoder.config.type_vocab_size > 0 else ()
        return ("input_ids", "attention_mask", *types)

    def serves(self, device: torch.device) -> bool:
        return device.type == "cpu"

    def unsupported(self, work: str, model: nn.Module, **wanted: Any) -> list[str]:
        if work != "encode":
            return [f"its graph does not {work}"]
        batch = wanted["batch"]
        names = ("output_attentions", "output_hidden_states", "past_key_values")
        flat = {name: wanted.get(name) for name in names}
        return (
            self.against_caller(**wanted)
            or self.against_flat(self.encoder, batch, **flat)
            or against_batch(batch)
            or self.against_watching(self.encoder)
            or self.against_weights()
            or self.against_graph()
        )

    def against_weights(self) -> list[str]:
        """Reasons not to record the encoder."""
        weight = next(self.encoder.parameters(), None)
        if weight is None or weight.device.type != "cpu" or weight.dtype != torch.float32:
            return ["the encoder is not in fp32 on the CPU"]
        return []

    def against_graph(self) -> list[str]:
        """Reasons that show once the encoder is recorded, which is done where it has changed."""
        if not self.is_fresh():
            with RECORDING:
                if not self.is_fresh():
                    self.renew()
        return [self.fault] if self.fault else []

    def is_fresh(self) -> bool:
        """Whether what was recorded is what stands in the encoder now."""
        return (
            bool(self.weights)
            and self.state == state_of(self.weights)
            and self.parts == parts_of(self.encoder)
        )

    def renew(self) -> None:
        """Record the encoder as it is, and hold the graph to it."""
        session, fault = None, ""
        try:
            session = self.record()
            fault = self.difference(session)
        except (RuntimeError, TypeError, torch.onnx.errors.OnnxExporterError) as error:
            fault = f"it cannot be recorded: {' '.join(str(error).split())[:200]}"
        self.session, self.fault = session, fault
        self.weights = list(self.encoder.parameters())
        self.state, self.parts = state_of(self.weights), parts_of(self.encoder)

    def difference(self, session: Session) -> str:
        """What is wrong with a graph's vectors, on rows of two lengths; "" where nothing is."""
        config = self.encoder.config
        ids = torch.arange(21).view(3, 7) * 31 % config.vocab_size
        mask = torch.ones_like(ids)
        mask[0, 2:], mask[2, :3] = 0, 0  # padded on the right, and on the left
        batch = self.encoder.make_batch(ids, mask, None, None, None, None, None)
        with torch.no_grad():
            expected = self.encoder.encode_plainly(batch)[mask.bool()]
        found = torch.from_numpy(session.run(self.arrays(batch))[0])[mask.bool()]
        apart = float((found - expected).abs().max() / expected.abs().max().clamp(min=1))
        if apart <= TOLERANCE:
            return ""
        return f"its graph's vectors are {apart:.1e} from the model's"

    def record(self) -> Session:
        """Write the encoder's graph, and load it."""
        encoder = self.encoder
        ids = torch.arange(10).view(2, 5) % encoder.config.vocab_size
        example = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if "token_type_ids" in self.inputs:
            example["token_type_ids"] = torch.zeros_like(ids)
        example["attention_mask"][1, 3:] = 0
        free = dict.fromkeys((*example, OUTPUT), {0: "batch", 1: "length"})
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode(False):
            path = Path(folder, "recorded.onnx")
            graph = EncoderGraph(encoder, self.inputs).eval()
            write_onnx(graph, example, (OUTPUT,), path, free)
            return self.load(path)

    @abstractmethod
    def load(self, path: Path) -> Session:
        """The session of a recorded graph, whose file will go away."""

    def encode(
        self, encoder: Any, batch: TextBatch, positions: torch.Tensor | None, **kwargs: Any
    ) -> torch.Tensor:
        arrays = self.arrays(batch)
        if not in_tables(encoder, arrays):  # the look-up says which id it is
            return encoder.encode_plainly(batch, **kwargs)
        assert self.session is not None  # `against_graph` has seen to it
        states = torch.from_numpy(self.session.run(arrays)[0])
        return states if positions is None else states[positions]

    def arrays(self, batch: TextBatch) -> Arrays:
        """The graph's inputs."""
        ids = batch.input_ids
        assert ids is not None  # `against_batch` has seen to it
        given = {"input_ids": ids.expand(batch.shape).long().numpy()}
        mask = batch.attention_mask
        real = np.ones(batch.shape, np.int64) if mask is None else mask.ne(0).long().numpy()
        given["attention_mask"] = real
        if "token_type_ids" in self.inputs:
            types = batch.token_type_ids
            none = types is None
            given["token_type_ids"] = (
                np.zeros(batch.shape, np.int64)
                if none
                else types.expand(batch.shape).long().contiguous().numpy()  # type: ignore[union-attr]
            )
        return given


def against_batch(batch: TextBatch) -> list[str]:
    """Reasons that lie in what the caller gives."""
    if batch.input_ids is None:
        return ["vectors are given instead of ids"]
    if batch.segments is not None:
        return ["rows hold several sequences"]
    if batch.gives_positions:
        return ["positions are given"]
    return []


def in_tables(encoder: Any, arrays: Arrays) -> bool:
    """Whether every id has a row in its table; an engine may take another without a word."""
    limits = {"input_ids": encoder.config.vocab_size}
    limits["token_type_ids"] = encoder.config.type_vocab_size
    found = ((arrays[name], limit) for name, limit in limits.items() if name in arrays)
    return all(each.min() >= 0 and each.max() < limit for each, limit in found)


class OnnxRuntimeBackend(EngineBackend):
    """By ONNX Runtime, with its fusions."""

    name = "onnxruntime"

    def load(self, path: Path) -> Session:
        config = self.encoder.config
        if not config.is_pruned:  # else layers have heads of their own, and fusions none of that
            fused = path.with_name("fused.onnx")
            fuse(path, fused, self.encoder.num_heads, config.hidden_size)
            path = fused
        return OnnxSession(path, torch.get_num_threads(), self.spinning)


class OpenVinoBackend(EngineBackend):
    """By OpenVINO, which fuses attention itself."""

    name = "openvino"

    def load(self, path: Path) -> Session:
        return OpenVinoSession(path, torch.get_num_threads())


ENGINES: dict[str, type[EngineBackend]] = {
    each.name: each for each in (OnnxRuntimeBackend, OpenVinoBackend)
}


def check_engine(model: nn.Module, dtype: str | None) -> list[Any]:
    """The encoders of a model that an engine can compute.

    Raises:
        ValueError: another precision than fp32, a model on another device, and as `check_frozen`.
    """
    encoders = list(encoders_of(model))
    check_frozen(model, encoders)
    if dtype not in (None, "fp32"):
        raise ValueError(f"dtype must be fp32 with a backend other than 'packed', got {dtype!r}")
    for encoder in encoders:
        weight = next(encoder.parameters())
        if weight.device.type != "cpu" or weight.dtype != torch.float32:
            raise ValueError(
                "model must be in fp32 on the CPU for another engine, got "
                f"{weight.dtype} on {weight.device}"
            )
    return encoders


def optimize_by_engine(model: nn.Module, dtype: str | None, name: str) -> nn.Module:
    """As `backends.frozen.optimize`, by ONNX Runtime or OpenVINO."""
    encoders = check_engine(model, dtype)
    made = [ENGINES[name](encoder) for encoder in encoders]
    for each in made:
        if reasons := each.against_graph():  # or refuses, where a package is missing
            raise ValueError(f"backend {name!r} cannot compute this model: {reasons[0]}")
    undo_optimize(model)
    for encoder, each in zip(encoders, made, strict=True):
        encoder.requires_grad_(False)
        encoder.backend_choice = each
    return model
