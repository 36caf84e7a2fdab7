"""Work in a process of its own, which answers what it is asked.

CTranslate2 wants this: it brings OpenMP threads of its own, and once they exist, torch's OpenMP
stops waiting actively for work (more threads than processors), which makes every short call of
torch, ours and transformers', up to twice as slow in that process. A user would have one or the
other.
"""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


def serve(connection: Connection, start: Callable, arguments: tuple) -> None:
    """The process's work.

    Start, say so, then answer; what goes wrong is sent instead of an answer.
    """
    try:
        answer_to = start(*arguments)
        connection.send(None)
        while True:
            connection.send(answer_to(*connection.recv()))
    except (EOFError, KeyboardInterrupt):
        return
    except Exception as error:  # the benchmark names it
        connection.send(RuntimeError(f"{type(error).__name__}: {error}"))


class Worker:
    """The benchmark's side of it.

    Args:
        start: a module's function, called there with `arguments`; it returns the function that
            answers.
        arguments: of `start`.

    Raises:
        RuntimeError: what went wrong in the other process.
    """

    def __init__(self, start: Callable[..., Callable], *arguments):
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        context.Process(target=serve, args=(other, start, arguments), daemon=True).start()
        other.close()
        self._answer()

    def _answer(self) -> Any:
        answer = self.connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def ask(self, *wish) -> Any:
        """What the function there answers to `wish`, its arguments."""
        self.connection.send(wish)
        return self._answer()
