"""The operator's verbs, for keys, commands and HTTP alike."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from redis.asyncio import Redis
from redis.exceptions import RedisError

from storage.cache.entries import CacheEntry, CachePage
from storage.cache.stats import CacheStats
from storage.database.tables import POISON_DEATHS
from storage.dead_letters.filters import ALL_DEAD, MAX_AGE_DAYS, STATES, LetterFilter
from storage.dead_letters.ordering import NEWEST_FIRST, LetterOrder, OrderColumn, sortable_columns
from storage.dead_letters.plans import Ledger, Plan, PlanItem
from storage.dead_letters.records import DeadLetter, FailureGroup, Page
from storage.errors import DatabaseUnavailableError, StorageError
from storage.personalization import PersonalizationService
from storage.redis.client import execute
from storage.redis.refusals import explain, refusal_of
from storage.repositories.events import ALL_EVENTS, Event, EventFilter
from storage.repositories.operator_actions import OperatorAction
from workers.dead_letters.export import ExportFormat
from workers.dead_letters.retention import RETENTION_DAYS
from workers.engine.placement import group_by_client
from workers.engine.probe import check_writes
from workers.errors import ConflictError, WorkersError
from workers.monitoring.alert_rules import Thresholds
from workers.monitoring.loop_lag import LoopLag
from workers.monitoring.snapshot import Snapshot
from workers.monitoring.snapshot_reader import SnapshotReader
from workers.operations.alerts import AlertOperations
from workers.operations.audit import Audit, current_actor
from workers.operations.cache import CacheOperations, CacheOverview
from workers.operations.dead_letters import DeadLetterOperations
from workers.operations.enqueueing import MAX_DELAY_SECONDS, Enqueueing, NewJob
from workers.operations.events import EventOperations
from workers.operations.foreground import ForegroundJobs
from workers.operations.history import HistoryOperations
from workers.operations.jobs import JobOperations
from workers.operations.queues import QueueOperations
from workers.operations.replays import ReplayOperations
from workers.operations.schedules import ScheduleOperations
from workers.operations.selection import Preview, ReplayOptions, Selection
from workers.operations.workers import WorkerOperations
from workers.process.worker_process import WorkerProcess

__all__ = [
    "ALL_DEAD",
    "ALL_EVENTS",
    "MAX_AGE_DAYS",
    "MAX_DELAY_SECONDS",
    "NEWEST_FIRST",
    "OPERATION_ERRORS",
    "POISON_DEATHS",
    "RETENTION_DAYS",
    "STATES",
    "CacheEntry",
    "CacheOperations",
    "CacheOverview",
    "CachePage",
    "CacheStats",
    "DeadLetter",
    "DeadLetterOperations",
    "Event",
    "EventFilter",
    "ExportFormat",
    "FailureGroup",
    "Ledger",
    "LetterFilter",
    "LetterOrder",
    "NewJob",
    "Operations",
    "OperatorAction",
    "OrderColumn",
    "Page",
    "Plan",
    "PlanItem",
    "Preview",
    "ReplayOperations",
    "ReplayOptions",
    "Selection",
    "explain_error",
    "sortable_columns",
]

OPERATION_ERRORS = (WorkersError, StorageError, RedisError, OSError)
"""Errors that a verb may raise: each has a message for people."""
_CHECK_SECONDS = 1.0
"""Timeout of the check of Redis: less than probes wait for the answer."""
_ONE_SECONDS = 0.8
"""The same of one of several: a silent one must not hide what the others answer."""


def explain_error(error: Exception) -> str:
    """Return what is wrong: of a Redis that refuses with the fix, of the database without its URL."""
    if isinstance(error, DatabaseUnavailableError) and error.cause:
        return f"the database is unavailable: {error.cause}"
    return str(error) if refusal_of(error) is None else explain(error)


class Operations:
    """The verbs on this process; its parts have the others.

    ``process`` is None in a program that runs no workers.  Everything raises redis.exceptions.RedisError or
    storage.errors.StorageError if a server is down.
    """

    def __init__(
        self,
        redis: Redis,
        enqueueing: Enqueueing,
        audit: Audit,
        *,
        dead_letters: DeadLetterOperations,
        replays: ReplayOperations,
        cache: CacheOperations,
        alerts: AlertOperations,
        events: EventOperations,
        jobs: JobOperations,
        schedules: ScheduleOperations,
        workers: WorkerOperations,
        personalization: PersonalizationService,
        snapshots: SnapshotReader,
        process: WorkerProcess | None = None,
    ) -> None:
        self.queues = QueueOperations(enqueueing, audit)
        self.dead_letters = dead_letters
        self.replays = replays
        self.cache = cache
        self.alerts = alerts
        self.events = events
        self.jobs = jobs
        self.schedules = schedules
        self.workers = workers
        self.history = HistoryOperations(enqueueing.queues, snapshots)
        self.foreground = ForegroundJobs(enqueueing, audit)
        self.personalization = personalization
        """Payloads of users, read through the cache."""
        self._redis = redis
        self._other_redises = [
            other for other in group_by_client(enqueueing.queues.values()) if other is not redis
        ]
        self._enqueueing = enqueueing
        self._audit = audit
        self._snapshots = snapshots
        self._process = process
        self._loop_lag = LoopLag()
        self.notification_counts: Mapping[str, int] = {}
        """Notifications of this process by outcome; empty if it sends none."""

    async def close(self) -> None:
        """Interrupt the plans that run here, and what runs in the background."""
        self._loop_lag.stop()
        await self.replays.close()
        await self._snapshots.close()

    @property
    def actor(self) -> str:
        """Who acts now."""
        return self._audit.actor

    @property
    def read_only(self) -> bool:
        """Whether every verb that changes something is refused."""
        return self._audit.read_only

    def as_actor(self, actor: str) -> Operations:
        """Return these operations; the rest of the current task acts as ``actor``."""
        current_actor.set(actor)
        return self

    @property
    def has_workers(self) -> bool:
        """Whether this process runs workers, and so can be drained."""
        return self._process is not None

    async def ping(self) -> None:
        """Raises RedisError if Redis does not answer; if there are several: if none does."""

        async def ping_one(redis: Redis) -> None:
            async with asyncio.timeout(_ONE_SECONDS if self._other_redises else None):
                await execute(redis, "PING")

        pings = map(ping_one, (self._redis, *self._other_redises))
        replies = await asyncio.gather(*pings, return_exceptions=True)
        errors = [reply for reply in replies if isinstance(reply, BaseException)]
        if len(errors) == len(replies):
            raise errors[0]

    async def check_writes(self) -> dict[tuple[str, ...], Exception]:
        """Return why a Redis that this process needs is down or full, refuses writes or forbids to publish.

        By the queues that it holds; by none if it holds all.  It takes one round trip to each and leaves
        nothing behind.
        """
        served = self._process.dispatchers if self._process is not None else self._enqueueing.queues
        groups = group_by_client(self._enqueueing.queues[name] for name in served)
        if not self._other_redises:
            groups = {self._redis: []}
        checks = (_write_error(redis, several=len(groups) > 1) for redis in groups)
        errors = zip(groups.values(), await asyncio.gather(*checks), strict=True)
        return {tuple(queue.name for queue in queues): error for queues, error in errors if error is not None}

    async def stall_reasons(self) -> list[str]:
        """Return why a supervisor should restart this process: stalled queues although Redis takes writes.

        No server is asked while all queues make progress.
        """
        process = self._process
        if process is None or not process.stalled_queues():
            return []
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                errors = await self.check_writes()
        except OSError:
            return []
        if () in errors:
            return []  # Redis is the cause, and a restart would change nothing
        return process.stalled_queues(without={name for queues in errors for name in queues})

    async def snapshot(self) -> Snapshot:
        """Return the state of the cluster now; if a server is down, the snapshot has the error."""
        process = self._process
        return await self._snapshots.snapshot(
            loop_lag=self._loop_lag.worst(),
            drain_deadline_in=process.drain_deadline_in if process else None,
            outages=process.redis_outages if process else None,
        )

    @property
    def thresholds(self) -> Thresholds:
        """The limits of alerts in force."""
        return self._snapshots.thresholds

    async def recent_actions(self, limit: int = 50) -> list[OperatorAction]:
        """Return the actions of operators, the newest first."""
        return await self._audit.actions.newest(limit)

    @property
    def in_flight(self) -> int:
        """Jobs that this process holds."""
        return self._process.in_flight if self._process is not None else 0

    @property
    def draining(self) -> bool:
        """Whether this process drains."""
        return self._process is not None and self._process.draining

    async def drain(self, *, now: bool = False) -> None:
        """Drain this process: running jobs finish, no job is deleted.  Raises ConflictError without workers.

        With ``now`` the jobs in flight are returned to their queues without waiting for them.
        """
        if self._process is None:
            raise ConflictError("this process runs no workers: there is nothing to drain")
        async with self._audit.record("drain", {"worker": self._process.id, "now": now}) as action:
            action.affected = self._process.in_flight
            self._process.begin_drain(undoable=not now, by=self.actor)
            if now:
                self._process.drain_now()


async def _write_error(redis: Redis, *, several: bool) -> Exception | None:
    try:
        async with asyncio.timeout(_ONE_SECONDS if several else None):
            await check_writes(redis)
    except (RedisError, OSError) as error:
        return error
    return None
