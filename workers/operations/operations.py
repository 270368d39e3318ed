"""The one place that carries out every verb, for keys and command line alike."""

from __future__ import annotations

import asyncio
import copy
import getpass
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pydantic import BaseModel
from redis.asyncio import Redis
from redis.exceptions import RedisError
from saq import Job
from saq.utils import now

from storage.cache.cache import Cache
from storage.cache.store import TIMEOUT_SECONDS, CacheEntry, CachePage, CacheStats, RedisCacheStore
from storage.database.engine import Database
from storage.database.tables import POISON_DEATHS
from storage.dead_letters.filters import ALL_DEAD, STATES, LetterFilter
from storage.dead_letters.plans import Ledger, Plan, PlanItem
from storage.dead_letters.repository import DeadLetter, DeadLetterRepository, FailureGroup, Page
from storage.errors import StorageError
from storage.personalization import Payload, PersonalizationService
from storage.redis.auto_pipeline import AutoPipeline
from storage.redis.client import PipelineConnection, execute, make_client
from storage.redis.scripts import Script, run_script
from storage.repositories.operator_actions import OperatorAction, OperatorActionRepository
from storage.repositories.preferences import PreferenceRepository
from storage.repositories.weather import WeatherRepository
from workers.engine import wire
from workers.engine.keys import NUDGE
from workers.engine.payload_limits import check_payload
from workers.engine.policy import QueuePolicy
from workers.engine.probe import check_writes
from workers.engine.queue import EnqueueResult, JobQueue
from workers.errors import (
    ConflictError,
    InvalidJobError,
    UnknownQueueError,
    WorkersError,
)
from workers.handlers.base import validate_payload
from workers.monitoring.snapshot import Pause, Snapshot
from workers.monitoring.snapshot_reader import SnapshotReader, parse_pause
from workers.operations.audit import Audit
from workers.operations.cache import CacheOperations, CacheOverview
from workers.operations.dead_letters import DeadLetterOperations, Preview, ReplayOptions, Selection
from workers.process.worker_process import WorkerProcess

PAUSE_SCRIPT = Script.load(__name__, "pause")

__all__ = [
    "ALL_DEAD",
    "OPERATION_ERRORS",
    "POISON_DEATHS",
    "STATES",
    "CacheEntry",
    "CacheOperations",
    "CacheOverview",
    "CachePage",
    "CacheStats",
    "DeadLetter",
    "DeadLetterOperations",
    "FailureGroup",
    "Ledger",
    "LetterFilter",
    "NewJob",
    "Operations",
    "OperatorAction",
    "Page",
    "Plan",
    "PlanItem",
    "Preview",
    "ReplayOptions",
    "Selection",
]

LONGEST_DELAY = 366 * 86_400
"""Seconds: a job that waits longer is more likely a mistake."""

OPERATION_ERRORS = (WorkersError, StorageError, RedisError, OSError)
"""What a verb may raise: each has a message for people."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be enqueued: its arguments, its key (one is made where it is None), a delay in seconds.

    ``source`` says where it came from, for instance a file and a line; an error about it begins with that.
    """

    data: Mapping[str, Any]
    key: str | None = None
    delay: float = 0.0
    source: str = ""


class Operations:
    """Verbs of the operator.  ``schemas`` has the payload model of each queue that has one.

    Everything raises redis.exceptions.RedisError or storage.errors.StorageError where a server is away.
    """

    def __init__(
        self,
        redis_url: str,
        *,
        policies: Sequence[QueuePolicy],
        schemas: Mapping[str, type[BaseModel]],
        database: Database,
        letters: DeadLetterRepository,
        process: WorkerProcess | None = None,
        environment: str = "local",
        weather_provider: str = "offline",
        actor: str | None = None,
        read_only: bool = False,
        cache_url: str | None = None,
    ) -> None:
        self._actions = OperatorActionRepository(database)
        self._audit = Audit(self._actions, actor or f"{_user()}@{socket.gethostname()}", read_only)
        self._redis: Redis = make_client(redis_url)
        self._line = PipelineConnection(redis_url)
        self._queues = {policy.name: JobQueue(self._redis, policy, self._line) for policy in policies}
        self._schemas = schemas
        self._process = process
        self._observer = SnapshotReader(
            self._redis,
            redis_url,
            policies,
            database,
            letters,
            environment=environment,
            weather_provider=weather_provider,
        )
        self.letters = DeadLetterOperations(
            self._redis,
            database,
            letters,
            queues=self._queues,
            schemas=schemas,
            audit=self._audit,
            changed=self._observer.look_again,
        )
        """The verbs on dead letters."""
        self._cache_line = PipelineConnection(cache_url or redis_url)
        together = AutoPipeline(partial(self._cache_line.round_trip, limit=TIMEOUT_SECONDS))
        self._cache = Cache(RedisCacheStore(together), Payload)
        self.cache = CacheOperations(
            self._cache, cache_url or redis_url, own=cache_url is not None, audit=self._audit
        )
        """The verbs on the cache, which is beside the queues where ``cache_url`` is None."""
        self.preferences = PreferenceRepository(database, self.cache.hear)
        self.personalization = PersonalizationService(
            self._cache, self.preferences, WeatherRepository(database)
        )
        """What users are shown, read through the cache."""
        self._lag = _LoopLag()

    async def close(self) -> None:
        """Close the connections that it opened."""
        self._lag.stop()
        await self.letters.close()
        await self._cache.close()
        await self._cache_line.close()
        await self._observer.close()
        await self._line.close()
        await self._redis.aclose()

    @property
    def actor(self) -> str:
        """Whose acts these are."""
        return self._audit.actor

    @property
    def read_only(self) -> bool:
        """Whether every verb that changes something is refused."""
        return self._audit.read_only

    def as_actor(self, actor: str) -> Operations:
        """The same operations, for the acts of another."""
        view = copy.copy(self)
        view._audit = replace(self._audit, actor=actor)
        view.letters = self.letters.as_actor(view._audit)
        view.cache = self.cache.as_actor(view._audit)
        return view

    @property
    def can_drain(self) -> bool:
        """Whether this process runs workers, and so can be drained."""
        return self._process is not None

    async def ping(self) -> None:
        """Raises RedisError where Redis does not answer."""
        await execute(self._redis, "PING")

    async def check_writes(self) -> None:
        """Raises RedisError if Redis is away, read-only or full, refuses writes or forbids to publish.

        It takes one round trip and leaves nothing behind.
        """
        await check_writes(self._redis)

    async def snapshot(self) -> Snapshot:
        """This moment of the cluster; never raises for a server that is away, but says so."""
        process = self._process
        return await self._observer.snapshot(
            loop_lag=self._lag.worst(), drain_deadline_in=process.drain_deadline_in if process else None
        )

    async def enqueue(
        self, queue: str, data: Mapping[str, Any], *, key: str | None = None, delay: float = 0.0
    ) -> str | None:
        """Enqueue one job; its key, or None where a job of that key is queued already.

        Raises UnknownQueueError, and InvalidJobError with the field's name.
        """
        (done,) = await self.enqueue_many(queue, [NewJob(data, key, delay)])
        return done

    async def enqueue_many(
        self, queue: str, jobs: Sequence[NewJob], *, on_progress: Callable[[int], None] | None = None
    ) -> list[str | None]:
        """Enqueue jobs, in order, after all of them have been found valid; for each as `enqueue`.

        Calls ``on_progress`` with the number of jobs that are done, after each batch.
        """
        async with self._audit.act("enqueue", {"queue": queue, "jobs": len(jobs)}) as act:
            keys = await self.hand_on(queue, jobs, on_progress)
            act.affected = sum(key is not None for key in keys)
            act.outcome = f"{act.affected} of {len(jobs)} enqueued"
            return keys

    async def produce(self, queue: str, jobs: Sequence[NewJob]) -> list[str | None]:
        """As `enqueue_many`, for producers: what a program sends by the thousand is no act of an operator."""
        self._audit.refuse("enqueue")
        return await self.hand_on(queue, jobs)

    async def hand_on(
        self, queue: str, jobs: Sequence[NewJob], on_progress: Callable[[int], None] | None = None
    ) -> list[str | None]:
        """As `enqueue_many`, for a program: a handler that hands jobs on is no operator who acts."""
        target = self._queue(queue)
        made = [self._checked(target, job) for job in jobs]
        done = await target.enqueue_many(made, on_progress=on_progress)
        return [job.key if each is EnqueueResult.DONE else None for job, each in zip(made, done, strict=True)]

    async def actions(self, limit: int = 50) -> list[OperatorAction]:
        """What operators did, the newest first."""
        return await self._actions.newest(limit)

    async def pause(self, queue: str, reason: str = "") -> Pause:
        """Nothing of the queue starts, in any process, until it is resumed.  Raises UnknownQueueError."""
        keys = self._queue(queue).keys
        async with self._audit.act("pause", {"queue": queue}, reason):
            since = await run_script(self._redis, PAUSE_SCRIPT.call([keys.pause], [self.actor, reason]))
            return Pause(self.actor, reason, float(since))

    async def resume(self, queue: str) -> bool:
        """Let a paused queue start jobs again; False where it was not paused.  Raises UnknownQueueError."""
        keys = self._queue(queue).keys
        async with self._audit.act("resume", {"queue": queue}) as act:
            act.affected = await self._redis.delete(keys.pause)
            await self._redis.publish(NUDGE, queue)
            return bool(act.affected)

    async def paused(self, queue: str) -> Pause | None:
        """Who paused the queue, why and since when.  Raises UnknownQueueError."""
        return parse_pause(await execute(self._redis, "HGETALL", self._queue(queue).keys.pause))

    @property
    def in_flight(self) -> int:
        """Jobs that this process holds."""
        return self._process.in_flight if self._process is not None else 0

    @property
    def draining(self) -> bool:
        """Whether this process drains."""
        return self._process is not None and self._process.draining

    async def drain(self, *, now: bool = False) -> None:
        """Drain this process: finishes what runs, deletes nothing.  Raises ConflictError without workers.

        With ``now`` the jobs in flight are put back without waiting for them.
        """
        if self._process is None:
            raise ConflictError("this process runs no workers: there is nothing to drain")
        async with self._audit.act("drain", {"worker": self._process.id, "now": now}) as act:
            act.affected = self._process.in_flight
            self._process.begin_drain()
            if now:
                self._process.cut_short()

    def _queue(self, name: str) -> JobQueue:
        try:
            return self._queues[name]
        except KeyError:
            raise UnknownQueueError(name, tuple(self._queues)) from None

    def _checked(self, queue: JobQueue, new: NewJob) -> Job:
        try:
            return self._job(queue, new)
        except InvalidJobError as error:
            if not new.source:
                raise
            raise InvalidJobError(f"{new.source}: {error}") from None

    def _job(self, queue: JobQueue, new: NewJob) -> Job:
        schema = self._schemas.get(queue.name)
        if schema is not None:
            validate_payload(schema, dict(new.data))
        if not 0 <= new.delay <= LONGEST_DELAY:
            raise InvalidJobError(f"delay: {new.delay:g} s is not between 0 and {LONGEST_DELAY} (a year)")
        if new.key == "":
            raise InvalidJobError("key: is empty: leave it out, and one is made")
        job = Job(function=queue.policy.function, kwargs=dict(new.data), queued=now(), queue=queue)
        if new.key is not None:
            job.key = new.key
        if new.delay:
            job.scheduled = time.time() + new.delay  # type: ignore[assignment]  # SAQ's type is int, its scores are not
        value = wire.job_dict(job)
        check_payload(wire.dump(value), value)
        return job


def _user() -> str:
    """Who runs this; a container may run it as a user that has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"


class _LoopLag:
    """How late the event loop runs its timers."""

    _INTERVAL = 0.1
    _KEPT = 20
    """Measurements: more than lie between two looks, of the screen or of a scraper."""

    def __init__(self) -> None:
        self._newest: deque[float] = deque(maxlen=self._KEPT)
        self._timer: asyncio.TimerHandle | None = None

    def worst(self) -> float | None:
        """Seconds, the worst of the last two; None at first."""
        if self._timer is None:
            self._schedule()
        return max(self._newest, default=None)

    def stop(self) -> None:
        """Measure no longer."""
        if self._timer is not None:
            self._timer.cancel()

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self._INTERVAL
        self._timer = loop.call_at(due, self._measure, due)

    def _measure(self, due: float) -> None:
        self._newest.append(max(0.0, asyncio.get_running_loop().time() - due))
        self._schedule()
