"""Reads the cluster into a snapshot, in two round trips."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from storage.database import Database
from storage.dead_letters import DeadLetters
from storage.refusals import reason
from workers import histogram, lua, thresholds, wire
from workers.connection import safe_url
from workers.keys import BEATS, LETTERS, WORKERS, QueueKeys
from workers.look import Look
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
_MOST = 2**53  # a counter that claims more was not written by us
_BUCKET = re.compile(r"([wr])(\d{1,2})", re.ASCII)

Minute = dict[str, int]
"""The counters of one minute: outcomes, ``w…`` and ``r…`` buckets, depth."""


class Observer:
    """Takes snapshots.  Minutes that are over do not change: they are read once and remembered.

    What changes slowly or costs much (Redis' memory, the database) is looked at in the background: a snapshot
    holds what is known of it, and only the first one waits for it.
    """

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
        self._environment = environment
        self._weather_provider = weather_provider
        self._minutes: dict[str, dict[int, Minute]] = {policy.name: {} for policy in policies}
        self._clock_offset = 0.0
        self._redis_error: str | None = None
        self._memory = Look(self._redis.info)
        self._dead = Look(letters.count)
        self._last: Snapshot | None = None

    async def close(self) -> None:
        """Break off what is looked at in the background."""
        await self._memory.close()
        await self._dead.close()

    def look_again(self) -> None:
        """The number of dead letters has changed: the next snapshot counts them anew."""
        self._dead.look_again()

    async def snapshot(self, *, loop_lag: float | None, drain_deadline_in: float | None) -> Snapshot:
        """This moment.  While Redis is away: the last known figures, with the error."""
        self._memory.begin()
        self._dead.begin()
        try:
            queues, workers, waiting, oldest = await self._cluster()
            self._redis_error = None
        except (RedisError, OSError) as error:
            self._redis_error = reason(error)
            self._memory.look_again()
            last = self._last
            queues, workers, waiting = (
                (last.queues, last.workers, last.letters_waiting) if last else ((), (), 0)
            )
            oldest = None
        if self._last is None:  # a program that takes but one, and ends, wants to know all
            await self._memory.known.wait()
            await self._dead.known.wait()
        redis, database = self._redis_now(), self._database_now()
        self._last = Snapshot(
            taken_at=time.time() + self._clock_offset,
            environment=self._environment,
            queues=queues,
            workers=workers,
            redis=redis,
            database=database,
            dead_letters=self._dead.answer,
            letters_waiting=waiting,
            letters_oldest_age=oldest,
            loop_lag=loop_lag,
            weather_provider=self._weather_provider,
            alerts=thresholds.alerts(queues if redis.error is None else (), redis, database, oldest),
            drain_deadline_in=drain_deadline_in,
        )
        return self._last

    def _redis_now(self) -> RedisSnapshot:
        about = self._memory.answer
        if self._redis_error is not None or about is None:
            return RedisSnapshot(self._safe_url, self._redis_error)
        return RedisSnapshot(
            self._safe_url,
            None,
            version=str(about.get("valkey_version") or about.get("redis_version") or "") or None,
            memory_used=_whole(about.get("used_memory")),
            memory_limit=_whole(about.get("maxmemory")) or None,
            eviction_policy=str(about.get("maxmemory_policy") or "") or None,
        )

    def _database_now(self) -> DatabaseSnapshot:
        url, error = self._database.safe_url, self._dead.error
        return DatabaseSnapshot(url, error and error.removeprefix(f"{url} does not answer: "))

    async def _cluster(
        self,
    ) -> tuple[tuple[QueueSnapshot, ...], tuple[WorkerSnapshot, ...], int, float | None]:
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.time()
        pipeline.hgetall(WORKERS)
        pipeline.zrange(BEATS, 0, -1, withscores=True)
        pipeline.zcard(LETTERS)
        pipeline.zrange(LETTERS, 0, 0, withscores=True)
        (seconds, _), workers_, beats, waiting, first = await pipeline.execute()
        # The server's minute, since by another clock one that is not over might be remembered for good.
        wanted = {policy.name: self._missing(policy.name, seconds // 60) for policy in self._policies}
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
        since = _number(first[0][1]) if first else None
        return queues, workers, waiting, None if since is None else max(0.0, now - since / 1000)

    def _missing(self, queue: str, minute: int) -> list[int]:
        """The minutes of the last hour, before this one, that are not known; all others are forgotten."""
        hour = range(minute - _HISTORY + 1, minute)
        known = self._minutes[queue] = {
            number: figures for number, figures in self._minutes[queue].items() if number in hour
        }
        return [number for number in hour if number not in known]

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
        known.update(zip(wanted, map(_minute, closed), strict=True))
        latest = _minute(current)
        history = [known.get(number) for number in range(minute - _HISTORY + 1, minute)] + [latest]
        recent = [figures for figures in history[-_RECENT:] if figures]
        total = _minute(totals)
        completed, failed = (
            sum(figures.get(name, 0) for figures in recent) for name in ("completed", "failed")
        )
        full = policy.rate_limit is not None and starts >= policy.rate_limit.starts
        first = _number(oldest)
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
            next_start_in=max(0.0, first / 1e6 + policy.rate_limit.seconds - now)
            if policy.rate_limit is not None and full and first is not None
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


def read_pause(fields: dict[bytes, bytes]) -> Pause | None:
    """The pause that a queue's pause hash says, None where it is empty."""
    if not fields:
        return None
    text = {_text(key): _text(value) for key, value in fields.items()}
    return Pause(by=text.get("by", "?"), reason=text.get("reason", ""), since=_number(text.get("since")))


def _pause(flat: list[bytes]) -> Pause | None:
    return read_pause(dict(_pairs(flat)))


def _pairs(flat: list[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _minute(flat: list[bytes]) -> Minute:
    counters = {_text(key): _whole(value) for key, value in _pairs(flat)}
    return {name: value for name, value in counters.items() if value is not None}


def _buckets(minutes: Sequence[Minute], kind: str) -> Counter[int]:
    counts: Counter[int] = Counter()
    for figures in minutes:
        for name, count in figures.items():
            found = _BUCKET.fullmatch(name)
            if found is not None and found[1] == kind:
                counts[int(found[2])] += count
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
    try:
        job = wire.load(head)
        queued, touched, scheduled = (
            _number(job.get(name)) or 0.0 for name in ("queued", "touched", "scheduled")
        )
    except (ValueError, AttributeError, RecursionError):
        return None
    ready = max(queued, touched) / 1000
    return max(0.0, now - max(ready, scheduled)) if ready > 0 else None


def _workers(found: dict[bytes, bytes], beats: dict[bytes, float], now: float) -> tuple[WorkerSnapshot, ...]:
    workers = []
    for key, body in found.items():
        if key.startswith(b"at:"):
            continue
        beat = max(_number(found.get(b"at:" + key)) or 0.0, _number(beats.get(key)) or 0.0) / 1000
        worker = _worker(_text(key), body, now - beat)
        if worker is not None:
            workers.append(worker)
    return tuple(sorted(workers, key=lambda worker: (worker.host, worker.pid)))


def _worker(name: str, body: bytes, age: float) -> WorkerSnapshot | None:
    """What a process said of itself ``age`` seconds ago; None where it is gone, or that cannot be read."""
    try:
        about = wire.load(body)
        if not age <= about["forget"]:
            return None
        return WorkerSnapshot(
            id=name,
            host=str(about["host"]),
            pid=int(about["pid"]),
            version=str(about["version"]),
            queues=tuple(map(str, about["queues"])),
            in_flight=int(about["in_flight"]),
            last_beat_age=max(0.0, age),
            draining=bool(about["draining"]),
        )
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return None


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _number(value: Any) -> float | None:
    """A finite number; None for whatever else a record of others may hold."""
    try:
        number = float(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else max(0, min(int(number), _MOST))
