"""Reads what Redis holds of the queues and the workers, in two round trips."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from storage.redis.client import execute
from storage.redis.scripts import Argument, Script, ScriptCall, run_scripts
from workers.engine.history import KEEP_POINT, History
from workers.engine.keys import ASK_MESSAGE, BEATS, CRON, LETTERS, OBSERVED, PROCESS, WORKERS, QueueKeys
from workers.engine.policy import TIMINGS, QueuePolicy
from workers.engine.schedules import Schedule
from workers.monitoring.alert_evaluation import (
    queue_conditions,
    schedule_conditions,
    worker_conditions,
)
from workers.monitoring.alert_rules import BACKLOG, FAILING, STALLED, Thresholds
from workers.monitoring.conditions import Condition, QueueFacts, ended_moments
from workers.monitoring.history_conditions import LatencyEvaluator
from workers.monitoring.history_reader import HistoryReader
from workers.monitoring.overview import OverviewReply, queue_snapshot
from workers.monitoring.roster import (
    Evidence,
    Lease,
    age,
    lost_workers,
    number,
    read_leases,
    roster,
    to_be_asked,
    with_channel,
)
from workers.monitoring.snapshot import LostWorker, QueueSnapshot, WorkerSnapshot

OVERVIEW_SCRIPT = Script.load(__name__, "overview", functions=KEEP_POINT)

_RECONNECT_SECONDS = 3.0
"""A process that was connected so recently may be reconnecting, and counts as connected."""


@dataclass(frozen=True, slots=True)
class ClusterState:
    """The queues and the workers by Redis at ``now``, Unix seconds of the server."""

    now: float = 0.0
    queues: tuple[QueueSnapshot, ...] = ()
    workers: tuple[WorkerSnapshot, ...] = ()
    letters_waiting: int = 0
    letters_since: float | None = None
    """Unix second since which the oldest of these letters has waited."""
    conditions: tuple[Condition, ...] = ()
    """The problems of queues and workers."""
    observed: Mapping[bytes, bytes] = field(default_factory=dict)
    lost: tuple[LostWorker, ...] = ()
    """Processes that ended without a drain, and held no jobs."""

    @property
    def letters_oldest_age(self) -> float | None:
        """Seconds for which the oldest letter has waited for the database."""
        return None if self.letters_since is None else max(0.0, self.now - self.letters_since)


class _Records(NamedTuple):
    """Replies of one round trip: what Redis holds of the cluster, besides its queues."""

    seconds: int
    now: float
    """Both are the server's time, the first in whole seconds."""
    presences: Mapping[bytes, bytes]
    beats: Mapping[bytes, float]
    letters_waiting: int
    oldest_letter: float | None
    """Unix second of the death of the letter that has waited for the longest."""
    observed: Mapping[bytes, bytes]
    schedules: Mapping[bytes, bytes]


class ClusterReader:
    """Remembers the history that it has read, and when each process was last connected."""

    def __init__(
        self,
        redis: Redis,
        policies: Sequence[QueuePolicy],
        thresholds: Thresholds,
        schedules: Sequence[Schedule] = (),
    ) -> None:
        self._redis = redis
        self._policies = policies
        self._thresholds = thresholds
        self._schedules = schedules
        self._histories = {policy.name: HistoryReader() for policy in policies}
        self._latencies = {policy.name: LatencyEvaluator.make() for policy in policies}
        self._connected_at: dict[str, float] = {}
        """By worker: when its channel last had a subscriber, by the monotonic clock."""

    async def read(self, *, recovering: bool, keep_history: bool, unwritable: bool = False) -> ClusterState:
        """Return the state now.  Raises RedisError.

        ``recovering`` and ``unwritable``: as in `Evidence`.  ``keep_history``: keep a point of the history of
        each queue that holds jobs, as one process does for the cluster.
        """
        records = await self._read_records()
        may_ask = not (recovering or unwritable)
        quiet = to_be_asked(records.presences, records.beats, records.seconds) if may_ask else []
        overviews, connected, asked = await asyncio.gather(
            self._overviews(records.seconds, keep_history=keep_history),
            self._read_connected(with_channel(records.presences)),
            self._request_signs(quiet, records.seconds),
        )
        now = overviews[0].now if overviews else records.now
        presences = {**records.presences, **asked}
        evidence = Evidence(presences, records.beats, now, connected, recovering, unwritable)
        leases = [
            read_leases(overview.leases, policy.name)
            for policy, overview in zip(self._policies, overviews, strict=True)
        ]
        workers = roster(evidence, chain.from_iterable(leases))
        ended = ended_moments(records.observed, now)
        queues, conditions = self._queues(overviews, leases, workers, evidence, ended)
        conditions = [
            *worker_conditions(workers, now),
            *conditions,
            *schedule_conditions(self._served_schedules(queues), records.schedules, now),
        ]
        if unwritable:  # nothing can start or end, so this is not a stall
            conditions = [condition for condition in conditions if condition.name != STALLED]
        return ClusterState(
            now,
            tuple(queues),
            workers,
            records.letters_waiting,
            None if records.oldest_letter is None else min(now, records.oldest_letter),
            tuple(conditions),
            records.observed,
            lost_workers(evidence, chain.from_iterable(leases)),
        )

    async def _read_records(self) -> _Records:
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.time()
        pipeline.hgetall(WORKERS)
        pipeline.zrange(BEATS, 0, -1, withscores=True)
        pipeline.zcard(LETTERS)
        pipeline.zrange(LETTERS, 0, 0, withscores=True)
        pipeline.hgetall(OBSERVED)
        pipeline.hgetall(CRON)
        replies = await pipeline.execute(raise_on_error=False)
        schedules, observed = (_hash_or_empty(replies.pop()) for _ in range(2))
        if error := next((reply for reply in replies if isinstance(reply, Exception)), None):
            raise error
        (seconds, micros), presences, beats, waiting, oldest = replies
        died_ms = number(oldest[0][1]) if oldest else None
        return _Records(
            seconds=seconds,
            now=seconds + micros / 1e6,
            presences=presences,
            beats=dict(beats),
            letters_waiting=waiting,
            oldest_letter=None if died_ms is None else died_ms / 1000,
            observed=observed,
            schedules=schedules,
        )

    def history(self, queue: str) -> History | None:
        """Return the points of a queue's history, as last read; None before that, and for another queue."""
        reader = self._histories.get(queue)
        return None if reader is None else reader.history

    async def _overviews(self, seconds: int, *, keep_history: bool) -> list[OverviewReply]:
        calls = [
            self._overview_call(policy, self._histories[policy.name].ranges(seconds), keep_history)
            for policy in self._policies
        ]
        replies = await run_scripts(self._redis, calls)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return list(map(OverviewReply.parse, replies))

    def _overview_call(
        self, policy: QueuePolicy, ranges: Sequence[Argument], keep_history: bool
    ) -> ScriptCall:
        keys = QueueKeys.of(policy.name)
        window = round(policy.rate_limit.seconds * 1e6) if policy.rate_limit else 0
        names = [keys.queued, keys.incomplete, keys.leases, keys.starts, keys.pause]
        names += [keys.totals, keys.history, keys.looks, keys.turns]
        limit = int(self._thresholds.limit(BACKLOG, policy.name))
        return OVERVIEW_SCRIPT.call(names, [window, int(keep_history), limit, *ranges])

    def _queues(
        self,
        overviews: Sequence[OverviewReply],
        leases: Sequence[Sequence[Lease]],
        workers: Sequence[WorkerSnapshot],
        evidence: Evidence,
        ended: Mapping[str, float],
    ) -> tuple[list[QueueSnapshot], list[Condition]]:
        queues: list[QueueSnapshot] = []
        conditions: list[Condition] = []
        for policy, overview, queue_leases in zip(self._policies, overviews, leases, strict=True):
            queue, problems = self._queue(policy, overview, queue_leases, workers, evidence, ended)
            queues.append(queue)
            conditions += problems
        return queues, conditions

    def _served_schedules(self, queues: Sequence[QueueSnapshot]) -> list[Schedule]:
        served = {queue.name for queue in queues if queue.workers}
        return [schedule for schedule in self._schedules if schedule.queue in served]

    def _queue(
        self,
        policy: QueuePolicy,
        overview: OverviewReply,
        leases: Sequence[Lease],
        workers: Sequence[WorkerSnapshot],
        evidence: Evidence,
        ended: Mapping[str, float],
    ) -> tuple[QueueSnapshot, list[Condition]]:
        reader = self._histories[policy.name]
        history = reader.add(overview.points, overview.point)
        baselines, conditions = self._latencies[policy.name].evaluate(
            policy.name, history, reader.last_week, self._thresholds, ended
        )
        queue = replace(
            queue_snapshot(policy, overview, history),
            **_holders(policy, leases, workers, evidence, overview.checked_for),
            wait_baseline=baselines["wait"],
            run_baseline=baselines["run"],
            depth_limit=self._thresholds.limit(BACKLOG, policy.name),
            failure_limit=self._thresholds.limit(FAILING, policy.name),
            stalled_limit=self._thresholds.limit(STALLED, policy.name),
        )
        serving = [worker for worker in workers if worker.alive and policy.name in worker.queues]
        facts = QueueFacts(queue, overview, history, serving, ended)
        return queue, [*queue_conditions(facts, self._thresholds), *conditions]

    async def _request_signs(self, workers: Sequence[str], now: int) -> dict[bytes, bytes]:
        """Ask for a sign of life, and note that for all readers; an unreachable one is not asked.

        Returns what was noted.
        """
        if not workers:
            return {}
        pipeline = self._redis.pipeline(transaction=False)
        for name in workers:
            pipeline.publish(f"{PROCESS}{name}", ASK_MESSAGE)
        reached = await pipeline.execute(raise_on_error=False)
        noted = {
            b"asked:" + name.encode(): b"%d" % (now * 1000)
            for name, count in zip(workers, reached, strict=True)
            if isinstance(count, int) and count > 0
        }
        if noted:
            with suppress(ResponseError):
                await execute(self._redis, "HSET", WORKERS, *chain.from_iterable(noted.items()))
        return noted

    async def _read_connected(self, workers: Sequence[str]) -> dict[str, bool]:
        """Return which of ``workers`` are subscribed to their channel; empty if Redis does not answer."""
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


def _hash_or_empty(reply: Any) -> Mapping[bytes, bytes]:
    """Return a hash, empty if another program gave its key another type.

    The rest of the snapshot is right.
    """
    return reply if isinstance(reply, dict) else {}


def _handler_problem(queue: str, serving: Sequence[WorkerSnapshot]) -> str | None:
    """Return why none of the processes that serve the queue can start its handler."""
    problems = [worker.handler_problems.get(queue) for worker in serving]
    return problems[0] if all(problems) and problems else None


def _holders(
    policy: QueuePolicy,
    leases: Sequence[Lease],
    workers: Sequence[WorkerSnapshot],
    evidence: Evidence,
    checked_for: float,
) -> dict[str, Any]:
    """Return the holders of the jobs in flight, and for how long; ``checked_for``: see `OverviewReply`."""
    by_id = {worker.id: worker for worker in workers}
    holders = [by_id[lease.worker] for lease in leases if lease.worker in by_id]
    dead = [worker for worker in holders if worker.state == "dead"]
    blocked = [worker for worker in holders if worker.state == "blocked"]
    living = [worker for worker in workers if worker.alive and policy.name in worker.queues]
    return {
        "workers": len(living),
        "held_by_dead": len(dead),
        "dead_for": max((worker.last_beat_age or 0.0 for worker in dead), default=None),
        "recover_in": _recover_in(dead, living, evidence, checked_for),
        "held_by_blocked": len(blocked),
        "blocked_where": next((worker.blocked_where for worker in blocked), None),
        "handler_problem": _handler_problem(policy.name, living),
        **_lease_ages(policy, leases, evidence.now),
    }


def _recover_in(
    dead: Sequence[WorkerSnapshot], living: Sequence[WorkerSnapshot], evidence: Evidence, checked_for: float
) -> float | None:
    """Return in how many seconds the jobs of dead processes are requeued; None if that is not to come."""
    if not dead or all(worker.draining for worker in living):
        return None
    beat_ages = [evidence.beat_age(worker.id) for worker in dead]
    silent_for = [checked_for, *(beat_age for beat_age in beat_ages if beat_age is not None)]
    return max(0.0, *(TIMINGS.dead_after_seconds - seconds for seconds in silent_for))


def _lease_ages(policy: QueuePolicy, leases: Sequence[Lease], now: float) -> dict[str, float | None]:
    """Return for how long the oldest job in flight has run, and for how long no slot has been free."""
    ages = [age(lease.taken and lease.taken * 1000, now) for lease in leases]
    known = [lease_age for lease_age in ages if lease_age is not None]
    full = len(leases) >= policy.concurrency and len(known) == len(ages)
    # While no slot is free, nothing has ended since the newest of them was taken.
    return {
        "oldest_running": max(known, default=None),
        "full_for": min(known, default=None) if full else None,
    }
