"""The figures of a snapshot for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import get_args

from fastapi import Request, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder
from prometheus_client.registry import Collector

from app.http.dependencies import State
from app.http.routing import open_router
from app.logs import dropped_lines
from workers.engine.histogram import BOUNDS_SECONDS
from workers.monitoring.snapshot import Alert, Durations, QueueSnapshot, Snapshot, WorkerState

router = open_router("metrics")

Encoder = Callable[[CollectorRegistry], bytes]
Value = float | int | None
"""None: unknown, and left out."""

_CACHE_OUTCOMES = {"hit": "hits", "miss": "misses", "stale": "stale", "error": "errors"}
_CACHE_COUNTERS = {
    "loads": "Loads of what the cache of this process did not have.",
    "load_failures": "Loads of this process that failed.",
}

_SERVER_GAUGES: tuple[tuple[str, str, Callable[[Snapshot], Value]], ...] = (
    ("database_up", "Whether the database answers.", lambda seen: int(seen.database.error is None)),
    ("redis_memory_used_bytes", "Memory that Redis uses.", lambda seen: seen.redis.memory_used),
    ("redis_memory_limit_bytes", "Memory that Redis may use.", lambda seen: seen.redis.memory_limit),
    ("dead_letters", "Dead letters, neither replayed nor discarded.", lambda seen: seen.dead_letters),
    (
        "letters_waiting",
        "Dead letters that wait in Redis for the database.",
        lambda seen: seen.letters_waiting if seen.redis.error is None else None,
    ),
    (
        "letters_oldest_age_seconds",
        "How long the oldest of these has waited.",
        lambda seen: _oldest_letter_age(seen) if seen.redis.error is None else None,
    ),
    (
        "event_loop_lag_seconds",
        "How late the event loop of this process ran a timer, at worst since the last snapshot.",
        lambda seen: seen.loop_lag,
    ),
    (
        "drain_deadline_seconds",
        "Seconds left for the jobs in flight here, while this process drains.",
        lambda seen: seen.drain_deadline_in,
    ),
)

_QUEUE_GAUGES: tuple[tuple[str, str, Callable[[QueueSnapshot], Value]], ...] = (
    ("depth", "Jobs ready to run.", lambda queue: queue.depth),
    ("scheduled", "Jobs that wait for a time.", lambda queue: queue.scheduled),
    (
        "oldest_age_seconds",
        "How long the job at the head has been ready.",
        lambda queue: queue.oldest_age if queue.depth else 0,
    ),
    ("in_flight", "Jobs that run.", lambda queue: queue.in_flight),
    ("concurrency", "Jobs that may run.", lambda queue: queue.concurrency),
    (
        "utilisation_ratio",
        "Share of the concurrency that is used.",
        lambda queue: queue.in_flight / queue.concurrency,
    ),
    (
        "rate_limit_starts",
        "Starts that the rate limit admits in its window.",
        lambda queue: queue.rate_limit.starts if queue.rate_limit else None,
    ),
    (
        "rate_window_seconds",
        "The window of the rate limit.",
        lambda queue: queue.rate_limit.seconds if queue.rate_limit else None,
    ),
    (
        "rate_used_starts",
        "Starts that count against the rate limit now.",
        lambda queue: queue.rate_used if queue.rate_limit else None,
    ),
    (
        "rate_wait_seconds",
        "Seconds until the rate limit admits a start.",
        lambda queue: (queue.next_start_in or 0) if queue.rate_limit else None,
    ),
    ("paused", "Whether it is paused.", lambda queue: int(queue.paused is not None)),
    ("held_by_dead", "Jobs in flight whose process is gone.", lambda queue: queue.held_by_dead),
    (
        "oldest_running_seconds",
        "How long the job that has run for the longest has run.",
        lambda queue: queue.oldest_running or 0,
    ),
    ("workers", "Live processes that serve it.", lambda queue: queue.workers),
    (
        "seconds_since_ended",
        "Seconds since a job last ended or an attempt last failed; no line before the first.",
        lambda queue: queue.ended_age,
    ),
    (
        "seconds_since_completed",
        "Seconds since a job last completed; no line before the first.",
        lambda queue: queue.succeeded_age,
    ),
    (
        "failure_ratio",
        "Share of failed attempts among those that ended in the last five minutes.",
        lambda queue: queue.failure_rate,
    ),
)

_QUEUE_HISTOGRAMS: tuple[tuple[str, str, Callable[[QueueSnapshot], Durations]], ...] = (
    ("wait_seconds", "How long jobs waited for their first attempt.", lambda queue: queue.waits),
    ("run_seconds", "How long attempts ran, however they ended.", lambda queue: queue.runs),
)
_LAST_EXPOSED_BOUND = 1000.0
"""Seconds; what is longer is only in ``+Inf``."""
_EXPOSED = tuple(
    number
    for number, bound in enumerate(BOUNDS_SECONDS)
    if f"{bound:e}"[:3] in ("1.0", "2.0", "5.0") and bound <= _LAST_EXPOSED_BOUND
)
"""Numbers of the buckets whose upper bound is a bucket of Prometheus: 1, 2 and 5 ms, 10 ms, … 1,000 s."""

_QUEUE_COUNTERS: tuple[tuple[str, str, Callable[[QueueSnapshot], int]], ...] = (
    ("jobs_completed", "Jobs that completed.", lambda queue: queue.completed),
    ("attempts_failed", "Attempts that failed.", lambda queue: queue.failed),
    ("jobs_retried", "Failed attempts that a retry follows.", lambda queue: queue.retried),
    ("jobs_dead_lettered", "Jobs that failed for good.", lambda queue: queue.dead_lettered),
    ("attempts_started", "Attempts that started, retries included.", lambda queue: queue.started),
    ("jobs_aborted", "Jobs that a producer or an operator aborted.", lambda queue: queue.aborted),
    (
        "jobs_returned",
        "Jobs that went back to their queue without being charged an attempt, for instance by a drain.",
        lambda queue: queue.returned,
    ),
    ("attempts_lost", "Attempts whose process died; they count as failed, too.", lambda queue: queue.lost),
)


class TextFormat(Response):
    """An answer in Prometheus' text format."""

    media_type = CONTENT_TYPE_PLAIN_0_0_4


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_description="All that is known: an unknown figure has no line.",
    response_class=TextFormat,
)
async def metrics(state: State, request: Request) -> Response:
    """All names begin with `couturecast_`; each has its meaning in its HELP line.

    In OpenMetrics if the `Accept` header asks for it, else in Prometheus' text format.
    """
    try:
        snapshot = await state.snapshot()
    except TimeoutError:
        snapshot = None
    encode, content_type = _encoder(request.headers.get("accept", ""))
    text = exposition(
        snapshot,
        state.version,
        state.operations.cache.counts,
        state.release,
        notification_counts=state.operations.notification_counts,
        encode=encode,
    )
    return TextFormat(text, media_type=content_type)


def exposition(
    snapshot: Snapshot | None,
    version: str,
    cache_counts: Mapping[str, int] = MappingProxyType({}),
    release: str = "",
    *,
    notification_counts: Mapping[str, int] = MappingProxyType({}),
    encode: Encoder = generate_latest,
) -> bytes:
    """Write a snapshot (None: Redis does not answer) and the counts of this process.  Pure."""
    registry = CollectorRegistry(auto_describe=False)
    build = {"version": version, "release": release}
    registry.register(_Figures(snapshot, build, cache_counts, notification_counts))
    return encode(registry)


def _encoder(accept: str) -> tuple[Encoder, str]:
    try:
        return choose_encoder(accept)
    except ValueError:  # a version that is not one
        return generate_latest, CONTENT_TYPE_PLAIN_0_0_4


class _Figures(Collector):
    def __init__(
        self,
        snapshot: Snapshot | None,
        build: Mapping[str, str],
        cache_counts: Mapping[str, int],
        notification_counts: Mapping[str, int],
    ) -> None:
        self._snapshot = snapshot
        self._build = build
        self._cache_counts = cache_counts
        self._notification_counts = notification_counts

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics, without the figures of Redis while it is down: old ones would pass for new."""
        snapshot = self._snapshot
        redis_up = snapshot is not None and snapshot.redis.error is None
        build = self._build
        yield _gauge("build_info", "What runs here.", [(tuple(build.values()), 1)], tuple(build))
        yield from _process_counters(self._cache_counts)
        yield _counter(
            "notifications",
            "Messages about alerts of this process, one for each service, by how they ended.",
            [((outcome,), count) for outcome, count in self._notification_counts.items()],
            ("outcome",),
        )
        yield _gauge("redis_up", "Whether Redis answers.", [((), int(redis_up))])
        if snapshot is None:
            return
        for name, text, read in _SERVER_GAUGES:
            yield _gauge(name, text, [((), read(snapshot))])
        yield _gauge(
            "alert",
            "1 for each alert that fires; of the servers without a queue.",
            [(labels, 1) for labels in {_alert_labels(alert): 1 for alert in snapshot.alerts if alert.fires}],
            ("alert", "queue", "severity"),
        )
        if redis_up:
            yield from _processes(snapshot)
            yield from _queues(snapshot.queues)


def _alert_labels(alert: Alert) -> tuple[str, str, str]:
    return alert.name, alert.queue or "", alert.severity


def _oldest_letter_age(snapshot: Snapshot) -> Value:
    return snapshot.letters_oldest_age if snapshot.letters_waiting else 0


def _process_counters(cache_counts: Mapping[str, int]) -> Iterator[Metric]:
    """Yield the counters of this process: summed over all processes they are those of the cluster."""
    yield _counter(
        "cache_reads",
        "Reads of the cache by this process, by how they ended.",
        [((outcome,), cache_counts.get(name, 0)) for outcome, name in _CACHE_OUTCOMES.items()],
        ("outcome",),
    )
    for name, text in _CACHE_COUNTERS.items():
        yield _counter(f"cache_{name}", text, [((), cache_counts.get(name, 0))])
    yield _counter(
        "log_lines_dropped",
        "Lines of the log that this process dropped, since no reader took them.",
        [((), dropped_lines())],
    )


def _processes(snapshot: Snapshot) -> Iterator[Metric]:
    alive = sum(worker.alive for worker in snapshot.workers)
    yield _gauge("workers", "Live worker processes of the cluster, neither dead nor blocked.", [((), alive)])
    states = Counter(worker.state for worker in snapshot.workers)
    values = [((state,), states[state]) for state in get_args(WorkerState)]
    yield _gauge("processes", "Worker processes of the cluster by state.", values, ("state",))


def _queues(queues: Sequence[QueueSnapshot]) -> Iterator[Metric]:
    for name, text, read in _QUEUE_GAUGES:
        yield _gauge(f"queue_{name}", text, [((queue.name,), read(queue)) for queue in queues], ("queue",))
    for name, text, durations in _QUEUE_HISTOGRAMS:
        yield _histogram(name, text, [(queue.name, durations(queue)) for queue in queues])
    for name, text, count in _QUEUE_COUNTERS:
        yield _counter(name, text, [((queue.name,), count(queue)) for queue in queues], ("queue",))
    yield _counter(
        "repairs",
        "Repairs of what other programs wrote to the keys of a queue, by kind.",
        [((queue.name, kind), count) for queue in queues for kind, count in queue.repairs.items()],
        ("queue", "kind"),
    )


def _histogram(name: str, text: str, values: Iterable[tuple[str, Durations]]) -> Metric:
    """Write cumulative counts of all durations since the first job, so that any window can be aggregated."""
    metric = HistogramMetricFamily(f"couturecast_queue_{name}", text, labels=("queue",))
    for queue, durations in values:
        buckets = [(repr(BOUNDS_SECONDS[number]), _count_up_to(durations, number)) for number in _EXPOSED]
        buckets.append(("+Inf", sum(durations.counts.values())))
        metric.add_metric((queue,), buckets, durations.total_seconds)
    return metric


def _count_up_to(durations: Durations, last: int) -> int:
    return sum(count for number, count in durations.counts.items() if number <= last)


def _gauge(
    name: str, text: str, values: Iterable[tuple[Sequence[str], Value]], labels: Sequence[str] = ()
) -> Metric:
    metric = GaugeMetricFamily(f"couturecast_{name}", text, labels=labels)
    for label_values, value in values:
        if value is not None:
            metric.add_metric(label_values, value)
    return metric


def _counter(
    name: str, text: str, values: Iterable[tuple[Sequence[str], int]], labels: Sequence[str] = ()
) -> Metric:
    metric = CounterMetricFamily(f"couturecast_{name}", text, labels=labels)
    for label_values, value in values:
        metric.add_metric(label_values, value)
    return metric
