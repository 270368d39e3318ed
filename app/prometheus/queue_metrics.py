"""The metrics of the queues.  Each has the label ``queue``."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from app.prometheus.definitions import Facts, MetricDefinition, Sample, Value, read_queues
from workers.monitoring.snapshot import Durations, QueueSnapshot


def _gauge(name: str, text: str, read: Callable[[QueueSnapshot], Value]) -> MetricDefinition:
    return MetricDefinition(f"queue_{name}", "gauge", "queue", text, ("queue",), read_queues(read))


def _counter(name: str, text: str, read: Callable[[QueueSnapshot], int]) -> MetricDefinition:
    return MetricDefinition(name, "counter", "queue", text, ("queue",), read_queues(read))


def _histogram(name: str, text: str, read: Callable[[QueueSnapshot], Durations]) -> MetricDefinition:
    return MetricDefinition(f"queue_{name}", "histogram", "queue", text, ("queue",), read_queues(read))


def _repairs(facts: Facts) -> Iterator[Sample]:
    for queue in facts.queues:
        for kind, count in queue.repairs.items():
            yield (queue.name, kind), count


QUEUE_METRICS: tuple[MetricDefinition, ...] = (
    _gauge("depth", "Jobs that are ready to run.", lambda queue: queue.depth),
    _gauge(
        "scheduled", "Jobs that wait for a time: retries and delayed jobs.", lambda queue: queue.scheduled
    ),
    _gauge(
        "oldest_age_seconds",
        "How long the job at the head has been ready; 0 if none is.",
        lambda queue: queue.oldest_age if queue.depth else 0,
    ),
    _gauge("in_flight", "Jobs that run.", lambda queue: queue.in_flight),
    _gauge(
        "concurrency",
        "Jobs that may run at once, in all processes together.",
        lambda queue: queue.concurrency,
    ),
    _gauge(
        "utilisation_ratio",
        "Share of the concurrency that is in use, 0 to 1.",
        lambda queue: queue.in_flight / queue.concurrency,
    ),
    _gauge(
        "workers",
        "Living processes that serve the queue, neither dead nor blocked.",
        lambda queue: queue.workers,
    ),
    _gauge(
        "paused",
        "1 if the queue is paused, so that no job starts.",
        lambda queue: int(queue.paused is not None),
    ),
    _gauge(
        "rate_limit_starts",
        "Starts that the rate limit admits in its window; no line without a rate limit.",
        lambda queue: queue.rate_limit.starts if queue.rate_limit else None,
    ),
    _gauge(
        "rate_window_seconds",
        "The window of the rate limit.",
        lambda queue: queue.rate_limit.seconds if queue.rate_limit else None,
    ),
    _gauge(
        "rate_used_starts",
        "Starts that count against the rate limit now.",
        lambda queue: queue.rate_used if queue.rate_limit else None,
    ),
    _gauge(
        "rate_wait_seconds",
        "Time until the rate limit admits a start; 0 if it admits one now.",
        lambda queue: (queue.next_start_in or 0) if queue.rate_limit else None,
    ),
    _gauge(
        "failure_ratio",
        "Share of failed attempts among those that ended in the last five minutes, 0 to 1.",
        lambda queue: queue.failure_rate,
    ),
    _gauge(
        "wait_baseline_seconds",
        "The usual 95th percentile of the waits; no line before it is known.",
        lambda queue: queue.wait_baseline,
    ),
    _gauge(
        "run_baseline_seconds",
        "The usual 95th percentile of the run times; no line before it is known.",
        lambda queue: queue.run_baseline,
    ),
    _gauge(
        "usual_run_seconds",
        "The median run time of the last hour.",
        lambda queue: queue.usual_run,
    ),
    _gauge(
        "oldest_running_seconds",
        "How long the job that has run for the longest has run; 0 if none runs.",
        lambda queue: queue.oldest_running or 0,
    ),
    _gauge(
        "full_seconds",
        "How long all slots have been taken while nothing ended; 0 while a slot is free.",
        lambda queue: queue.full_for or 0,
    ),
    _gauge("held_by_dead", "Jobs in flight whose process is gone.", lambda queue: queue.held_by_dead),
    _gauge(
        "held_by_blocked",
        "Jobs in flight whose process has a blocked event loop.",
        lambda queue: queue.held_by_blocked,
    ),
    _gauge(
        "broken_keys",
        "Keys of the queue to which another program gave another type.",
        lambda queue: len(queue.broken_keys),
    ),
    _gauge(
        "seconds_since_ended",
        "Time since a job last ended or an attempt last failed; no line before the first.",
        lambda queue: queue.ended_age,
    ),
    _gauge(
        "seconds_since_completed",
        "Time since a job last completed; no line before the first.",
        lambda queue: queue.succeeded_age,
    ),
    _histogram("wait_seconds", "How long jobs waited for their first attempt.", lambda queue: queue.waits),
    _histogram("run_seconds", "How long attempts ran, however they ended.", lambda queue: queue.runs),
    _counter("attempts_started", "Attempts that started, retries included.", lambda queue: queue.started),
    _counter("jobs_completed", "Jobs that completed.", lambda queue: queue.completed),
    _counter("attempts_failed", "Attempts that failed.", lambda queue: queue.failed),
    _counter("jobs_retried", "Failed attempts that a retry follows.", lambda queue: queue.retried),
    _counter("jobs_dead_lettered", "Jobs that failed for good.", lambda queue: queue.dead_lettered),
    _counter("jobs_aborted", "Jobs that a producer or an operator aborted.", lambda queue: queue.aborted),
    _counter(
        "jobs_returned",
        "Jobs that were requeued without being charged an attempt, for instance by a drain.",
        lambda queue: queue.returned,
    ),
    _counter(
        "attempts_lost",
        "Attempts whose process died; they count as failed, too.",
        lambda queue: queue.lost,
    ),
    MetricDefinition(
        "repairs",
        "counter",
        "queue",
        "Repairs of what other programs wrote to the keys of the queue.",
        ("queue", "kind"),
        _repairs,
    ),
)
