"""CTranslate2's translator in a process of its own: see encoder_worker.py for why."""

import multiprocessing
from multiprocessing.connection import Connection
from typing import Any


def serve(connection: Connection, folder: str, compute_type: str, threads: int) -> None:
    """Translate what comes: rows of ids, of which the vocabulary's words are `w` and the id."""
    import ctranslate2

    try:
        translator = ctranslate2.Translator(folder, compute_type=compute_type, intra_threads=threads, inter_threads=1)
        connection.send(None)
        while True:
            rows, options = connection.recv()
            found = translator.translate_batch([[f"w{number}" for number in row] for row in rows], **options)
            connection.send([[int(word[1:]) for word in each.hypotheses[0]] for each in found])
    except (EOFError, KeyboardInterrupt):
        return
    except Exception as error:  # the benchmark shows it
        connection.send(RuntimeError(f"{type(error).__name__}: {error}"))


class Translator:
    """The benchmark's side of it.

    Args:
        folder: of the converted model.
        compute_type: CTranslate2's name of the precision.
        threads: that multiply.

    Raises:
        RuntimeError: what went wrong in the other process.
    """

    def __init__(self, folder: str, compute_type: str, threads: int):
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        context.Process(target=serve, args=(other, folder, compute_type, threads), daemon=True).start()
        other.close()
        self._answer()

    def _answer(self) -> Any:
        answer = self.connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def translate(self, rows: list[list[int]], **options) -> list[list[int]]:
        """What CTranslate2 writes for each row, as ids."""
        self.connection.send((rows, options))
        return self._answer()
