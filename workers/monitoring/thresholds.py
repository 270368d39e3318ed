"""The thresholds, once, for all screens, commands and alerts.  Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

from workers.monitoring.snapshot import Alert, DatabaseSnapshot, QueueSnapshot, RedisSnapshot, WorkerSnapshot

DEPTH = 100
"""Ready jobs above which a queue is too deep."""
FAILURE_RATE = 0.05
"""Share of failed attempts above which a queue is failing."""
REDIS_MEMORY = 0.8
"""Share of its memory limit above which Redis is nearly full."""
LETTERS_WAITING = 60.0
"""Seconds that a dead letter may wait for the database."""
STALLED_SECONDS = 10.0
STALLED_TIMES = 10.0
"""A queue is stalled if all slots are taken and nothing has ended for longer than both of these: seconds,
and times the usual run time."""
HELD_BY_DEAD_SECONDS = 20.0
"""Jobs of a dead worker usually run again before this; only then it is an alert."""

_ORDER = (
    "redis",
    "database",
    "redis_eviction",
    "blocked",
    "broken_keys",
    "workers",
    "held_by_dead",
    "stalled",
    "letters_waiting",
    "redis_memory",
    "failure_rate",
    "depth",
)
"""The worst first."""


def alerts(
    queues: Iterable[QueueSnapshot],
    redis: RedisSnapshot,
    database: DatabaseSnapshot,
    letters_oldest_age: float | None,
    workers: Iterable[WorkerSnapshot] = (),
) -> tuple[Alert, ...]:
    """The thresholds that are breached, the worst first."""
    breached = [*_servers(redis, database, letters_oldest_age), *_blocked(workers)]
    for queue in queues:
        breached += _queue(queue)
    return tuple(sorted(breached, key=lambda alert: _ORDER.index(alert.metric)))


def conditions(queue: QueueSnapshot) -> tuple[str, ...]:
    """Why the queue's jobs in flight make no progress, in words, the worst first; empty while they do."""
    reasons = (_broken(queue), _held_by_dead(queue), _held_by_blocked(queue), _stalled(queue))
    return tuple(reason for reason in reasons if reason)


def _broken(queue: QueueSnapshot) -> str:
    if not queue.broken_keys:
        return ""
    return f"{', '.join(queue.broken_keys)} of another type: kept aside and repaired within a minute"


def _held_by_dead(queue: QueueSnapshot) -> str:
    if not queue.held_by_dead:
        return ""
    again = "when a worker starts"
    if queue.recover_in is not None:
        again = f"in {math.ceil(queue.recover_in)} s" if queue.recover_in > 0 else "at any moment"
    return f"{queue.held_by_dead} held by a dead worker, run again {again}"


def _held_by_blocked(queue: QueueSnapshot) -> str:
    if not queue.held_by_blocked:
        return ""
    return f"{queue.held_by_blocked} held by a blocked worker: {queue.blocked_where}"


def _stalled(queue: QueueSnapshot) -> str:
    """Jobs of dead or blocked workers are not stalled: they have conditions of their own."""
    if queue.full_for is None or queue.held_by_dead or queue.held_by_blocked:
        return ""
    usual = queue.usual_run
    if queue.full_for <= max(STALLED_SECONDS, STALLED_TIMES * (usual or 0.0)):
        return ""
    slots = f"{queue.in_flight} of {queue.concurrency} run for {_duration(queue.full_for)}"
    if usual is None:
        return f"stalled: {slots}, nothing has ended"
    return f"stalled: {slots}, usually {_duration(usual)}"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _blocked(workers: Iterable[WorkerSnapshot]) -> Iterable[Alert]:
    for worker in workers:
        if worker.state == "blocked":
            how_long = "" if worker.blocked_for is None else f" for {_duration(worker.blocked_for)}"
            message = f"{worker.host}:{worker.pid} blocked{how_long}: {worker.blocked_where}"
            yield Alert(None, "blocked", message)


def evicts_jobs(policy: str | None) -> bool:
    """Whether Redis, by its ``maxmemory-policy``, may evict keys without a TTL: jobs have none."""
    return policy is not None and policy.startswith("allkeys-")


def _servers(
    redis: RedisSnapshot, database: DatabaseSnapshot, letters_oldest_age: float | None
) -> Iterable[Alert]:
    if redis.error is not None:
        silent = redis.refusal is None
        yield Alert(None, "redis", f"Redis does not answer: {redis.error}" if silent else redis.error)
    if database.error is not None:
        yield Alert(None, "database", f"the database does not answer: {database.error}")
    if redis.memory_limit and redis.memory_used is not None:
        share = redis.memory_used / redis.memory_limit
        if share > REDIS_MEMORY:
            yield Alert(None, "redis_memory", f"Redis memory {share:.0%} full, limit {REDIS_MEMORY:.0%}")
    if evicts_jobs(redis.eviction_policy):
        yield Alert(None, "redis_eviction", f"Redis evicts by {redis.eviction_policy}: jobs may be evicted")
    if letters_oldest_age is not None and letters_oldest_age > LETTERS_WAITING:
        yield Alert(
            None, "letters_waiting", f"dead letters wait for the database for {letters_oldest_age:.0f} s"
        )


def _queue(queue: QueueSnapshot) -> Iterable[Alert]:
    if queue.depth > DEPTH:
        yield Alert(queue.name, "depth", f"{queue.depth} queued, limit {DEPTH}")
    if queue.failure_rate is not None and queue.failure_rate > FAILURE_RATE:
        yield Alert(
            queue.name,
            "failure_rate",
            f"{queue.failure_rate:.1%} of attempts failed, limit {FAILURE_RATE:.0%}",
        )
    if broken := _broken(queue):
        yield Alert(queue.name, "broken_keys", broken)
    if queue.held_by_dead and (queue.dead_for or 0.0) > HELD_BY_DEAD_SECONDS:
        yield Alert(queue.name, "held_by_dead", _held_by_dead(queue))
    if stalled := _stalled(queue):
        yield Alert(queue.name, "stalled", stalled)
    if queue.workers == 0:
        yield Alert(queue.name, "workers", "no worker")
