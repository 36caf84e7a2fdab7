"""The training examples that a text looks like to a model: the nearest by `encode`.

A wrong answer often has neighbours with wrong labels, or none that are near: what the model has
seen says more about a prediction than any of its weights. Near in the model's space is what the
model takes for alike; a reader may disagree.

Shapes: `N` examples, `E` hidden size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..inference.encode import encode
from ..inference.loading import check_counts


@dataclass(frozen=True)
class Neighbour:
    """A training example near a text.

    Attributes:
        place: among the examples.
        text: its own.
        label: as it was given; None without labels.
        similarity: cosine of the two vectors, 1 for the same direction.
    """

    place: int
    text: str
    label: Any
    similarity: float


class Neighbourhood:
    """Examples as vectors, to be asked for the nearest of any text.

    Args:
        model: as `bertlite.encode` takes it: a folder, a hub name or a loaded model.
        texts: the examples.
        labels: one a text, to be told with the neighbours; or None.
        tokenizer: a tokenizer or its folder; None: the model's.
        options: for `bertlite.encode`, such as `pooling` or `max_length`.

    Raises:
        ValueError: no examples, or labels that are not as many.

    >>> import bertlite
    >>> from bertlite.inspection import Neighbourhood
    >>> seen = Neighbourhood("FOLDER", ["A joy.", "Dull."], ["good", "bad"])  # doctest: +SKIP
    >>> seen.nearest("Delightful.", 1)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Any,
        texts: Sequence[str],
        labels: Sequence[Any] | None = None,
        *,
        tokenizer: Any = None,
        **options: Any,
    ):
        self.texts = list(texts)
        if not self.texts:
            raise ValueError("texts must hold at least one example, got none")
        if labels is not None and len(labels) != len(self.texts):
            raise ValueError(
                f"labels must be as many as texts, {len(self.texts)}, got {len(labels)}"
            )
        self.labels = [None] * len(self.texts) if labels is None else list(labels)
        self.model, self.tokenizer = model, tokenizer
        self.options = {**options, "normalize": True, "output": "numpy"}
        self.vectors = self.encoded(self.texts)  # (N, E)

    def encoded(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of length 1, `(len(texts), E)`."""
        return np.asarray(encode(list(texts), self.model, self.tokenizer, **self.options))

    def nearest(self, text: str, count: int = 5) -> list[Neighbour]:
        """The nearest examples, nearest first; of equal ones the earlier.

        Args:
            text: any text.
            count: how many, at most as many as there are examples.

        Raises:
            ValueError: `text` is none, or `count` below 1.
        """
        if not isinstance(text, str):
            raise ValueError(f"text must be a string, got {type(text).__name__}")
        check_counts(1, count=count)
        similarities = self.vectors @ self.encoded([text])[0]  # (N,)
        order = np.argsort(-similarities, kind="stable")[:count]
        return [
            Neighbour(int(place), self.texts[place], self.labels[place], float(similarities[place]))
            for place in order
        ]
