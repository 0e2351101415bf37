"""Figures of a running server for Prometheus, in a registry of its own."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .batching import Batcher
from .cache import AnswerCache

ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """What a server counts.

    Attributes:
        requests: finished ones by route and status.
        seconds: how long they took, by route.
        batch_rows: rows in each model call.
        batch_seconds: how long each took.
        cancelled: requests whose client went before the answer.
        rejected: requests that found no place in the queue.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter("xrec_requests", "Finished requests.", ["route", "status"], registry=registry)
        self.seconds = Histogram("xrec_request_seconds", "Seconds a request.", ["route"], buckets=SECONDS, registry=registry)
        self.batch_rows = Histogram("xrec_batch_rows", "Rows a model call.", buckets=ROWS, registry=registry)
        self.batch_seconds = Histogram("xrec_batch_seconds", "Seconds a model call.", buckets=SECONDS, registry=registry)
        self.cancelled = Counter("xrec_cancelled", "Requests whose client went before the answer.", registry=registry)
        self.rejected = Counter("xrec_rejected", "Requests that found no place in the queue.", registry=registry)

    def watch(self, batcher: Batcher, cache: AnswerCache) -> None:
        """Shows the state of a queue and a cache too."""
        self.registry.register(_State(batcher, cache))

    def on_batch(self, rows: int, seconds: float) -> None:
        """Counts a model call."""
        self.batch_rows.observe(rows)
        self.batch_seconds.observe(seconds)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)


class _State(Collector):
    """Reads the queue and the cache when asked."""

    def __init__(self, batcher: Batcher, cache: AnswerCache) -> None:
        self._batcher, self._cache = batcher, cache

    def collect(self) -> Iterable[Metric]:
        """The figures of now."""
        yield GaugeMetricFamily("xrec_queue_rows", "Rows that wait or are in work.", self._batcher.taken)
        yield GaugeMetricFamily("xrec_queue_bound", "Rows that may wait or be in work.", self._batcher.bound)
        yield GaugeMetricFamily("xrec_cache_entries", "Explanations kept.", len(self._cache))
        yield CounterMetricFamily("xrec_cache_hits", "Explanations found in the cache.", self._cache.hits)
        yield CounterMetricFamily("xrec_cache_misses", "Explanations not found in the cache.", self._cache.misses)
