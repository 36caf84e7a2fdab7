"""A peer in a process of its own, which takes its turn with the others.

CTranslate2 wants this: it brings OpenMP threads of its own, and once they exist, torch's OpenMP stops waiting actively
for work (more threads than processors), which makes every short call of torch, ours and transformers', up to twice
as slow in that process. A user would have one or the other.
"""

import multiprocessing
import traceback
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from encoder_graphs import Files


def serve(connection: Connection, peer: str, weights: str, folder: str, threads: int) -> None:
    """The process's work: load, say so, then adapt, run and hand out arrays as asked."""
    from encoder_peers import BY_NAME

    kept: list[Any] = []
    output: Any = None
    try:
        runner = BY_NAME[peer].load_here(Files(weights, folder), threads)
        connection.send(None)
        while True:
            wish, given = connection.recv()
            answer: Any = None
            if wish == "adapt":
                kept.append(runner.adapt(given))
                answer = len(kept) - 1
            elif wish == "forward":
                for number in given:
                    output = runner.forward(kept[number])
            else:
                answer = np.array(runner.array(output))
            connection.send(answer)
    except (EOFError, KeyboardInterrupt):
        return
    except Exception as error:  # the benchmark names it
        connection.send(RuntimeError(f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=1)}"))


class Worker:
    """The benchmark's side of it: what `Runner` does, done there.

    Args:
        peer: the peer's name.
        files: weights and converted files, which are made before the process starts.
        threads: of the peer.

    Raises:
        RuntimeError: what went wrong in the other process.
    """

    def __init__(self, peer: str, files: Files, threads: int):
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        arguments = (other, peer, files.weights, str(files.folder), threads)
        context.Process(target=serve, args=arguments, daemon=True).start()
        other.close()
        self._answer()

    def _answer(self) -> Any:
        answer = self.connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _ask(self, wish: str, given: Any) -> Any:
        self.connection.send((wish, given))
        return self._answer()

    def adapt(self, batch: dict) -> int:
        """The number under which the batch is kept there."""
        return self._ask("adapt", batch)

    def forward(self, number: int) -> None:
        """Run one batch."""
        self._ask("forward", [number])

    def forward_all(self, numbers: list[int]) -> None:
        """Run batches; one message there and one back."""
        self._ask("forward", numbers)

    def array(self, _: None) -> np.ndarray:
        """The last output `(B, T, E)`."""
        return self._ask("array", None)
