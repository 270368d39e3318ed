"""Writes an hour of history, letters and events into empty servers, as if the system had run for a day."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from storage.database.engine import Database
from storage.database.events import NewEvent
from storage.dead_letters.records import NewDeadLetter
from storage.dead_letters.repository import DeadLetterRepository
from storage.repositories.events import EventRepository
from workers.engine.histogram import bucket
from workers.engine.keys import QueueKeys
from workers.engine.policy import ALERT, COLOR, DEFAULT_POLICIES, MODERATION, WEATHER

RELEASE, RELEASE_BEFORE = "7f3c2a1", "61b00d4"
BACKLOG = 190
"""Weather jobs that wait at the end of the history."""
_HOUR, _STEP = 3_600, 10
_RELEASED_BEFORE_SECONDS, _PAUSED_BEFORE_SECONDS = 2_700.0, 720.0
"""Seconds from the new release, and from the pause, to now."""
_STEPS = ((10, _HOUR + 300), (60, 90_000))
"""Seconds between points, and for which they are kept: see history.lua."""
_chance = random.Random(7)


@dataclass(frozen=True)
class Past:
    """How a queue did: each function has the share of the hour that has passed, from 0 to 1."""

    depth: Callable[[float], float]
    a_second: float
    run: float
    wait: float = 0.004
    failing: Callable[[float], float] = lambda _: 0.004
    stops_at: float = 1.0
    """The share of the hour after which nothing started: it was paused."""


def _weather_depth(share: float) -> float:
    return BACKLOG / (1 + math.exp(-14 * (share - 0.62))) + _chance.uniform(0, 3)


def _spikes(share: float) -> float:
    return _chance.uniform(0, 2) + (9 if int(share * 60) % 15 == 5 else 0)


PASTS = {
    WEATHER: Past(_weather_depth, 1.0, 0.31, wait=1.5, failing=lambda share: 0.02 if share > 0.3 else 0.002),
    ALERT: Past(_spikes, 8.0, 0.06),
    COLOR: Past(lambda _: _chance.uniform(1, 5), 2.5, 0.4),
    MODERATION: Past(lambda share: max(0.0, (share - 0.8) * 35), 1.0, 0.02, stops_at=0.8),
}


@dataclass
class _Totals:
    counters: Counter[str] = field(default_factory=Counter)

    def pass_step(self, past: Past, share: float) -> None:
        """Count what happened in ten seconds."""
        started = 0 if share > past.stops_at else round(past.a_second * _STEP * _chance.uniform(0.8, 1.2))
        failed = sum(_chance.random() < past.failing(share) for _ in range(started))
        self.counters.update(started=started, completed=started - failed, failed=failed, retried=failed)
        for _ in range(started):
            run, wait = past.run * _chance.lognormvariate(0, 0.6), past.wait * _chance.lognormvariate(0, 0.8)
            self.counters[f"r{bucket(run)}"] += 1
            self.counters[f"w{bucket(wait)}"] += 1
            self.counters.update(run_us=round(run * 1e6), wait_us=round(wait * 1e6))


async def write_history(client: Any, now: float) -> None:
    """Write the points of an hour, and the counters with which the workers go on."""
    for queue, past in PASTS.items():
        keys, totals = QueueKeys.of(queue), _Totals()
        concurrency = DEFAULT_POLICIES[queue].concurrency
        points: dict[int, dict[str, float]] = {seconds: {} for seconds, _ in _STEPS}
        for second in range(0, _HOUR, _STEP):
            share = second / _HOUR
            at_ms = round((now - _HOUR + second) * 1000)
            depth = max(0, round(past.depth(share)))
            in_flight = min(concurrency, round(past.a_second * past.run) + (concurrency if depth > 20 else 0))
            flat = [part for counter in totals.counters.items() for part in counter]
            point = json.dumps([at_ms, depth, in_flight, *flat], separators=(",", ":"))
            for seconds, found in points.items():
                if second % seconds == 0:
                    found[point] = at_ms
            totals.pass_step(past, share)
        for seconds, kept in _STEPS:
            await client.zadd(f"{keys.history}{seconds}", points[seconds])
            await client.expire(f"{keys.history}{seconds}", kept)
        await client.hset(
            keys.totals, mapping={name: str(number) for name, number in totals.counters.items()}
        )


async def write_pause(client: Any, now: float) -> None:
    """Pause a queue, as somebody did some minutes ago."""
    pause = {"by": "ops@box-2", "reason": "model rollout", "since": str(now - _PAUSED_BEFORE_SECONDS)}
    await client.hset(QueueKeys.of(MODERATION).pause, mapping=pause)


async def write_events(database: Database, now: float) -> None:
    """Write the events of the last hour."""
    when = datetime.fromtimestamp(now, UTC)
    released, paused = timedelta(seconds=_RELEASED_BEFORE_SECONDS), timedelta(seconds=_PAUSED_BEFORE_SECONDS)
    await EventRepository(database).record(
        [
            NewEvent(
                "new-release", f"release {RELEASE} runs for the first time",
                subject=RELEASE, dedupe=f"new-release:{RELEASE}", at=when - released,
            ),
            NewEvent(
                "queue-paused", f"{MODERATION} paused by ops@box-2: model rollout",
                MODERATION, actor="ops@box-2", at=when - paused,
            ),
        ]
    )  # fmt: skip


@dataclass(frozen=True)
class _Group:
    queue: str
    error: str
    message: str
    letters: int
    hours: float
    """Since when they die; ever more of them."""
    payload: Callable[[int], dict[str, Any]]
    releases: tuple[str, ...] = (RELEASE,)


_PLACES = (("lisboa", 38.72, -9.14), ("porto", 41.15, -8.61), ("tromso", 69.65, 18.96))
_GROUPS = (
    _Group(
        WEATHER, "HTTPStatusError", "503 Service Unavailable from the weather service", 298, 0.75,
        lambda number: dict(zip(("location_id", "lat", "lon"), _PLACES[number % 3], strict=True)),
    ),
    _Group(
        MODERATION, "ValidationError", "text: longer than 5000 characters", 14, 21,
        lambda number: {"content_id": f"comment-{9_000 + number}", "text": "…"},
        (RELEASE, RELEASE_BEFORE),
    ),
    _Group(
        COLOR, "PermanentError", "image: the file is truncated after 812 bytes", 9, 16,
        lambda number: {"item_id": f"dress-{number}", "image": f"uploads/dress-{number}.jpg"},
        (RELEASE_BEFORE,),
    ),
)  # fmt: skip
_TRACEBACK = """Traceback (most recent call last):
  File "workers/engine/runner.py", line 212, in _run
    return await self._call(job)
{error}: {message}
"""


async def write_letters(database: Database, now: float) -> None:
    """Three groups of dead letters."""
    letters = [letter for group in _GROUPS for letter in _letters(group, now)]
    await DeadLetterRepository(database).record(letters)


def _letters(group: _Group, now: float) -> Iterator[NewDeadLetter]:
    function = DEFAULT_POLICIES[group.queue].function
    for number in range(group.letters):
        age = group.hours * 3_600 * (1 - math.sqrt((number + 1) / group.letters)) + 240
        at = datetime.fromtimestamp(now - age, UTC)
        release = group.releases[0 if age < _RELEASED_BEFORE_SECONDS else -1]
        payload = group.payload(number)
        attempts: list[dict[str, Any]] = [
            {
                "attempt": attempt,
                "at": (at - timedelta(seconds=delay)).timestamp(),
                "worker": "box-2:4121",
                "error_type": group.error,
                "message": group.message,
                "traceback": _TRACEBACK.format(error=group.error, message=group.message),
                "run_seconds": 0.31,
                "release": release,
            }
            for attempt, delay in enumerate((31, 30, 25, 0), 1)
        ]
        key = f"{function}-{number}"
        yield NewDeadLetter(
            uid=f"{group.queue}-{number}",
            queue_name=group.queue,
            job_id=key,
            function=function,
            job_data={"function": function, "key": key, "kwargs": payload, "queue": group.queue},
            error_type=group.error,
            error_message=group.message,
            traceback=attempts[-1]["traceback"],
            fingerprint=f"{random.Random(group.message).getrandbits(64):016x}",
            attempts=len(attempts),
            attempt_errors=attempts,
            worker="box-2:4121",
            enqueued_at=at - timedelta(seconds=33),
            failed_at=at,
            replay_of=None,
            release=release,
        )
