"""Moments of a cluster, made up, for screens that must always look the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from workers.engine.histogram import Percentiles
from workers.engine.policy import DEFAULT_POLICIES
from workers.monitoring.snapshot import (
    Alert,
    DatabaseSnapshot,
    Pause,
    QueueSnapshot,
    RedisSnapshot,
    Snapshot,
    WorkerSnapshot,
)

NOW = datetime(2026, 3, 1, 14, 32, 7, tzinfo=UTC).timestamp()
RISE = tuple([None] * 20 + [n * n // 12 for n in range(40)])
NASTY = "[red]not markup[/] \x1b[31mnot red\x1b[0m \x07 ‮ tab\there"


def queue(name: str, **fields: Any) -> QueueSnapshot:
    policy = DEFAULT_POLICIES[name]
    base = QueueSnapshot(
        name=name,
        function=policy.function,
        depth=0,
        recent_attempts=200,
        scheduled=0,
        oldest_age=None,
        in_flight=2,
        concurrency=policy.concurrency,
        rate_limit=policy.rate_limit,
        rate_used=12 if policy.rate_limit else 0,
        next_start_in=None,
        wait=Percentiles(0.004, 0.011, 0.02),
        run=Percentiles(0.084, 0.31, 0.9),
        failure_rate=0.004,
        throughput=4.4,
        completed=1200,
        failed=5,
        retried=4,
        dead_lettered=1,
        depth_history=RISE,
        throughput_history=RISE,
        paused=None,
        workers=1,
    )
    return replace(base, **fields)


def worker(number: int) -> WorkerSnapshot:
    return WorkerSnapshot(
        f"w{number}", "box-2", 4000 + number, "0.1.0", tuple(DEFAULT_POLICIES), 3, 1.2, False
    )


HEALTHY = Snapshot(
    taken_at=NOW,
    environment="prod",
    queues=tuple(queue(name) for name in DEFAULT_POLICIES),
    workers=(worker(1), worker(2), worker(3)),
    redis=RedisSnapshot("redis://box-1:6379/0", None, "7.4.1", 212 * 2**20, 2**30),
    database=DatabaseSnapshot("postgresql://box-1/couturecast", None),
    dead_letters=2,
    letters_waiting=0,
    letters_oldest_age=None,
    loop_lag=0.002,
    weather_provider="openweather",
)
IDLE = replace(
    HEALTHY,
    environment="local",
    weather_provider="offline",
    dead_letters=0,
    queues=tuple(
        queue(
            name,
            in_flight=0,
            wait=Percentiles(),
            run=Percentiles(),
            failure_rate=None,
            throughput=0.0,
            depth_history=(None,) * 59 + (0,),
            throughput_history=(None,) * 60,
        )
        for name in DEFAULT_POLICIES
    ),
)
BREACHED = replace(
    HEALTHY,
    queues=(
        queue(
            "weather-ingestion", depth=132, oldest_age=118.0, in_flight=10, rate_used=60, next_start_in=3.0
        ),
        queue("alert-fanout", failure_rate=0.0),
        queue("color-extraction", depth=12, oldest_age=3.1, in_flight=5),
        queue(
            "moderation-review",
            depth=7,
            oldest_age=720.0,
            in_flight=0,
            failure_rate=0.071,
            paused=Pause("ops@box-2", "model rollout [bold]\x1b[31m", NOW - 720),
        ),
    ),
    alerts=(
        Alert("moderation-review", "failing", "7.1 % of attempts failed, limit 5 %"),
        Alert("weather-ingestion", "backlog", "132 queued, limit 100"),
    ),
)
AWAY = replace(
    HEALTHY,
    redis=RedisSnapshot("redis://box-1:6379/0", "ConnectionError: connection refused"),
    database=DatabaseSnapshot("postgresql://box-1/couturecast", "connection refused"),
    dead_letters=None,
    alerts=(
        Alert(None, "redis", "Redis does not answer: ConnectionError: connection refused"),
        Alert(None, "database", "the database does not answer: connection refused"),
    ),
)
PARTLY_AWAY = replace(
    HEALTHY,
    queues=tuple(
        replace(queue, redis_error="ConnectionError: connection refused")
        if queue.name == "color-extraction"
        else queue
        for queue in HEALTHY.queues
    ),
    other_redises=(
        RedisSnapshot(
            "redis://box-2:6379/0",
            "ConnectionError: connection refused",
            name="Redis of color-extraction",
            queues=("color-extraction",),
            subject="color-extraction",
        ),
    ),
    alerts=(
        Alert(
            None,
            "redis",
            "Redis of color-extraction does not answer: ConnectionError: connection refused",
            subject="color-extraction",
        ),
    ),
)
"""One of two Redises is down."""
DRAINING = replace(HEALTHY, drain_deadline_in=22.0)
