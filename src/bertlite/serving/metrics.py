"""What Prometheus reads."""

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
COUNTS = tuple(2**power for power in range(0, 15, 2))


class Metrics:
    """The figures of one server.

    Args:
        waiting: how many requests are under way.
    """

    def __init__(self, waiting: Callable[[], float]):
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "bertlite_requests",
            "Requests answered or refused",
            ["endpoint", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "bertlite_request_seconds",
            "From a request's first byte to its reply",
            ["endpoint"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.rows = Histogram(
            "bertlite_pass_rows",
            "Rows of a pass through a model",
            buckets=COUNTS,
            registry=self.registry,
        )
        self.tokens = Histogram(
            "bertlite_pass_tokens",
            "Tokens of a pass through a model",
            buckets=COUNTS,
            registry=self.registry,
        )
        self.passes = Histogram(
            "bertlite_pass_seconds",
            "Time of a pass through a model",
            buckets=SECONDS,
            registry=self.registry,
        )
        waits = Gauge(
            "bertlite_requests_under_way", "Requests that have no reply yet", registry=self.registry
        )
        waits.set_function(waiting)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def seen_pass(self, rows: int, tokens: int, seconds: float) -> None:
        """Count a pass through a model."""
        self.rows.observe(rows)
        self.tokens.observe(tokens)
        self.passes.observe(seconds)

    def seen_request(self, endpoint: str, status: int, seconds: float) -> None:
        """Count a request."""
        self.requests.labels(endpoint, str(status)).inc()
        self.seconds.labels(endpoint).observe(seconds)

    def page(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)
