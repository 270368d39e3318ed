"""The thresholds, once, for every place that speaks of them.  Pure."""

from __future__ import annotations

from collections.abc import Iterable

from workers.snapshot import Alert, DatabaseSnapshot, QueueSnapshot, RedisSnapshot

DEPTH = 100
"""Ready jobs above which a queue is too deep."""
FAILURE_RATE = 0.05
"""Share of failed attempts above which a queue is failing."""
REDIS_MEMORY = 0.8
"""Share of its memory limit above which Redis is nearly full."""
LETTERS_WAITING = 60.0
"""Seconds that a dead letter may wait for the database."""

_ORDER = (
    "redis",
    "database",
    "redis_eviction",
    "workers",
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
) -> tuple[Alert, ...]:
    """What is breached at this moment, the worst first."""
    found = [*_servers(redis, database, letters_oldest_age)]
    for queue in queues:
        found += _queue(queue)
    return tuple(sorted(found, key=lambda alert: _ORDER.index(alert.metric)))


def evicts_jobs(policy: str | None) -> bool:
    """Whether Redis, by its ``maxmemory-policy``, may evict keys without a TTL: jobs have none."""
    return policy is not None and policy.startswith("allkeys-")


def _servers(
    redis: RedisSnapshot, database: DatabaseSnapshot, letters_oldest_age: float | None
) -> Iterable[Alert]:
    if redis.error is not None:
        refuses = redis.error.startswith("Redis ")  # see storage.refusals
        yield Alert(None, "redis", redis.error if refuses else f"Redis does not answer: {redis.error}")
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
    if queue.workers == 0:
        yield Alert(queue.name, "workers", "no worker")
