"""What a server allows, and what it does to its models."""

from dataclasses import dataclass

from ..inference.loading import check_counts, check_number

DTYPES = ("fp32", "bf16", "int8", "none")
QUEUES_OF_BYTES = 16  # bodies of the largest size that may wait together


@dataclass(frozen=True)
class ServingOptions:
    """Limits of a server.

    Attributes:
        batch_tokens: tokens of a pass through a model.
        queue: requests that may be under way; more are refused with 429.
        timeout: seconds that a request may take, its body included.
        max_bytes: of a request's body.
        max_texts: in a request.
        max_tokens: of a request, all windows of its texts together.
        dtype: of the packed weights of our encoders, as `bertlite.optimize` takes it; "none" packs
            nothing.
    """

    batch_tokens: int = 2048
    queue: int = 512
    timeout: float = 30.0
    max_bytes: int = 1_000_000
    max_texts: int = 1000
    max_tokens: int = 100_000
    dtype: str = "fp32"

    def __post_init__(self):
        names = ("batch_tokens", "queue", "max_bytes", "max_texts", "max_tokens")
        check_counts(1, **{name: getattr(self, name) for name in names})
        check_number("timeout", self.timeout, 0.001, 86_400)
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")

    @property
    def queue_bytes(self) -> int:
        """Of all the bodies under way together."""
        return QUEUES_OF_BYTES * self.max_bytes
