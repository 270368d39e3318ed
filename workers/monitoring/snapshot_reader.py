"""Reads the cluster into a snapshot, in two round trips."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from storage.database.engine import Database
from storage.dead_letters.repository import DeadLetterRepository
from storage.errors import DatabaseUnavailableError, one_line
from storage.redis.client import execute, redact_url
from storage.redis.refusals import reason, refusal_of
from storage.redis.scripts import Script, ScriptCall, run_scripts
from workers.engine.keys import BEATS, LETTERS, PROCESS, WORKERS, QueueKeys
from workers.engine.policy import TIMINGS, QueuePolicy
from workers.monitoring import thresholds
from workers.monitoring.background_value import BackgroundValue
from workers.monitoring.overview import (
    HISTORY_MINUTES,
    Minute,
    OverviewReply,
    queue_snapshot,
    whole_number,
)
from workers.monitoring.roster import Evidence, Lease, age, number, read_leases, roster, with_channel
from workers.monitoring.snapshot import (
    DatabaseSnapshot,
    QueueSnapshot,
    RedisSnapshot,
    Snapshot,
    WorkerSnapshot,
)

OVERVIEW_SCRIPT = Script.load(__name__, "overview")

_RECONNECT_SECONDS = 3.0
"""A process that was connected so recently may be reconnecting, and counts as connected."""
_RECOVERY_SECONDS = 4.0
"""After an outage of Redis: within this, living processes send heartbeats and subscribe again."""


@dataclass(frozen=True, slots=True)
class ClusterState:
    """What Redis holds of the queues and the workers."""

    queues: tuple[QueueSnapshot, ...] = ()
    workers: tuple[WorkerSnapshot, ...] = ()
    letters_waiting: int = 0
    letters_oldest_age: float | None = None


class SnapshotReader:
    """Takes snapshots.  Minutes that are over do not change: they are read once and remembered.

    What changes slowly or costs much (Redis' memory, the number of dead letters) is refreshed in the
    background: only the first snapshot waits for it.
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
        self._redis_failure: RedisSnapshot | None = None
        """Of the last snapshot; None if Redis answered."""
        self._failed_at = -math.inf
        """When Redis last did not answer, by the monotonic clock."""
        self._info = BackgroundValue(self._redis.info)
        self._dead_letters = BackgroundValue(letters.count, _describe_database_error)
        self._last: Snapshot | None = None

    async def close(self) -> None:
        """Cancel what is refreshed in the background."""
        await self._info.close()
        await self._dead_letters.close()

    def invalidate_dead_letters(self) -> None:
        """The number of dead letters has changed: the next snapshot counts them again."""
        self._dead_letters.invalidate()

    async def snapshot(self, *, loop_lag: float | None, drain_deadline_in: float | None) -> Snapshot:
        """The state of the cluster now.  While Redis is down: the last figures, with the error."""
        self._info.refresh_if_due()
        self._dead_letters.refresh_if_due()
        cluster = await self._cluster_or_last()
        if self._last is None:  # a program that takes a single snapshot needs all of it
            await self._info.ready.wait()
            await self._dead_letters.ready.wait()
        redis, database = self._redis_snapshot(), self._database_snapshot()
        is_up = redis.error is None
        self._last = Snapshot(
            taken_at=time.time() + self._clock_offset,
            environment=self._environment,
            queues=cluster.queues,
            workers=cluster.workers,
            redis=redis,
            database=database,
            dead_letters=self._dead_letters.value,
            letters_waiting=cluster.letters_waiting,
            letters_oldest_age=cluster.letters_oldest_age,
            loop_lag=loop_lag,
            weather_provider=self._weather_provider,
            alerts=thresholds.alerts(
                cluster.queues if is_up else (),
                redis,
                database,
                cluster.letters_oldest_age,
                cluster.workers if is_up else (),
            ),
            drain_deadline_in=drain_deadline_in,
        )
        return self._last

    async def _cluster_or_last(self) -> ClusterState:
        try:
            cluster = await self._cluster()
        except (RedisError, OSError) as error:
            self._redis_failure = _redis_failure(self._safe_url, error)
            self._failed_at = time.monotonic()
            self._info.invalidate()
            last = self._last
            return ClusterState(last.queues, last.workers, last.letters_waiting) if last else ClusterState()
        self._redis_failure = None
        return cluster

    def _redis_snapshot(self) -> RedisSnapshot:
        info = self._info.value
        if self._redis_failure is not None or info is None:
            return self._redis_failure or RedisSnapshot(self._safe_url, None)
        return RedisSnapshot(
            self._safe_url,
            None,
            version=str(info.get("valkey_version") or info.get("redis_version") or "") or None,
            memory_used=whole_number(info.get("used_memory")),
            memory_limit=whole_number(info.get("maxmemory")) or None,
            eviction_policy=str(info.get("maxmemory_policy") or "") or None,
        )

    def _database_snapshot(self) -> DatabaseSnapshot:
        return DatabaseSnapshot(self._database.safe_url, self._dead_letters.error)

    async def _cluster(self) -> ClusterState:
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.time()
        pipeline.hgetall(WORKERS)
        pipeline.zrange(BEATS, 0, -1, withscores=True)
        pipeline.zcard(LETTERS)
        pipeline.zrange(LETTERS, 0, 0, withscores=True)
        (seconds, _), presences, beats, waiting, oldest = await pipeline.execute()
        # The server's minute, since by another clock one that is not over might be remembered for good.
        missing = {
            policy.name: self._missing_minutes(policy.name, seconds // 60) for policy in self._policies
        }
        calls = [_overview_call(policy, missing[policy.name]) for policy in self._policies]
        replies, connected = await asyncio.gather(
            run_scripts(self._redis, calls), self._connected(with_channel(presences))
        )
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        overviews = list(map(OverviewReply.parse, replies))
        now = overviews[0].now
        self._clock_offset = now - time.time()
        recovering = time.monotonic() - self._failed_at < _RECOVERY_SECONDS
        evidence = Evidence(presences, dict(beats), now, connected, recovering)
        leases = [read_leases(overview.leases) for overview in overviews]
        workers = roster(evidence, chain.from_iterable(leases))
        queues = tuple(
            self._queue(policy, overview, missing[policy.name], queue_leases, workers, evidence)
            for policy, overview, queue_leases in zip(self._policies, overviews, leases, strict=True)
        )
        died_at = number(oldest[0][1]) if oldest else None
        oldest_age = None if died_at is None else max(0.0, now - died_at / 1000)
        return ClusterState(queues, workers, waiting, oldest_age)

    def _queue(
        self,
        policy: QueuePolicy,
        overview: OverviewReply,
        missing: Sequence[int],
        leases: Sequence[Lease],
        workers: Sequence[WorkerSnapshot],
        evidence: Evidence,
    ) -> QueueSnapshot:
        remembered = self._minutes[policy.name]
        remembered.update(zip(missing, overview.minutes, strict=True))
        return replace(
            queue_snapshot(policy, overview, remembered),
            **_holders(policy, leases, workers, evidence, overview.checked_for),
        )

    async def _connected(self, workers: Sequence[str]) -> dict[str, bool]:
        """Which of ``workers`` are subscribed to their channel; empty if Redis does not tell."""
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

    def _missing_minutes(self, queue: str, minute: int) -> list[int]:
        """The minutes of the last hour, before this one, that are not remembered; forgets older ones."""
        hour = range(minute - HISTORY_MINUTES + 1, minute)
        remembered = self._minutes[queue] = {
            number: counters for number, counters in self._minutes[queue].items() if number in hour
        }
        return [number for number in hour if number not in remembered]


def _redis_failure(safe_url: str, error: Exception) -> RedisSnapshot:
    refusal = refusal_of(error)
    return RedisSnapshot(
        safe_url,
        reason(error),
        refusal=None if refusal is None else refusal.problem,
        timed_out=isinstance(error, TimeoutError | RedisTimeoutError),
    )


def _describe_database_error(error: Exception) -> str:
    """The error in one line; without the URL, which the snapshot has, if it does not answer."""
    if isinstance(error, DatabaseUnavailableError) and error.cause:
        return ": ".join(filter(None, (error.cause, error.fix)))
    return one_line(error)


def _overview_call(policy: QueuePolicy, minutes: Sequence[int]) -> ScriptCall:
    keys = QueueKeys.of(policy.name)
    window = round(policy.rate_limit.seconds * 1e6) if policy.rate_limit else 0
    names = [keys.queued, keys.incomplete, keys.leases, keys.starts, keys.pause]
    names += [keys.totals, keys.minute, keys.looks]
    return OVERVIEW_SCRIPT.call(names, [window, *minutes])


def _holders(
    policy: QueuePolicy,
    leases: Sequence[Lease],
    workers: Sequence[WorkerSnapshot],
    evidence: Evidence,
    checked_for: float,
) -> dict[str, Any]:
    """Who holds the jobs in flight, and for how long; ``checked_for``: see `OverviewReply`."""
    by_id = {worker.id: worker for worker in workers}
    holders = [by_id[lease.worker] for lease in leases if lease.worker in by_id]
    dead = [worker for worker in holders if worker.state == "dead"]
    blocked = [worker for worker in holders if worker.state == "blocked"]
    living = [worker for worker in workers if worker.alive and policy.name in worker.queues]
    lease_ages = [age(lease.taken and lease.taken * 1000, evidence.now) for lease in leases]
    ages = [lease_age for lease_age in lease_ages if lease_age is not None]
    full = len(leases) >= policy.concurrency and len(ages) == len(lease_ages)
    beat_ages = [evidence.beat_age(worker.id) for worker in dead]
    silent_for = [checked_for, *(beat for beat in beat_ages if beat is not None)]
    waits = [TIMINGS.dead_after_seconds - seconds for seconds in silent_for]
    return {
        "workers": len(living),
        "held_by_dead": len(dead),
        "dead_for": max((worker.last_beat_age or 0.0 for worker in dead), default=None),
        "recover_in": max(0.0, *waits) if dead and any(not worker.draining for worker in living) else None,
        "held_by_blocked": len(blocked),
        "blocked_where": next((worker.blocked_where for worker in blocked), None),
        "oldest_running": max(ages, default=None),
        # No slot is free, so nothing has ended since the newest of them was taken.
        "full_for": min(ages) if full and ages else None,
    }
