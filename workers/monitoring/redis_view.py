"""Reads a snapshot's part of one Redis: its queues, the processes on it, and its problems."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from storage.redis.client import redact_url
from storage.redis.refusals import explain_refusal, reason, refusal_of
from workers.engine.policy import QueuePolicy
from workers.engine.probe import check_write
from workers.engine.schedules import Schedule
from workers.monitoring.alert_evaluation import alerts, server_conditions
from workers.monitoring.alert_rules import REDIS_MEMORY, Thresholds
from workers.monitoring.background_value import BackgroundValue
from workers.monitoring.cluster_reader import ClusterReader, ClusterState
from workers.monitoring.conditions import Condition
from workers.monitoring.observations import Observations
from workers.monitoring.overview import unread_queue, whole_number
from workers.monitoring.roster import text
from workers.monitoring.snapshot import Alert, DatabaseSnapshot, RedisOutage, RedisSnapshot

_RECOVERY_SECONDS = 10.0
"""Once Redis answers again: within this, living processes send heartbeats and subscribe again.  A connection
that is being opened may take its timeout of 5 s, and the next one comes 2 s later."""
_REWRITE_SECONDS = 10.0
"""Once Redis takes writes again: within this, living processes send heartbeats and publish their presence."""
_FIRST_SECONDS = 2.5
"""Timeout of the first reading if the try to write before it had no reply in time."""
_SILENT_SECONDS = 5.0
"""Between two readings of one of several servers that is silent: each takes all of its timeout."""
_OWN_CODES = frozenset({"NOPERM", "NOAUTH", "UNKNOWN"})
"""Refusals that are about our user or a setting.  A user that may only read is not an outage of Redis."""


class WriteRefusal(NamedTuple):
    """Why a server takes no writes: ``code`` as in `Refusal`, ``message`` to follow its name."""

    code: str
    message: str


class RedisView:
    """Reads one Redis again and again, and remembers its last figures for when it is unavailable.

    ``name``, ``queues`` and ``subject`` distinguish it: see `RedisSnapshot`.  ``read_seconds`` is the
    timeout of a reading: with several servers a silent one must not delay what is known of the others.
    """

    def __init__(
        self,
        redis: Redis,
        url: str,
        policies: Sequence[QueuePolicy],
        thresholds: Thresholds,
        schedules: Sequence[Schedule],
        *,
        name: str = "Redis",
        queues: tuple[str, ...] = (),
        subject: str = "",
        read_seconds: float | None = None,
    ) -> None:
        self.url = url
        self._policies = policies
        self.reader = ClusterReader(redis, policies, thresholds, schedules)
        self._redis = redis
        self._thresholds = thresholds
        self._blank = RedisSnapshot(
            redact_url(url),
            None,
            nearly_full=thresholds.limit(REDIS_MEMORY),
            name=name,
            queues=queues,
            subject=subject,
        )
        self._read_seconds = read_seconds
        self._observations = Observations(redis)
        self._clock_offset = 0.0
        self._failure: RedisSnapshot | None = None
        """The error of the last reading; None if Redis answered."""
        self._failed_at = -math.inf
        """When Redis last did not answer, by the monotonic clock."""
        self._answers_since = -math.inf
        """When Redis first answered after that, by the monotonic clock."""
        self._unwritable_at = -math.inf
        """When Redis last took no writes, by the monotonic clock."""
        self._info = BackgroundValue(redis.info)
        self._refusal = BackgroundValue(self._find_refusal)
        self._last: ClusterState | None = None

    @property
    def is_up(self) -> bool:
        """Whether it answered the last reading."""
        return self._failure is None

    @property
    def now(self) -> float:
        """Unix seconds by its clock."""
        return time.time() + self._clock_offset

    def wait_from_start(self) -> None:
        """Count no problem as lasting at the first reading: many will follow."""
        self._observations.wait_from_start()

    async def close(self) -> None:
        """Cancel what is refreshed in the background."""
        await self._info.close()
        await self._refusal.close()

    async def read(self, *, keep_history: bool, outage: RedisOutage | None = None) -> ClusterState:
        """Return what Redis holds now.  While it is down: the last figures.  ``outage``: as in `alerts`."""
        is_first = self._last is None and self.is_up
        self._refusal.refresh_if_due()
        if is_first:  # what the first reading proves depends on it
            await self._refusal.ready.wait()
        self._info.refresh_if_due()
        unwritable = self._takes_no_writes(outage)
        was_silent = is_first and self._refusal.error is not None
        seconds = _FIRST_SECONDS if was_silent and self._read_seconds is None else self._read_seconds
        cluster = await self._cluster_or_last(seconds, keep_history=keep_history)
        if is_first:
            await self._info.ready.wait()
        return self._without_ready_workers(cluster) if unwritable and self.is_up else cluster

    def _takes_no_writes(self, outage: RedisOutage | None) -> bool:
        """Return whether it takes no writes now, as the engine finds out first, and note it."""
        refusal = self._refusal.value
        # A full one still takes what frees memory, or adds none.
        unwritable = outage is not None or (refusal is not None and refusal.code != "OOM")
        if unwritable:
            self._unwritable_at = time.monotonic()
        return unwritable

    def _without_ready_workers(self, cluster: ClusterState) -> ClusterState:
        reason = f"{self._blank.name} takes no writes"
        return replace(
            cluster,
            workers=tuple(replace(one, unready=(*one.unready, reason)) for one in cluster.workers),
        )

    async def read_now(self) -> ClusterState:
        """Return what Redis holds now.  Raises RedisError, and TimeoutError if that takes too long."""
        if self._is_silent and time.monotonic() - self._failed_at < _SILENT_SECONDS:
            raise TimeoutError("it was silent a moment ago")
        async with asyncio.timeout(self._read_seconds):
            return await self.reader.read(recovering=False, keep_history=False)

    async def alerts(
        self,
        cluster: ClusterState,
        outage: RedisOutage | None,
        database: DatabaseSnapshot | None = None,
        others: Sequence[Condition] = (),
    ) -> tuple[Alert, ...]:
        """Return the problems by ``cluster``, the last reading, with their times; of ``database``, too.

        ``outage``: that Redis fails for the engine of this process; it may answer to others.
        ``others`` count while Redis answers.
        """
        observed = set(map(text, cluster.observed))
        conditions = [
            *server_conditions(
                self.snapshot(),
                database,
                cluster.letters_since,
                self.now,
                self._thresholds,
                observed,
                outage,
            ),
            *((*cluster.conditions, *others) if self.is_up else ()),
        ]
        stored = cluster.observed if self.is_up else None
        complete = await self._observations.complete(conditions, stored, self.now)
        return alerts(complete, self.now, self._thresholds)

    def snapshot(self) -> RedisSnapshot:
        """Return the server itself."""
        info = self._info.value
        refuses = None if self._refusal.value is None else self._refusal.value.message
        if self._failure is not None or info is None:
            return self._failure or replace(self._blank, refuses_writes=refuses)
        return replace(
            self._blank,
            refuses_writes=refuses,
            version=str(info.get("valkey_version") or info.get("redis_version") or "") or None,
            memory_used=whole_number(info.get("used_memory")),
            memory_limit=whole_number(info.get("maxmemory")) or None,
            eviction_policy=str(info.get("maxmemory_policy") or "") or None,
        )

    async def _cluster_or_last(self, seconds: float | None, *, keep_history: bool) -> ClusterState:
        moment = time.monotonic()
        unwritable = moment - self._unwritable_at < _REWRITE_SECONDS
        if self._is_silent and moment - self._failed_at < _SILENT_SECONDS:
            return self._last_figures()
        try:
            async with asyncio.timeout(seconds):
                cluster = await self.reader.read(
                    recovering=not self.is_up or moment - self._answers_since < _RECOVERY_SECONDS,
                    unwritable=unwritable,
                    keep_history=keep_history and not unwritable,
                )
        except (RedisError, OSError) as error:
            is_ours = isinstance(error, TimeoutError) and not str(error) and seconds is not None
            cause = TimeoutError(f"no reply within {seconds:g} s") if is_ours else error
            self._failure = self._describe_failure(cause)
            self._failed_at = time.monotonic()
            self._info.invalidate()
            return self._last_figures()
        if self._failure is not None:
            self._failure, self._answers_since = None, moment
        self._clock_offset = cluster.now - time.time()
        self._last = cluster
        return cluster

    @property
    def _is_silent(self) -> bool:
        """Whether the last reading took all of its time."""
        return self._read_seconds is not None and self._failure is not None and self._failure.timed_out

    def _last_figures(self) -> ClusterState:
        last = self._last or ClusterState()
        queues, error = last.queues, None if self._failure is None else self._failure.error
        if error is not None and self._blank.queues:
            read = {queue.name: replace(queue, redis_error=error) for queue in queues}
            queues = tuple(read.get(policy.name) or unread_queue(policy, error) for policy in self._policies)
        return ClusterState(queues=queues, workers=last.workers, letters_waiting=last.letters_waiting)

    async def _find_refusal(self) -> WriteRefusal | None:
        """Try to write, as a program that runs no workers would not find out otherwise."""
        try:
            await check_write(self._redis)
        except (RedisError, OSError) as error:
            refusal = refusal_of(error)
            if refusal is not None and refusal.code not in _OWN_CODES:
                return WriteRefusal(refusal.code, explain_refusal(error, refusal))
        return None  # if there was no answer at all, the snapshot finds out

    def _describe_failure(self, error: Exception) -> RedisSnapshot:
        refusal = refusal_of(error)
        return replace(
            self._blank,
            error=reason(error),
            refusal=None if refusal is None else refusal.problem,
            refusal_detail=None if refusal is None else explain_refusal(error, refusal),
            timed_out=isinstance(error, TimeoutError | RedisTimeoutError),
        )
