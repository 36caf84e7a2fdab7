"""What to do when a GPU's memory does not suffice, said in the error."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

ADVICE = (
    "Lower the tokens of a batch (batch size, or length by truncation) and accumulate gradients "
    "instead; lower config.loss_chunk_size where the vocabulary is large; or call "
    "model.gradient_checkpointing_enable()"
)


@contextmanager
def explained_memory() -> Iterator[None]:
    """Let an out-of-memory error say what to lower; once, however deep the blocks are nested.

    It stays torch's own error and begins with torch's own words, by which `accelerate` finds out
    that a smaller batch is to be tried.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        if ADVICE in str(error):
            raise
        raise torch.OutOfMemoryError(f"{error} {ADVICE}") from error
