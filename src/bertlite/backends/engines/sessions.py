"""Graphs in memory, run on arrays: one interface to ONNX Runtime and to OpenVINO."""

import functools
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .onnx_graph import HINT, needed

OPENVINO_HINT = 'install it with: pip install "bertlite[openvino]"'
Arrays = Mapping[str, np.ndarray]
_one_core = threading.Lock()


class Session(ABC):
    """A graph that is ready to run.

    Attributes:
        inputs: the names of what it reads.
        outputs: the names of what it gives, in order.
    """

    inputs: list[str]
    outputs: list[str]

    @abstractmethod
    def run(self, given: Arrays) -> list[np.ndarray]:
        """The outputs for the inputs, of which some may not be read."""


class OnnxSession(Session):
    """A graph in ONNX Runtime, on the CPU.

    Args:
        graph: a file.
        threads: of one product; 0: as many as ONNX Runtime thinks right.
        spinning: whether threads wait for the next graph at full speed.
    """

    def __init__(self, graph: Path, threads: int = 0, spinning: bool = True):
        onnxruntime = needed("onnxruntime", HINT)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
        self.session = onnxruntime.InferenceSession(
            str(graph), options, providers=["CPUExecutionProvider"]
        )
        self.inputs = [each.name for each in self.session.get_inputs()]
        self.outputs = [each.name for each in self.session.get_outputs()]

    def run(self, given: Arrays) -> list[np.ndarray]:
        return self.session.run(None, {name: given[name] for name in self.inputs})


def openvino_core():
    """OpenVINO's `Core`, one for the life of the process.

    Each `Core` gives the thread that makes it a stack for signal handlers (`sigaltstack`). When it
    goes after another one, or on another thread, it leaves the address of a stack that is no more,
    and the next signal with a handler in Python (Ctrl+C, the end of a DataLoader's worker) ends the
    process without a word.
    """
    openvino = needed("openvino", OPENVINO_HINT)
    with _one_core:  # two threads would make two
        return _make_core(openvino.Core)


@functools.cache
def _make_core(core: type):
    return core()


class OpenVinoSession(Session):
    """A graph in OpenVINO, on the CPU, for the shortest time of a batch.

    Args:
        graph: an `.xml` or `.onnx` file.
        threads: of one product; 0: as many as OpenVINO thinks right.
    """

    def __init__(self, graph: Path, threads: int = 0):
        settings: dict[str, Any] = {
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,
        }
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        compiled = openvino_core().compile_model(str(graph), "CPU", settings)
        self.inputs = [each.get_any_name() for each in compiled.inputs]
        self.outputs = [each.get_any_name() for each in compiled.outputs]
        self.request = compiled.create_infer_request()
        self.lock = threading.Lock()  # a request is for one thread at a time

    def run(self, given: Arrays) -> list[np.ndarray]:
        inputs = {name: given[name] for name in self.inputs}
        with self.lock:
            try:
                self.request.infer(inputs, share_inputs=True)
            except RuntimeError as error:  # such as oneDNN held to less than the processor has
                why = str(error).strip().splitlines()[-1]
                raise ValueError(f"OpenVINO cannot run this graph here: {why}") from error
            found = [
                self.request.get_output_tensor(place).data for place in range(len(self.outputs))
            ]
            return [np.array(each) for each in found]
