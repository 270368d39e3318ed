"""Reads the cluster into a snapshot, in one round trip."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from storage.database import Database
from storage.dead_letters import DeadLetters
from storage.errors import StorageError
from workers import histogram, lua, thresholds, wire
from workers.connection import safe_url
from workers.keys import BEATS, LETTERS, WORKERS, QueueKeys
from workers.policy import QueuePolicy
from workers.snapshot import (
    DatabaseSnapshot,
    Pause,
    QueueSnapshot,
    RedisSnapshot,
    Snapshot,
    WorkerSnapshot,
)

_HISTORY = 60  # minutes
_RECENT = 5  # minutes over which rates and percentiles are taken, the current one with them
_SLOW_INTERVAL = 5.0
"""Seconds between looks at what changes slowly or costs much: Redis' memory, the database."""

Minute = dict[str, int]
"""The counters of one minute: outcomes, ``w…`` and ``r…`` buckets, depth."""


class Observer:
    """Takes snapshots.  Minutes that are over do not change: they are read once and remembered."""

    def __init__(
        self,
        redis: Redis,
        redis_url: str,
        policies: Sequence[QueuePolicy],
        database: Database,
        letters: DeadLetters,
        *,
        environment: str,
        weather_provider: str,
    ) -> None:
        self._redis = redis
        self._safe_url = safe_url(redis_url)
        self._policies = policies
        self._database = database
        self._letters = letters
        self._environment = environment
        self._weather_provider = weather_provider
        self._minutes: dict[str, dict[int, Minute]] = {policy.name: {} for policy in policies}
        self._clock_offset = 0.0
        self._slow_at = 0.0
        self._redis_about = RedisSnapshot(self._safe_url, None)
        self._database_about = DatabaseSnapshot(database.safe_url, None)
        self._dead: int | None = None
        self._last: Snapshot | None = None

    async def snapshot(self, *, loop_lag: float | None, drain_deadline_in: float | None) -> Snapshot:
        """This moment.  While Redis is away: the last known figures, with the error."""
        await self._look_at_slow_things()
        try:
            queues, workers, waiting, oldest = await self._cluster()
        except (RedisError, OSError) as error:
            self._redis_about = RedisSnapshot(self._safe_url, f"{type(error).__name__}: {error}")
            self._slow_at = 0.0
            queues = self._last.queues if self._last else ()
            workers, waiting, oldest = (), self._last.letters_waiting if self._last else 0, None
        self._last = Snapshot(
            taken_at=time.time() + self._clock_offset,
            environment=self._environment,
            queues=queues,
            workers=workers,
            redis=self._redis_about,
            database=self._database_about,
            dead_letters=self._dead,
            letters_waiting=waiting,
            letters_oldest_age=oldest,
            loop_lag=loop_lag,
            weather_provider=self._weather_provider,
            alerts=thresholds.alerts(
                queues if self._redis_about.error is None else (), self._redis_about, oldest
            ),
            drain_deadline_in=drain_deadline_in,
        )
        return self._last

    async def _cluster(
        self,
    ) -> tuple[tuple[QueueSnapshot, ...], tuple[WorkerSnapshot, ...], int, float | None]:
        minute = int((time.time() + self._clock_offset) // 60)
        wanted = {policy.name: self._missing(policy.name, minute) for policy in self._policies}
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.hgetall(WORKERS)
        pipeline.zrange(BEATS, 0, -1, withscores=True)
        pipeline.zcard(LETTERS)
        pipeline.zrange(LETTERS, 0, 0, withscores=True)
        workers_, beats, waiting, first = await pipeline.execute()
        calls = [self._overview(policy, wanted[policy.name]) for policy in self._policies]
        replies = await lua.run(self._redis, calls)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        now = int(replies[0][0]) / 1e6
        self._clock_offset = now - time.time()
        workers = _workers(workers_, dict(beats), now)
        queues = tuple(
            self._queue(policy, reply, wanted[policy.name], workers)
            for policy, reply in zip(self._policies, replies, strict=True)
        )
        return queues, workers, waiting, (now - first[0][1] / 1000 if first else None)

    def _missing(self, queue: str, minute: int) -> list[int]:
        """Minutes whose figures are not known for good; those two hours old are forgotten."""
        known = self._minutes[queue]
        for old in [number for number in known if number <= minute - _HISTORY]:
            del known[old]
        return [number for number in range(minute - _HISTORY + 1, minute) if number not in known]

    def _overview(self, policy: QueuePolicy, minutes: Sequence[int]) -> lua.Call:
        keys = QueueKeys.of(policy.name)
        window = round(policy.rate_limit.seconds * 1e6) if policy.rate_limit else 0
        return lua.OVERVIEW.call(
            [keys.queued, keys.incomplete, keys.leases, keys.starts, keys.pause, keys.totals, keys.minute],
            [window, *minutes],
        )

    def _queue(
        self, policy: QueuePolicy, reply: list[Any], wanted: list[int], workers: Sequence[WorkerSnapshot]
    ) -> QueueSnapshot:
        now = int(reply[0]) / 1e6
        depth, incomplete, leases, starts, oldest, head, pause, totals, current, *closed = reply[1:]
        minute = int(now // 60)
        known = self._minutes[policy.name]
        for number, figures in zip(wanted, closed, strict=True):
            if number < minute - 1 or figures:
                known[number] = _minute(figures)
        latest = _minute(current)
        history = [known.get(number) for number in range(minute - _HISTORY + 1, minute)] + [latest]
        recent = [figures for figures in history[-_RECENT:] if figures]
        total = {key.decode(): int(value) for key, value in _pairs(totals)}
        completed, failed = (
            sum(figures.get(name, 0) for figures in recent) for name in ("completed", "failed")
        )
        full = policy.rate_limit is not None and starts >= policy.rate_limit.starts
        return QueueSnapshot(
            name=policy.name,
            function=policy.function,
            depth=depth,
            scheduled=max(0, incomplete - depth - leases),
            oldest_age=_age(head, now),
            in_flight=leases,
            concurrency=policy.concurrency,
            rate_limit=policy.rate_limit,
            rate_used=starts,
            next_start_in=max(0.0, int(float(oldest)) / 1e6 + policy.rate_limit.seconds - now)
            if policy.rate_limit is not None and full and oldest
            else None,
            wait=histogram.percentiles(_buckets(recent, "w")),
            run=histogram.percentiles(_buckets(recent, "r")),
            failure_rate=failed / (completed + failed) if completed + failed else None,
            throughput=_throughput(history, now),
            completed=total.get("completed", 0),
            failed=total.get("failed", 0),
            retried=total.get("retried", 0),
            dead_lettered=total.get("dead_lettered", 0),
            depth_history=_depths(history, depth),
            throughput_history=tuple(
                figures.get("completed", 0) if figures is not None else None for figures in history
            ),
            paused=_pause(pause),
            workers=sum(policy.name in worker.queues for worker in workers),
        )

    async def _look_at_slow_things(self) -> None:
        now = time.monotonic()
        if now < self._slow_at:
            return
        self._slow_at = now + _SLOW_INTERVAL
        try:
            about = await self._redis.info()
        except (RedisError, OSError) as error:
            self._redis_about = RedisSnapshot(self._safe_url, f"{type(error).__name__}: {error}")
        else:
            self._redis_about = RedisSnapshot(
                self._safe_url,
                None,
                version=str(about.get("valkey_version") or about.get("redis_version") or "") or None,
                memory_used=about.get("used_memory"),
                memory_limit=about.get("maxmemory") or None,
            )
        try:
            self._dead = await self._letters.count()
            self._database_about = DatabaseSnapshot(self._database.safe_url, None)
        except StorageError as error:
            self._dead = None
            self._database_about = DatabaseSnapshot(self._database.safe_url, str(error))


def read_pause(fields: dict[bytes, bytes]) -> Pause | None:
    """The pause that a queue's pause hash says, None where it is empty."""
    if not fields:
        return None
    text = {key.decode(): value.decode("utf-8", "replace") for key, value in fields.items()}
    return Pause(by=text.get("by", "?"), reason=text.get("reason", ""), since=float(text.get("since", 0)))


def _pause(flat: list[bytes]) -> Pause | None:
    return read_pause(dict(_pairs(flat)))


def _pairs(flat: list[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _minute(flat: list[bytes]) -> Minute:
    return {key.decode(): int(value) for key, value in _pairs(flat)}


def _buckets(minutes: Sequence[Minute], kind: str) -> Counter[int]:
    counts: Counter[int] = Counter()
    for figures in minutes:
        for name, count in figures.items():
            if name[0] == kind and name[1:].isdigit():
                counts[int(name[1:])] += count
    return counts


def _throughput(history: Sequence[Minute | None], now: float) -> float:
    """Completed jobs a second over the last minute: this minute, and the rest from the one before."""
    passed = now % 60
    current, before = history[-1] or {}, history[-2] or {}
    done = current.get("completed", 0) + before.get("completed", 0) * (1 - passed / 60)
    return float(done) / 60


def _depths(history: Sequence[Minute | None], depth: int) -> tuple[int | None, ...]:
    """Depth at the end of each minute; one in which nothing ended has the depth of the one before."""
    last: int | None = None
    depths: list[int | None] = []
    for figures in history:
        last = figures.get("depth", last) if figures is not None else last
        depths.append(last)
    return (*depths[:-1], depth)


def _age(head: bytes, now: float) -> float | None:
    """How long the job at the head has been ready, by its own record; None where that cannot be read."""
    if not head:
        return None
    try:
        job = wire.load(head)
        ready = max(float(job.get("queued", 0)), float(job.get("touched", 0))) / 1000
        return max(0.0, now - max(ready, float(job.get("scheduled", 0))))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def _workers(found: dict[bytes, bytes], beats: dict[bytes, float], now: float) -> tuple[WorkerSnapshot, ...]:
    workers = []
    for key, body in found.items():
        if key.startswith(b"at:"):
            continue
        age = now - max(float(found.get(b"at:" + key, 0)), beats.get(key, 0.0)) / 1000
        about = wire.load(body)
        if age > about["forget"]:
            continue
        workers.append(
            WorkerSnapshot(
                id=key.decode(),
                host=about["host"],
                pid=about["pid"],
                version=about["version"],
                queues=tuple(about["queues"]),
                in_flight=about["in_flight"],
                last_beat_age=max(0.0, age),
                draining=about["draining"],
            )
        )
    return tuple(sorted(workers, key=lambda worker: (worker.host, worker.pid)))
