"""What `bertlite prune` is told, beside the options of data and of texts."""

from dataclasses import dataclass

from ..inference.loading import check_counts, check_number
from ..training.options import described


@dataclass
class PruneOptions:
    """How much is cut, and how the rest recovers.

    Raises:
        ValueError: a number out of its range.
    """

    speed: float = described("how many times as fast the model shall be", 2.0)
    epochs: float = described("of the recovery, over the training rows; 0: none", 3.0)
    learning_rate: float = described("of the recovery, at its peak", 2e-4)
    batch_size: int = described("rows of a step", 32)
    seed: int = described("of the recovery, and of the rows that importance is measured on", 42)
    importance_examples: int = described("training rows that importance is measured on", 512)
    distill: bool = described("learn from the unpruned model, too, while recovering", True)
    curve: bool = described(
        "also measure smaller and larger cuts, and fewer layers, for the curve; none is trained",
        True,
    )
    baseline: bool = described(
        "also drop whole layers for the same speed, and recover that model as well, to compare",
        False,
    )

    def __post_init__(self):
        check_number("speed", self.speed, 1)
        check_number("epochs", self.epochs, 0)
        check_number("learning_rate", self.learning_rate, 0)
        check_counts(1, batch_size=self.batch_size, importance_examples=self.importance_examples)
