"""An encoder in a process of its own, which takes its turn with the others; worker.py says why."""

from collections.abc import Callable
from typing import Any

import numpy as np
from encoder_graphs import Files
from encoder_peers import BY_NAME, Runner
from worker import Worker


def start(peer: str, weights: str, folder: str, threads: int) -> Callable[[str, Any], Any]:
    """Load the peer.

    The function adapts a batch and keeps it, runs kept ones, or gives the last output.
    """
    runner = BY_NAME[peer].load_here(Files(weights, folder), threads)
    kept: list[Any] = []
    outputs: list[Any] = [None]

    def adapt(batch: dict) -> int:
        kept.append(runner.adapt(batch))
        return len(kept) - 1

    def forward(numbers: list[int]) -> None:
        for number in numbers:
            outputs[0] = runner.forward(kept[number])

    def array(_: None) -> np.ndarray:
        return np.array(runner.array(outputs[0]))

    wishes: dict[str, Callable] = {"adapt": adapt, "forward": forward, "array": array}
    return lambda wish, given: wishes[wish](given)


def remote_runner(peer: str, files: Files, threads: int) -> Runner:
    """The peer over there; its batches are numbers here, and a list of them is run by one message.

    Raises:
        RuntimeError: what went wrong in the other process.
    """
    ask = Worker(start, peer, files.weights, str(files.folder), threads).ask
    return Runner(
        adapt=lambda batch: ask("adapt", batch),
        forward=lambda number: ask("forward", [number]),
        array=lambda _: ask("array", None),
        many=lambda numbers: ask("forward", numbers),
    )
