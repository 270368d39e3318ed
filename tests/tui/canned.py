"""Moments of a cluster, made up, for screens that must look the same each time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from workers.operations import DEAD, DeadLetter, Filter, Page
from workers.policy import DEFAULT_POLICIES
from workers.snapshot import (
    Alert,
    DatabaseSnapshot,
    Pause,
    Percentiles,
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
        Alert("moderation-review", "failure_rate", "7.1% of attempts failed, limit 5%"),
        Alert("weather-ingestion", "depth", "132 queued, limit 100"),
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
DRAINING = replace(HEALTHY, drain_deadline_in=22.0)


def letter(number: int, **fields: Any) -> DeadLetter:
    at = NOW - 60 * number
    attempts: list[Mapping[str, Any]] = [
        {
            "attempt": attempt,
            "at": at - 30 + attempt,
            "worker": "w1",
            "error_type": "WeatherUnavailableError",
            "message": "503 from the weather service",
            "traceback": 'Traceback (most recent call last):\n  File "weather.py", line 7, in fetch\n'
            f"WeatherUnavailableError: 503 {NASTY}",
            "run_seconds": 0.31,
        }
        for attempt in (1, 2, 3, 4)
    ]
    base: dict[str, Any] = {
        "id": number,
        "uid": f"u{number}",
        "queue_name": "weather-ingestion",
        "job_id": f"wx-lisboa-{number}",
        "function": "ingest_weather",
        "job_data": {"kwargs": {"location_id": "lisboa", "note": NASTY}},
        "error_type": "workers.handlers.weather.WeatherUnavailableError",
        "error_message": f"503 from the weather service {NASTY}",
        "traceback": None,
        "fingerprint": "f" * 16,
        "attempts": 4,
        "attempt_errors": attempts,
        "worker": "w1",
        "enqueued_at": datetime.fromtimestamp(at - 40, UTC),
        "failed_at": datetime.fromtimestamp(at, UTC),
        "replay_of": None,
        "state": "dead",
        "replay_count": 0,
        "replayed_at": None,
        "root_id": None,
        "deaths": 1,
    }
    return DeadLetter(**(base | fields))


class CannedOperations:
    """Answers with one snapshot and some letters, and keeps what it was asked to do."""

    def __init__(self, snapshot: Snapshot, letters: int = 2) -> None:
        self.now = snapshot
        self.kept = [letter(number) for number in range(1, letters + 1)]
        self.letters = self
        self.done: list[tuple[Any, ...]] = []
        self.read: list[str | None] = []
        """The cursors of the pages that were asked for."""
        self.door = asyncio.Event()
        """While it is not set, no page arrives."""
        self.door.set()
        self.can_drain = True
        self.read_only = False
        self.draining = False
        self.in_flight = 2
        self.error: Exception | None = None

    async def snapshot(self) -> Snapshot:
        if self.error is not None:
            raise self.error
        return self.now

    async def page(
        self, wanted: Filter = DEAD, *, limit: int = 50, cursor: str | None = None
    ) -> Page[DeadLetter]:
        self.read.append(cursor)
        await self.door.wait()
        if self.error is not None:
            raise self.error
        start = int(cursor or 0)
        items = self.kept[start : start + limit]
        more = start + limit < len(self.kept)
        return Page(items, str(start + limit) if more else None)

    async def replay(self, letter_id: int) -> str:
        self.done.append(("replay", letter_id))
        if self.error is not None:
            raise self.error
        self.kept = [letter for letter in self.kept if letter.id != letter_id]
        self.now = replace(self.now, dead_letters=len(self.kept))
        return f"job-{letter_id}"

    async def pause(self, queue: str, reason: str = "") -> Pause:
        self.done.append(("pause", queue, reason))
        return Pause("me", reason, NOW)

    async def resume(self, queue: str) -> bool:
        self.done.append(("resume", queue))
        return True

    async def drain(self, *, now: bool = False) -> None:
        self.done.append(("drain", now))
        self.draining = True
