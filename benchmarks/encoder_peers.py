"""Who takes part in the encoder benchmark, and how each is loaded and called.

Nothing heavy is imported before its use.

A batch is a dictionary of int64 arrays, `input_ids` and `attention_mask`, padded on the right. A
peer turns it into what it takes once, before any clock runs; then only its forward pass is timed.

Shapes: `B` batch, `T` length, `E` hidden size.
"""

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
from encoder_graphs import INPUTS, Files

OURS, SDPA, EAGER = "bertlite optimised fp32", "transformers sdpa", "transformers eager"


@dataclass
class Runner:
    """A loaded peer.

    `adapt` a batch, `forward` it, and see the last hidden states as an `array` `(B, T, E)`.

    `many`: run a list of adapted batches; None: `forward` of each.
    """

    adapt: Callable[[dict], Any]
    forward: Callable[[Any], Any]
    array: Callable[[Any], np.ndarray]
    many: Callable[[list], Any] | None = None

    def forward_all(self, inputs: list) -> None:
        """Run adapted batches one after the other."""
        if self.many is not None:
            self.many(inputs)
            return
        for each in inputs:
            self.forward(each)


def of_torch(model) -> Runner:
    """A torch module that takes `input_ids` and `attention_mask`."""
    import torch

    def forward(batch):
        with torch.inference_mode():
            return model(**batch).last_hidden_state

    def adapt(batch: dict) -> dict:
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    return Runner(adapt, forward, lambda output: output.float().numpy())


def set_torch_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def load_bertlite(files: Files, threads: int, dtype: str | None) -> Runner:
    """Ours as loaded (`dtype` None), or optimised."""
    import bertlite

    set_torch_threads(threads)
    model = bertlite.BertLiteModel.from_pretrained(files.weights).eval()
    return of_torch(model if dtype is None else bertlite.optimize(model, dtype=dtype))


def load_transformers(files: Files, threads: int, attention: str, compiled: bool = False) -> Runner:
    """The library's `BertModel`."""
    import torch
    from transformers import BertModel

    set_torch_threads(threads)
    model = BertModel.from_pretrained(files.weights, attn_implementation=attention).eval()
    return of_torch(torch.compile(model, dynamic=True) if compiled else model)


def as_graph_inputs(batch: dict) -> dict:
    """With the segment ids that the graph asks for."""
    return {**batch, INPUTS[2]: np.zeros_like(batch[INPUTS[0]])}


def load_onnxruntime(files: Files, threads: int, int8: bool) -> Runner:
    """A session over the fused graph."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    path = files.int8_onnx() if int8 else files.fused_onnx()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return Runner(as_graph_inputs, lambda batch: session.run(None, batch)[0], np.asarray)


def load_openvino(files: Files, threads: int, precision: str) -> Runner:
    """A compiled model, for the shortest time of a batch.

    Threads are left free to move, as everybody's are.
    """
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
        "ENABLE_CPU_PINNING": False,
    }
    compiled = openvino.Core().compile_model(files.openvino(), "CPU", settings)
    given = (compiled.get_property("INFERENCE_PRECISION_HINT").to_string(), precision)
    if given[0] != given[1]:
        raise ValueError(f"OpenVINO must compute in {given[1]} here, got {given[0]}")
    request = compiled.create_infer_request()

    def forward(batch):
        request.infer(batch, share_inputs=True)
        return request.get_output_tensor(0).data

    return Runner(as_graph_inputs, forward, np.array)


def load_ctranslate2(files: Files, threads: int, compute_type: str) -> Runner:
    """An `Encoder`, which leaves padding out by the lengths, as ours does."""
    import ctranslate2

    encoder = ctranslate2.Encoder(
        files.ctranslate2(), compute_type=compute_type, intra_threads=threads
    )
    if encoder.compute_type != compute_type:
        raise ValueError(
            f"CTranslate2 must compute in {compute_type} here, got {encoder.compute_type}"
        )

    def adapt(batch: dict) -> tuple:
        arrays = (
            batch["input_ids"].astype(np.int32),
            batch["attention_mask"].sum(1).astype(np.int32),
        )
        return tuple(
            ctranslate2.StorageView.from_array(np.ascontiguousarray(array)) for array in arrays
        )

    def forward(inputs):
        return encoder.forward_batch(*inputs).last_hidden_state

    return Runner(adapt, forward, np.array)


@dataclass(frozen=True)
class Peer:
    """A competitor.

    Its name, the precision it computes in, the packages it needs, and how it is loaded.
    """

    name: str
    precision: str
    needs: tuple[str, ...]
    load_here: Callable[[Files, int], Runner]

    def load(self, files: Files, threads: int) -> Runner:
        """Loaded in this process, or in one of its own where it would slow the others down."""
        if "ctranslate2" not in self.needs:
            return self.load_here(files, threads)
        from encoder_worker import remote_runner

        files.ctranslate2()  # converted here, so that both of its precisions find it
        return remote_runner(self.name, files, threads)

    def missing(self) -> list[str]:
        """Packages that it needs and that are not installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]


def peer(name: str, precision: str, needs: str, load: Callable, *options) -> Peer:
    return Peer(
        name, precision, tuple(needs.split()), lambda files, threads: load(files, threads, *options)
    )


PEERS = [
    peer(OURS, "fp32", "bertlite", load_bertlite, "fp32"),
    peer("bertlite", "fp32", "bertlite", load_bertlite, None),
    peer("bertlite optimised bf16", "bf16", "bertlite", load_bertlite, "bf16"),
    peer("bertlite optimised int8", "int8", "bertlite", load_bertlite, "int8"),
    peer(SDPA, "fp32", "transformers", load_transformers, "sdpa"),
    peer(EAGER, "fp32", "transformers", load_transformers, "eager"),
    peer("transformers compiled", "fp32", "transformers", load_transformers, "sdpa", True),
    peer("ONNX Runtime fp32", "fp32", "onnxruntime onnx", load_onnxruntime, False),
    peer("ONNX Runtime int8", "int8", "onnxruntime onnx", load_onnxruntime, True),
    peer("OpenVINO fp32", "fp32", "openvino onnx", load_openvino, "f32"),
    peer("OpenVINO bf16", "bf16", "openvino onnx", load_openvino, "bf16"),
    peer("CTranslate2 fp32", "fp32", "ctranslate2", load_ctranslate2, "float32"),
    peer("CTranslate2 int8", "int8", "ctranslate2", load_ctranslate2, "int8_float32"),
]
BY_NAME = {each.name: each for each in PEERS}
PACKAGES = ("bertlite", "torch", "transformers", "sentence-transformers", "numpy")
PACKAGES += ("onnxruntime", "onnx", "openvino", "ctranslate2")


@functools.cache
def versions() -> dict[str, str]:
    """Installed versions, by package; those that are not installed say so."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def chosen(names: str | None, compiled: bool = True) -> list[Peer]:
    """The peers whose name holds one of the comma-separated `names`; all of them without.

    Raises:
        ValueError: a name that no peer holds.
    """
    wanted = [part.strip().lower() for part in (names or "").split(",") if part.strip()]
    for part in wanted:
        if not any(part in each.name.lower() for each in PEERS):
            raise ValueError(
                f"competitors must be parts of {[each.name for each in PEERS]}, got {part!r}"
            )
    picked = [
        each for each in PEERS if not wanted or any(part in each.name.lower() for part in wanted)
    ]
    return [each for each in picked if compiled or "compiled" not in each.name]
