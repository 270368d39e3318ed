"""Reads the cluster into a snapshot, in two round trips."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from storage.database.engine import Database
from storage.dead_letters.repository import DeadLetterRepository
from storage.redis.client import execute, redact_url
from storage.redis.refusals import reason
from storage.redis.scripts import Script, ScriptCall, run_scripts
from workers.engine import histogram, wire
from workers.engine.keys import BEATS, LETTERS, PROCESS, WORKERS, QueueKeys
from workers.engine.policy import QueuePolicy, RateLimit
from workers.engine.reconciler import REPAIR_KINDS, REPAIRED
from workers.engine.recovery import DEAD_AFTER, MAX_CHECK_GAP
from workers.monitoring import thresholds
from workers.monitoring.background_value import BackgroundValue
from workers.monitoring.roster import Evidence, Lease, age, number, read_leases, roster, text, with_channel
from workers.monitoring.snapshot import (
    DatabaseSnapshot,
    Pause,
    QueueSnapshot,
    RedisSnapshot,
    Snapshot,
    WorkerSnapshot,
)

OVERVIEW_SCRIPT = Script.load(__name__, "overview")

_HISTORY = 60  # minutes
_RECENT = 5  # minutes over which rates and percentiles are taken, the current one with them
_RECONNECT_SECONDS = 3.0
"""A process that was connected so long ago may be reconnecting: one whose subscription broke is not gone."""
_RECOVERY_SECONDS = 4.0
"""Seconds after an outage of Redis in which the living beat and subscribe again."""
_MOST = 2**53  # a counter that claims more was not written by us
_BUCKET = re.compile(r"([wr])(\d{1,2})", re.ASCII)

Minute = dict[str, int]
"""The counters of one minute: outcomes, ``w…`` and ``r…`` buckets, depth."""


class SnapshotReader:
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
        letters: DeadLetterRepository,
        *,
        environment: str,
        weather_provider: str,
    ) -> None:
        self._redis = redis
        self._safe_url = redact_url(redis_url)
        self._policies = policies
        self._database = database
        self._environment = environment
        self._weather_provider = weather_provider
        self._minutes: dict[str, dict[int, Minute]] = {policy.name: {} for policy in policies}
        self._connected_at: dict[str, float] = {}
        """By worker: when its channel was last seen to have a subscriber, by the monotonic clock."""
        self._clock_offset = 0.0
        self._redis_error: str | None = None
        self._failed_at = -math.inf
        """When Redis last did not answer, by the monotonic clock."""
        self._memory = BackgroundValue(self._redis.info)
        self._dead = BackgroundValue(letters.count)
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
            self._failed_at = time.monotonic()
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
            alerts=thresholds.alerts(
                queues if redis.error is None else (),
                redis,
                database,
                oldest,
                workers if redis.error is None else (),
            ),
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
        replies, connected = await asyncio.gather(
            run_scripts(self._redis, calls), self._connected(with_channel(workers_))
        )
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        now = int(replies[0][0]) / 1e6
        self._clock_offset = now - time.time()
        recovering = time.monotonic() - self._failed_at < _RECOVERY_SECONDS
        evidence = Evidence(workers_, dict(beats), now, connected, recovering)
        leases = [read_leases(reply[3]) for reply in replies]
        workers = roster(evidence, chain.from_iterable(leases))
        queues = tuple(
            replace(
                self._queue(policy, reply, wanted[policy.name]),
                **_held(policy, held, workers, evidence, _look_age(reply[10], now)),
            )
            for policy, reply, held in zip(self._policies, replies, leases, strict=True)
        )
        since = number(first[0][1]) if first else None
        return queues, workers, waiting, None if since is None else max(0.0, now - since / 1000)

    async def _connected(self, workers: Sequence[str]) -> dict[str, bool]:
        """Which of ``workers`` are subscribed to their channel; none of them when Redis does not tell."""
        if not workers:
            return {}
        try:
            reply = await execute(self._redis, "PUBSUB", "NUMSUB", *(f"{PROCESS}{name}" for name in workers))
            counts = [int(count) for count in reply[1::2]]
        except (ResponseError, ValueError, TypeError):
            return {}
        now = time.monotonic()
        before = self._connected_at
        self._connected_at = {
            name: now if count else before.get(name, -math.inf)
            for name, count in zip(workers, counts, strict=False)
        }
        return {name: now - at < _RECONNECT_SECONDS for name, at in self._connected_at.items()}

    def _missing(self, queue: str, minute: int) -> list[int]:
        """The minutes of the last hour, before this one, that are not known; all others are forgotten."""
        hour = range(minute - _HISTORY + 1, minute)
        known = self._minutes[queue] = {
            number: figures for number, figures in self._minutes[queue].items() if number in hour
        }
        return [number for number in hour if number not in known]

    def _overview(self, policy: QueuePolicy, minutes: Sequence[int]) -> ScriptCall:
        keys = QueueKeys.of(policy.name)
        window = round(policy.rate_limit.seconds * 1e6) if policy.rate_limit else 0
        return OVERVIEW_SCRIPT.call(
            [
                *(keys.queued, keys.incomplete, keys.leases, keys.starts, keys.pause),
                *(keys.totals, keys.minute, keys.looks),
            ],
            [window, *minutes],
        )

    def _queue(self, policy: QueuePolicy, reply: list[Any], wanted: list[int]) -> QueueSnapshot:
        now = int(reply[0]) / 1e6
        depth, incomplete, flat, starts, oldest, head, pause, totals, current, _, broken, *closed = reply[1:]
        leases = len(flat) // 2
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
        first = number(oldest)
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
            next_start_in=_next_start(policy.rate_limit, first, now) if full else None,
            wait=histogram.percentiles(_buckets(recent, "w")),
            run=histogram.percentiles(_buckets(recent, "r")),
            failure_rate=failed / (completed + failed) if completed + failed else None,
            throughput=_throughput(history, now),
            completed=total.get("completed", 0),
            failed=total.get("failed", 0),
            retried=total.get("retried", 0),
            repairs={kind: total.get(f"{REPAIRED}{kind}", 0) for kind in REPAIR_KINDS},
            broken_keys=tuple(text(key) for key in broken),
            dead_lettered=total.get("dead_lettered", 0),
            depth_history=_depths(history, depth),
            throughput_history=tuple(
                figures.get("completed", 0) if figures is not None else None for figures in history
            ),
            paused=_pause(pause),
            workers=0,
            usual_run=histogram.percentile(_buckets([minute for minute in history if minute], "r"), 0.5),
        )


def _held(
    policy: QueuePolicy,
    leases: Sequence[Lease],
    workers: Sequence[WorkerSnapshot],
    evidence: Evidence,
    looked: float,
) -> dict[str, Any]:
    """Who holds the jobs in flight, and for how long; ``looked``: see `_look_age`."""
    by_id = {worker.id: worker for worker in workers}
    holders = [by_id[lease.worker] for lease in leases if lease.worker in by_id]
    dead = [worker for worker in holders if worker.state == "dead"]
    blocked = [worker for worker in holders if worker.state == "blocked"]
    living = [worker for worker in workers if worker.alive and policy.name in worker.queues]
    ages = [age(lease.taken and lease.taken * 1000, evidence.now) for lease in leases]
    known = [found for found in ages if found is not None]
    full = len(leases) >= policy.concurrency and len(known) == len(ages)
    silent = [evidence.beat_age(worker.id) for worker in dead]
    waits = [DEAD_AFTER - looked, *(DEAD_AFTER - found for found in silent if found is not None)]
    return {
        "workers": len(living),
        "held_by_dead": len(dead),
        "dead_for": max((worker.last_beat_age or 0.0 for worker in dead), default=None),
        "recover_in": max(0.0, *waits) if dead and any(not worker.draining for worker in living) else None,
        "held_by_blocked": len(blocked),
        "blocked_where": next((worker.blocked_where for worker in blocked), None),
        "oldest_running": max(known, default=None),
        # No place is free, so nothing has ended since the newest of them was taken.
        "full_for": min(known) if full and known else None,
    }


def _next_start(limit: RateLimit | None, oldest: float | None, now: float) -> float | None:
    """Seconds until a full window, whose ``oldest`` start is given in microseconds, admits another."""
    if limit is None or oldest is None:
        return None
    return min(limit.seconds, max(0.0, oldest / 1e6 + limit.seconds - now))


def parse_pause(fields: dict[bytes, bytes]) -> Pause | None:
    """The pause that a queue's pause hash says, None where it is empty."""
    if not fields:
        return None
    said = {text(key): text(value) for key, value in fields.items()}
    return Pause(by=said.get("by", "?"), reason=said.get("reason", ""), since=number(said.get("since")))


def _pause(flat: list[bytes]) -> Pause | None:
    return parse_pause(dict(_pairs(flat)))


def _pairs(flat: list[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _minute(flat: list[bytes]) -> Minute:
    counters = {text(key): _whole(value) for key, value in _pairs(flat)}
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
            number(job.get(name)) or 0.0 for name in ("queued", "touched", "scheduled")
        )
    except (ValueError, AttributeError, RecursionError):
        return None
    ready = max(queued, touched) / 1000
    return max(0.0, now - max(ready, scheduled)) if ready > 0 else None


def _look_age(looks: Sequence[bytes | None], now: float) -> float:
    """Seconds for which somebody has looked for dead holders without a gap: see `lost.lua`."""
    since, last = (age(number(value), now) for value in looks)
    return since if since is not None and last is not None and last <= MAX_CHECK_GAP else 0.0


def _whole(value: Any) -> int | None:
    found = number(value)
    return None if found is None else max(0, min(int(found), _MOST))
