"""The figures of a snapshot for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from app.http.route import Call, Reply
from app.logs import dropped_lines
from workers.engine.histogram import Percentiles
from workers.monitoring.snapshot import QueueSnapshot, Snapshot, WorkerState

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4
Value = float | int | None
_OUTCOMES = {"hit": "hits", "miss": "misses", "stale": "stale", "error": "errors"}


async def metrics(call: Call) -> Reply:
    """Everything that is known; of what is not known there is no line."""
    try:
        snapshot = await call.context.snapshot()
    except TimeoutError:
        snapshot = None
    return Reply(exposition(snapshot, call.context.version, call.operations.cache.counts))


def exposition(
    snapshot: Snapshot | None, version: str, cache: Mapping[str, int] = MappingProxyType({})
) -> bytes:
    """A snapshot in the text format, None where Redis is silent; and this process' counts of the cache.

    Pure.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(snapshot, version, cache))
    return generate_latest(registry)


class _Figures(Collector):
    def __init__(self, snapshot: Snapshot | None, version: str, cache: Mapping[str, int]) -> None:
        self._snapshot = snapshot
        self._version = version
        self._cache = cache

    def collect(self) -> Iterator[Metric]:
        """Figures that only Redis knows are left out while it is away: old ones would pass for new."""
        snapshot = self._snapshot
        yield _gauge("build_info", "The version that runs.", [((self._version,), 1)], ("version",))
        yield from _cache(self._cache)
        dropped = CounterMetricFamily(
            "couturecast_log_lines_dropped", "Lines of the log that this process dropped: nobody read them."
        )
        dropped.add_metric((), dropped_lines())
        yield dropped
        redis_up = snapshot is not None and snapshot.redis.error is None
        yield _one("redis_up", "Whether Redis answers.", int(redis_up))
        if snapshot is None:
            return
        yield from _servers(snapshot)
        yield from _alerts(snapshot)
        if redis_up:
            living = sum(worker.alive for worker in snapshot.workers)
            yield _one("workers", "Live worker processes of the cluster, neither dead nor blocked.", living)
            states = Counter(worker.state for worker in snapshot.workers)
            values = [((state,), states[state]) for state in get_args(WorkerState)]
            yield _gauge("processes", "Worker processes of the cluster by state.", values, ("state",))
            yield from _queues(snapshot.queues)
            yield from _totals(snapshot.queues)
            yield _repairs(snapshot.queues)


def _cache(counts: Mapping[str, int]) -> Iterator[Metric]:
    """Of this process: the sum over all processes is that of the cluster."""
    reads = CounterMetricFamily(
        "couturecast_cache_reads",
        "Reads of the cache by this process, by how they ended.",
        labels=("outcome",),
    )
    for outcome, name in _OUTCOMES.items():
        reads.add_metric((outcome,), counts.get(name, 0))
    yield reads
    for name, text in (
        ("loads", "Loads of what the cache of this process did not have."),
        ("load_failures", "Loads of this process that failed."),
    ):
        metric = CounterMetricFamily(f"couturecast_cache_{name}", text)
        metric.add_metric((), counts.get(name, 0))
        yield metric


def _servers(snapshot: Snapshot) -> Iterator[Metric]:
    redis = snapshot.redis
    yield _one("database_up", "Whether the database answers.", int(snapshot.database.error is None))
    yield _one("redis_memory_used_bytes", "Memory that Redis uses.", redis.memory_used)
    yield _one("redis_memory_limit_bytes", "Memory that Redis may use.", redis.memory_limit)
    yield _one("dead_letters", "Dead letters, neither replayed nor discarded.", snapshot.dead_letters)
    if redis.error is None:
        yield _one(
            "letters_waiting",
            "Dead letters that wait in Redis for the database.",
            snapshot.letters_waiting,
        )
        oldest = snapshot.letters_oldest_age if snapshot.letters_waiting else 0
        yield _one("letters_oldest_age_seconds", "How long the oldest of these has waited.", oldest)
    yield _one(
        "event_loop_lag_seconds",
        "How late the event loop of this process ran a timer, at worst since the last look.",
        snapshot.loop_lag,
    )
    yield _one(
        "drain_deadline_seconds",
        "Seconds left for the jobs in flight here, while this process drains.",
        snapshot.drain_deadline_in,
    )


def _alerts(snapshot: Snapshot) -> Iterator[Metric]:
    yield _gauge(
        "alert",
        "1 for each threshold that is breached; of the servers without a queue.",
        [((alert.metric, alert.queue or ""), 1) for alert in snapshot.alerts],
        ("metric", "queue"),
    )


def _queues(queues: Sequence[QueueSnapshot]) -> Iterator[Metric]:
    def each(name: str, text: str, values: Sequence[Value]) -> Metric:
        named = [((queue.name,), value) for queue, value in zip(queues, values, strict=True)]
        return _gauge(f"queue_{name}", text, named, ("queue",))

    yield each("depth", "Jobs ready to run.", [queue.depth for queue in queues])
    yield each("scheduled", "Jobs that wait for a time.", [queue.scheduled for queue in queues])
    yield each(
        "oldest_age_seconds",
        "How long the job at the head has been ready.",
        [queue.oldest_age if queue.depth else 0 for queue in queues],
    )
    yield each("in_flight", "Jobs that run.", [queue.in_flight for queue in queues])
    yield each("concurrency", "Jobs that may run.", [queue.concurrency for queue in queues])
    yield each(
        "utilisation_ratio",
        "Share of the concurrency that is used.",
        [queue.in_flight / queue.concurrency for queue in queues],
    )
    limits = [queue.rate_limit for queue in queues]
    yield each(
        "rate_limit_starts",
        "Starts that the rate limit admits in its window.",
        [limit.starts if limit else None for limit in limits],
    )
    yield each(
        "rate_window_seconds",
        "The window of the rate limit.",
        [limit.seconds if limit else None for limit in limits],
    )
    yield each(
        "rate_used_starts",
        "Starts that count against the rate limit now.",
        [queue.rate_used if queue.rate_limit else None for queue in queues],
    )
    yield each(
        "rate_wait_seconds",
        "Seconds until the rate limit admits a start.",
        [(queue.next_start_in or 0) if queue.rate_limit else None for queue in queues],
    )
    yield each("paused", "Whether it is paused.", [int(queue.paused is not None) for queue in queues])
    yield each(
        "held_by_dead", "Jobs in flight whose process is gone.", [queue.held_by_dead for queue in queues]
    )
    yield each(
        "oldest_running_seconds",
        "How long the job that has run for the longest has run.",
        [queue.oldest_running or 0 for queue in queues],
    )
    yield each("workers", "Live processes that serve it.", [queue.workers for queue in queues])
    yield each(
        "failure_ratio",
        "Share of failed attempts among those that ended in the last five minutes.",
        [queue.failure_rate for queue in queues],
    )
    yield _durations("wait", "How long jobs waited, over five minutes.", {q.name: q.wait for q in queues})
    yield _durations("run", "How long attempts ran, over five minutes.", {q.name: q.run for q in queues})


def _totals(queues: Sequence[QueueSnapshot]) -> Iterator[Metric]:
    def each(name: str, text: str, values: Sequence[int]) -> Metric:
        metric = CounterMetricFamily(f"couturecast_{name}", text, labels=("queue",))
        for queue, value in zip(queues, values, strict=True):
            metric.add_metric((queue.name,), value)
        return metric

    yield each("jobs_completed", "Jobs that completed.", [queue.completed for queue in queues])
    yield each("attempts_failed", "Attempts that failed.", [queue.failed for queue in queues])
    yield each("jobs_retried", "Failed attempts that a retry follows.", [queue.retried for queue in queues])
    yield each("jobs_dead_lettered", "Jobs that failed for good.", [queue.dead_lettered for queue in queues])


def _repairs(queues: Sequence[QueueSnapshot]) -> Metric:
    metric = CounterMetricFamily(
        "couturecast_repairs",
        "Repairs of what other programs wrote to the keys of a queue, by kind.",
        labels=("queue", "kind"),
    )
    for queue in queues:
        for kind, count in queue.repairs.items():
            metric.add_metric((queue.name, kind), count)
    return metric


def _durations(name: str, text: str, found: dict[str, Percentiles]) -> Metric:
    values = [
        ((queue, quantile), value)
        for queue, each in found.items()
        for quantile, value in (("0.5", each.p50), ("0.95", each.p95), ("0.99", each.p99))
    ]
    return _gauge(f"queue_{name}_seconds", text, values, ("queue", "quantile"))


def _one(name: str, text: str, value: Value) -> Metric:
    return _gauge(name, text, [((), value)], ())


def _gauge(
    name: str, text: str, values: Iterable[tuple[Sequence[str], Value]], labels: Sequence[str]
) -> Metric:
    metric = GaugeMetricFamily(f"couturecast_{name}", text, labels=labels)
    for names, value in values:
        if value is not None:
            metric.add_metric(names, value)
    return metric
