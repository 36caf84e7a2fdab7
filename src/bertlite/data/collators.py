"""What a batch knows of itself before it goes to a GPU.

On the host, lengths and ids cost nothing to look at. Once a batch is on a GPU, each look means to
wait until the GPU has done all work before it. `WithLengths` looks while the batch is made.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..backends.lengths import lengths_of

__all__ = ["WithLengths", "lengths_of"]


@dataclass
class WithLengths:
    """A collator that adds `lengths` to the batches of another, for bertlite's models.

    A batch whose rows are not filled from the left gets none, and works as before.

    Args:
        collator: makes tensors of a list of rows, such as `DataCollatorWithPadding`.

    >>> from transformers import default_data_collator
    >>> rows = [{"input_ids": [7, 8], "attention_mask": [1, 0]}]
    >>> WithLengths(default_data_collator)(rows)["lengths"].sequences
    (1,)
    """

    collator: Callable[[list], Any]

    def __call__(self, features: list) -> Any:
        """The other's batch, with `lengths` where they are known."""
        batch = self.collator(features)
        lengths = lengths_of(batch)
        if lengths is not None:
            batch["lengths"] = lengths
        return batch
