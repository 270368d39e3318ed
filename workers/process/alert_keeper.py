"""Keeps the life of alerts in the database, and has them notified: one process does it for the cluster."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from storage.database.events import EventSink, NewEvent
from storage.errors import StorageError
from storage.redis.lock import ExpiringLock
from storage.repositories.alert_history import (
    AlertChanges,
    AlertHistoryRepository,
    AlertRecord,
    FiringAlert,
)
from workers.engine.keys import ALERTING
from workers.engine.policy import NORMAL, PollIntervals
from workers.monitoring.alert_rules import BLOCKED, BY_NAME, DATABASE, REDIS
from workers.monitoring.descriptions import without_name
from workers.monitoring.snapshot import Snapshot
from workers.process.idle_checks import IdleChecks
from workers.process.worker_events import lost_event

log = structlog.get_logger(__name__)

_PASS_SECONDS = 15.0
"""Longest time that a pass may take before another process makes the next one."""
_FIRST_SECONDS = 20.0
"""From the start to the first pass: a process that starts ends alerts such as *no worker*."""
_LOST_PASSES = 2
"""A process that is missing in one pass only may be reconnecting, after an outage that we did not see."""
_REPEAT_SECONDS = 10.0
"""Longest time of a pass during an outage of Redis: one that saw the outage sees it again within this and a
pause, or it is over there."""
_WRITE_SECONDS, _WRITE_IN_OUTAGE_SECONDS = 10.0, 2.0
"""Timeout of writing what has changed; the second if the snapshot has the database as unavailable."""

TakeSnapshot = Callable[[], Awaitable[Snapshot]]
Notify = Callable[[AlertChanges], None]
NotifyUnrecorded = Callable[[Sequence[FiringAlert]], None]


class AlertKeeper:
    """``is_active``, without a request to a server: a queue of this process holds anything, or Redis fails.

    While nothing happens and no alert is there, ``idle`` finds reasons for a pass.  ``take_snapshot`` keeps
    a point of the history, too.
    """

    def __init__(
        self,
        redis: Redis,
        history: AlertHistoryRepository,
        take_snapshot: TakeSnapshot,
        *,
        is_active: Callable[[], bool],
        idle: IdleChecks,
        pace: PollIntervals = NORMAL,
        emit: EventSink,
        notify: Notify | None = None,
        notify_unrecorded: NotifyUnrecorded | None = None,
    ) -> None:
        self._redis = redis
        self._lock = ExpiringLock(redis, ALERTING, ttl_seconds=pace.alerts + _PASS_SECONDS)
        self._pace = pace
        self._idle = idle
        self._history = history
        self._take_snapshot = take_snapshot
        self._is_active = is_active
        self._emit = emit
        self._notify = notify
        self._notify_unrecorded = notify_unrecorded
        self._lost_passes: dict[str, int] = {}
        """By lost worker, the passes in succession that found it so."""
        self._outage: tuple[FiringAlert, datetime] | None = None
        """The outage of the database, and since when nothing could be written, until it is written."""
        self._is_open = True
        """Whether an alert is pending or fires, in the newest evaluation of this process."""

    async def run(self) -> None:
        """Make a pass every few seconds while there is reason to, until cancelled."""
        await asyncio.sleep(_FIRST_SECONDS)
        try:
            while True:
                try:
                    if await self.has_reason():
                        await self.check()
                except (RedisError, StorageError, OSError) as error:  # the next pass may succeed
                    log.debug("alerts were not checked", error=str(error))
                await asyncio.sleep(self._pace.alerts)
        finally:
            with suppress(RedisError, OSError):  # else another process waits until the lock expires
                await self._lock.release()

    async def has_reason(self) -> bool:
        """Return whether an alert is there, a queue holds jobs, or something else may be wrong."""
        if self._is_active():
            return True
        try:
            self._is_open = self._is_open or await self._idle.find_reason()
        except (RedisError, OSError):  # one that this process has no queues on may be down
            return True
        return self._is_open

    async def check(self) -> AlertChanges | None:
        """Make one pass; None if another process does it.  Raises RedisError, StorageError."""
        if not await self._holds_lock():
            self._is_open = False  # the process that holds the lock goes on until no alert is left
            return None
        snapshot = await self._take_snapshot()
        self._emit_lost(snapshot)
        firing = firing_alerts(snapshot)
        judged = _judged_by(snapshot, datetime.now(UTC), self._pace.alerts)
        in_outage = snapshot.database.problem is not None
        try:
            async with asyncio.timeout(_WRITE_IN_OUTAGE_SECONDS if in_outage else _WRITE_SECONDS):
                changes = await self._record(firing, judged=judged)
        except (StorageError, TimeoutError):
            self._note_outage(firing)
            raise
        is_unsure = any(passes < _LOST_PASSES for passes in self._lost_passes.values())
        self._is_open = bool(snapshot.alerts or changes.firing or is_unsure)
        for record in changes.fired:
            self._emit(alert_event("alert-fired", record))
        for record in changes.resolved:
            self._emit(alert_event("alert-resolved", record))
        if self._notify is not None:
            self._notify(changes)
        return changes

    async def _record(
        self, firing: Sequence[FiringAlert], *, judged: Callable[[AlertRecord], bool] | None
    ) -> AlertChanges:
        """Write what fires, and the outage of the database that this very write ends."""
        if self._outage is None:
            return await self._history.record(firing, datetime.now(UTC), judged=judged)
        outage, began = self._outage  # the snapshot was taken before the end
        firing = [alert for alert in firing if alert.alert != DATABASE]
        changes = await self._history.record(firing, datetime.now(UTC), judged=judged)
        record = await self._history.record_past(outage, began, datetime.now(UTC))
        self._outage = None
        self._emit(replace(alert_event("alert-fired", record), at=began))
        self._emit(alert_event("alert-resolved", record))
        return changes

    def _note_outage(self, firing: Sequence[FiringAlert]) -> None:
        alert = next((alert for alert in firing if alert.alert == DATABASE), None)
        if alert is not None and self._outage is None:
            self._outage = alert, datetime.now(UTC)
        if self._notify_unrecorded is not None:
            self._notify_unrecorded(firing)

    def _emit_lost(self, snapshot: Snapshot) -> None:
        before = self._lost_passes
        self._lost_passes = {worker.id: before.get(worker.id, 0) + 1 for worker in snapshot.lost}
        for worker in snapshot.lost:
            if self._lost_passes[worker.id] == _LOST_PASSES:
                self._emit(lost_event(worker))

    async def _holds_lock(self) -> bool:
        try:
            return await self._lock.acquire_or_renew()
        except (RedisError, OSError):
            return True  # Redis is down, as each process finds for itself; the database has each alert once


def firing_alerts(snapshot: Snapshot) -> list[FiringAlert]:
    """Return the alerts of a snapshot that belong into the history."""
    return [
        FiringAlert(
            alert.name,
            alert.queue or "",
            alert.subject,
            alert.message,
            alert.value,
            is_local=alert.name == REDIS,
        )
        for alert in snapshot.alerts
        if alert.fires or alert.state == "silenced"
    ]


def _judged_by(snapshot: Snapshot, now: datetime, pause: float) -> Callable[[AlertRecord], bool]:
    """Return a check for alerts that a snapshot can end: not those of a Redis that is down.

    Nor one of a Redis that another process saw down a moment ago, within a pass and ``pause`` seconds.
    """
    down = [redis for redis in snapshot.redises if redis.error is not None]
    subjects = {redis.subject for redis in down}
    failing = {alert.subject for alert in snapshot.alerts if alert.name == REDIS}
    is_alone = sum(worker.alive for worker in snapshot.workers) <= 1

    def is_judged(record: AlertRecord) -> bool:
        if record.alert == REDIS:
            seen_ago = math.inf if record.seen_at is None else now.timestamp() - record.seen_at
            return record.subject not in failing and (is_alone or seen_ago > pause + _REPEAT_SECONDS)
        if record.alert == DATABASE or not down:
            return True
        if record.queue:
            return snapshot.redis_of(record.queue).error is None
        if record.alert == BLOCKED or snapshot.redis.error is not None:
            return False
        return record.subject not in subjects

    return is_judged


def alert_event(kind: Literal["alert-fired", "alert-resolved"], record: AlertRecord) -> NewEvent:
    """Return the event that an alert began or ended; written once for the cluster."""
    fired = kind == "alert-fired"
    return NewEvent(
        kind,
        _describe(record, ": ") if fired else f"over: {_describe(record, '; last: ')}",
        queue=record.queue or None,
        subject=record.alert,
        detail={"alert": record.alert, "subject": record.subject, "value": record.value},
        dedupe=f"{kind}:{record.id}",
    )


def _describe(record: AlertRecord, separator: str) -> str:
    """Return the title of an alert and its message, as far as neither says what the other does."""
    title = BY_NAME[record.alert].title if record.alert in BY_NAME else record.alert
    if record.alert in (REDIS, DATABASE):  # the message names the server
        return record.message[:1].upper() + record.message[1:]
    message = without_name(record.alert, record.message)
    return title if message.lower() in title.lower() else f"{title}{separator}{message}"
