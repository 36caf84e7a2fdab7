"""Runs the archive of this folder: needs torch and numpy."""

from pathlib import Path

import torch
from texts import SETTINGS


def load(name="model"):
    """A graph, as a function from arrays by their names to the list of its outputs."""
    module = torch.export.load(str(Path(__file__).with_name(f"{name}.pt2"))).module()

    def run(given):
        tensors = [torch.from_numpy(given[each]) for each in SETTINGS["inputs"]]
        with torch.no_grad():
            return [each.numpy() for each in module(*tensors)]

    return run
