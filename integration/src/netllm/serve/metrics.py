"""What a server counts, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Counters of one server, in a registry of their own.

    Args:
        sessions: gives the open sessions by task.
        waiting: gives the decisions that wait.
        evicted: gives how many sessions were closed for idling.
    """

    def __init__(
        self,
        *,
        sessions: Callable[[], Mapping[str, int]],
        waiting: Callable[[], int],
        evicted: Callable[[], int],
    ) -> None:
        self._registry = CollectorRegistry()
        self._sessions, self._waiting, self._evicted = sessions, waiting, evicted
        self._seconds = Histogram(
            "netllm_decision_seconds",
            "Time from a request's arrival to its answer.",
            ["task", "by"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._size = Histogram(
            "netllm_batch_sessions",
            "Sessions answered in one pass.",
            ["task"],
            buckets=_SIZES,
            registry=self._registry,
        )
        self._fallbacks = Counter(
            "netllm_fallback_decisions",
            "Decisions of a fallback, by why the model did not make them.",
            ["task", "reason"],
            registry=self._registry,
        )
        self._refused = Counter(
            "netllm_refused_requests",
            "Requests that were refused, by status.",
            ["status"],
            registry=self._registry,
        )
        self._registry.register(self)

    def decided(self, task: str, by: str, seconds: float) -> None:
        """A request was answered."""
        self._seconds.labels(task, by).observe(seconds)

    def passed(self, task: str, size: int) -> None:
        """So many sessions were answered in one pass."""
        self._size.labels(task).observe(size)

    def fell_back(self, task: str, reason: str, count: int) -> None:
        """The fallback answered so many decisions."""
        self._fallbacks.labels(task, reason).inc(count)

    def refused(self, status: int) -> None:
        """A request was refused."""
        self._refused.labels(str(status)).inc()

    def collect(self) -> list[Metric]:
        """What is true now; the registry asks for it."""
        sessions = GaugeMetricFamily("netllm_sessions", "Open sessions.", labels=["task"])
        for task, count in self._sessions().items():
            sessions.add_metric([task], count)
        waiting = GaugeMetricFamily("netllm_queue_decisions", "Decisions that wait.")
        waiting.add_metric([], self._waiting())
        evicted = CounterMetricFamily("netllm_evicted_sessions", "Sessions closed for idling.")
        evicted.add_metric([], self._evicted())
        return [sessions, waiting, evicted]

    def text(self) -> bytes:
        """All of them."""
        found: bytes = generate_latest(self._registry)
        return found
