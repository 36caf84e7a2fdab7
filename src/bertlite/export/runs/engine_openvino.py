"""Runs the graphs of this folder: needs openvino and numpy."""

from pathlib import Path

import numpy as np
import openvino

# One for the life of the process: several that go in any order break Python's signal handlers.
CORE = openvino.Core()


def load(name="model"):
    """A graph, as a function from arrays by their names to the list of its outputs."""
    file = Path(__file__).with_name(f"{name}.xml")
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = CORE.compile_model(str(file), "CPU", hints)
    names = [each.get_any_name() for each in compiled.inputs]

    def run(given):
        found = compiled({each: given[each] for each in names})
        return [np.array(found[each]) for each in compiled.outputs]

    return run
