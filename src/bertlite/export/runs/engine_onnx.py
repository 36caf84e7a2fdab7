"""Runs the graphs of this folder: needs onnxruntime and numpy."""

from pathlib import Path

import onnxruntime


def load(name="model"):
    """A graph, as a function from arrays by their names to the list of its outputs."""
    file = Path(__file__).with_name(f"{name}.onnx")
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    return lambda given: session.run(None, {each: given[each] for each in names})
