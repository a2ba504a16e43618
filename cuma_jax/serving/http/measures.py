"""What the server counts, for Prometheus. No label holds what a client sent."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_METHODS = ("GET", "POST", "HEAD", "OPTIONS")


class Measures:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        labels = ("route", "method", "status")
        self._requests = Counter("cuma_requests", "Requests that ended.", labels, registry=registry)
        self._seconds = Histogram(
            "cuma_request_seconds", "Seconds to the end of an answer.", ("route",), buckets=_SECONDS, registry=registry
        )
        self.waiting = Gauge("cuma_waiting", "Requests that wait for the model.", registry=registry)
        self.streams = Gauge("cuma_chats", "Replies that are being written.", registry=registry)
        self.refused = Counter("cuma_refused", "Requests refused because the queue was full.", registry=registry)
        self.given_up = Counter(
            "cuma_given_up", "Requests past their deadline, or whose client was gone.", registry=registry
        )
        self.joined = Histogram(
            "cuma_joined", "Requests answered by one call of the model.", buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            registry=registry,
        )  # fmt: skip
        self.busy_s = Counter("cuma_model_seconds", "Seconds that the model worked.", registry=registry)
        self.tokens = Counter("cuma_tokens", "Tokens read and written by chats.", ("kind",), registry=registry)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """One request came to its end."""
        self._requests.labels(route, method if method in _METHODS else "other", str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)
