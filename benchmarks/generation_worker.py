"""CTranslate2's translator in a process of its own; worker.py says why."""

from collections.abc import Callable


def start(
    folder: str, compute_type: str, threads: int
) -> Callable[[list[list[int]], dict], list[list[int]]]:
    """Load it.

    The function writes ids for rows of ids, of which the vocabulary's words are `w` and the id.
    """
    import ctranslate2

    translator = ctranslate2.Translator(
        folder, compute_type=compute_type, intra_threads=threads, inter_threads=1
    )

    def translate(rows: list[list[int]], options: dict) -> list[list[int]]:
        found = translator.translate_batch(
            [[f"w{number}" for number in row] for row in rows], **options
        )
        return [[int(word[1:]) for word in each.hypotheses[0]] for each in found]

    return translate
