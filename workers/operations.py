"""The one place that carries out every verb, for keys and command line alike."""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from pydantic import BaseModel
from redis.asyncio import Redis
from redis.exceptions import RedisError
from saq import Job
from saq.utils import now

from storage.actions import Action, ActionLog
from storage.database import Database
from storage.dead_letters import DeadLetter, DeadLetters, Page
from storage.errors import StorageError
from workers import wire
from workers.connection import Line, command, connect
from workers.errors import (
    ConflictError,
    InvalidJobError,
    NotFoundError,
    ReadOnlyError,
    UnknownQueueError,
    WorkersError,
)
from workers.handlers.base import validate_payload
from workers.keys import NUDGE
from workers.letters import META
from workers.observer import Observer, read_pause
from workers.payload import check_body
from workers.policy import QueuePolicy
from workers.process import WorkerProcess
from workers.queue import ApplianceQueue, Enqueued
from workers.snapshot import Pause, Snapshot

log = structlog.get_logger(__name__)

__all__ = ["FAILURES", "Action", "DeadLetter", "NewJob", "Operations", "Page"]

LONGEST_DELAY = 366 * 86_400
"""Seconds: a job that waits longer is more likely a mistake."""

_RECORDING = 2.0
"""Seconds that the record of an act may take."""
_OUTCOME = 500  # characters

FAILURES = (WorkersError, StorageError, RedisError, OSError)
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
        letters: DeadLetters,
        process: WorkerProcess | None = None,
        environment: str = "local",
        weather_provider: str = "offline",
        actor: str | None = None,
        read_only: bool = False,
    ) -> None:
        self.actor = actor or f"{_user()}@{socket.gethostname()}"
        self.read_only = read_only
        """Whether every verb that changes something is refused."""
        self._actions = ActionLog(database)
        self._redis: Redis = connect(redis_url)
        self._line = Line(redis_url)
        self._queues = {policy.name: ApplianceQueue(self._redis, policy, self._line) for policy in policies}
        self._schemas = schemas
        self._letters = letters
        self._process = process
        self._observer = Observer(
            self._redis,
            redis_url,
            policies,
            database,
            letters,
            environment=environment,
            weather_provider=weather_provider,
        )
        self._lag = _LoopLag()

    async def close(self) -> None:
        """Close the connections that it opened."""
        self._lag.stop()
        await self._observer.close()
        await self._line.close()
        await self._redis.aclose()

    @property
    def can_drain(self) -> bool:
        """Whether this process runs workers, and so can be drained."""
        return self._process is not None

    async def ping(self) -> None:
        """Raises RedisError where Redis does not answer."""
        await command(self._redis, "PING")

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

    async def enqueue_many(self, queue: str, jobs: Sequence[NewJob]) -> list[str | None]:
        """Enqueue jobs, in order, after all of them have been found valid; for each as `enqueue`."""
        async with self._act("enqueue", {"queue": queue, "jobs": len(jobs)}) as act:
            keys = await self.hand_on(queue, jobs)
            act.affected = sum(key is not None for key in keys)
            act.outcome = f"{act.affected} of {len(jobs)} enqueued"
            return keys

    async def hand_on(self, queue: str, jobs: Sequence[NewJob]) -> list[str | None]:
        """As `enqueue_many`, for a program: a handler that hands jobs on is no operator who acts."""
        target = self._queue(queue)
        made = [self._checked(target, job) for job in jobs]
        done = await target.enqueue_many(made)
        return [job.key if each is Enqueued.DONE else None for job, each in zip(made, done, strict=True)]

    async def actions(self, limit: int = 50) -> list[Action]:
        """What operators did, the newest first."""
        return await self._actions.newest(limit)

    async def dead_letters(
        self,
        *,
        queue: str | None = None,
        state: str | None = "dead",
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[DeadLetter]:
        """One page of dead letters, newest first.  Raises UnknownQueueError, InvalidCursorError."""
        if queue is not None:
            self._queue(queue)
        return await self._letters.page(queue=queue, state=state, limit=limit, cursor=cursor)

    async def dead_letter(self, letter_id: int) -> DeadLetter:
        """One dead letter.  Raises NotFoundError."""
        letter = await self._letters.get(letter_id)
        if letter is None:
            raise NotFoundError(f"no dead letter has the id {letter_id}: list them with failed-jobs list")
        return letter

    async def replay(self, letter_id: int) -> str:
        """Enqueue a dead letter's job again, under its own key, which is returned.

        Raises NotFoundError; ConflictError where it was replayed or discarded before, or where a job of
        its key is queued.
        """
        async with self._act("replay", {"id": letter_id}) as act:
            key = await self._replay(letter_id)
            act.outcome = f"enqueued as {key}"
            return key

    async def _replay(self, letter_id: int) -> str:
        letter = await self.dead_letter(letter_id)
        queue = self._queue(letter.queue_name)
        if "unreadable" in letter.job_data:
            raise ConflictError(
                f"dead letter {letter_id} holds no job that could be read: it cannot be replayed"
            )
        if letter.state != "dead":
            raise ConflictError(f"dead letter {letter_id} is {letter.state} already")
        job = Job(
            function=letter.function,
            kwargs=letter.job_data.get("kwargs"),
            key=letter.job_id,
            queued=now(),
            meta={**(letter.job_data.get("meta") or {}), META: {"replay_of": letter_id}},
        )
        # Enqueued once whatever happens between the two steps: then the letter is dead still, and is replayed
        # again, but the token is used.
        (done,) = await queue.enqueue_many([job], [f"{letter.uid}:{letter.replay_count}"])
        if done is Enqueued.REFUSED:
            raise ConflictError(
                f"a job with the key {letter.job_id} is queued already: wait until it has ended"
            )
        if not await self._letters.mark_replayed(letter_id):
            raise ConflictError(f"dead letter {letter_id} was replayed by somebody else at this moment")
        self._observer.look_again()
        return job.key

    async def pause(self, queue: str, reason: str = "") -> Pause:
        """Nothing of the queue starts, in any process, until it is resumed.  Raises UnknownQueueError."""
        keys = self._queue(queue).keys
        async with self._act("pause", {"queue": queue}, reason):
            seconds, micro = await self._redis.time()
            since = seconds + micro / 1e6
            await command(
                self._redis, "HSET", keys.pause, "by", self.actor, "reason", reason, "since", f"{since:.6f}"
            )
            return Pause(self.actor, reason, since)

    async def resume(self, queue: str) -> bool:
        """Let a paused queue start jobs again; False where it was not paused.  Raises UnknownQueueError."""
        keys = self._queue(queue).keys
        async with self._act("resume", {"queue": queue}) as act:
            act.affected = await self._redis.delete(keys.pause)
            await self._redis.publish(NUDGE, queue)
            return bool(act.affected)

    async def paused(self, queue: str) -> Pause | None:
        """Who paused the queue, why and since when.  Raises UnknownQueueError."""
        return read_pause(await command(self._redis, "HGETALL", self._queue(queue).keys.pause))

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
        async with self._act("drain", {"worker": self._process.id, "now": now}) as act:
            act.affected = self._process.in_flight
            self._process.begin_drain()
            if now:
                self._process.cut_short()

    @asynccontextmanager
    async def _act(self, verb: str, arguments: dict[str, Any], reason: str = "") -> AsyncIterator[_Act]:
        """Around every verb that changes something: refused in read-only mode, else one row says what was.

        A database that is away delays nothing and refuses nothing: then the log has the act.
        """
        if self.read_only:
            raise ReadOnlyError(verb)
        act = _Act()
        try:
            yield act
        except Exception as error:
            act.affected, act.outcome = 0, f"{type(error).__name__}: {error}"
            raise
        finally:
            done = Action(
                datetime.now(UTC), self.actor, verb, arguments, act.affected, reason, act.outcome[:_OUTCOME]
            )
            try:
                async with asyncio.timeout(_RECORDING):
                    await self._actions.record(done)
            except (StorageError, TimeoutError) as error:
                log.warning("an act is in this log only", act=asdict(done), error=str(error))

    def _queue(self, name: str) -> ApplianceQueue:
        try:
            return self._queues[name]
        except KeyError:
            raise UnknownQueueError(name, tuple(self._queues)) from None

    def _checked(self, queue: ApplianceQueue, new: NewJob) -> Job:
        try:
            return self._job(queue, new)
        except InvalidJobError as error:
            if not new.source:
                raise
            raise InvalidJobError(f"{new.source}: {error}") from None

    def _job(self, queue: ApplianceQueue, new: NewJob) -> Job:
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
        check_body(wire.dump(value), value)
        return job


def _user() -> str:
    """Who runs this; a container may run it as a user that has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"


@dataclass(slots=True)
class _Act:
    """What a verb says of itself while it is carried out."""

    affected: int = 1
    outcome: str = "done"


class _LoopLag:
    """How late the event loop runs its timers."""

    _INTERVAL = 0.1

    def __init__(self) -> None:
        self._worst: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def worst(self) -> float | None:
        """Seconds, the worst since the last call; None at first."""
        if self._timer is None:
            self._schedule()
        worst, self._worst = self._worst, None
        return worst

    def stop(self) -> None:
        """Measure no longer."""
        if self._timer is not None:
            self._timer.cancel()

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self._INTERVAL
        self._timer = loop.call_at(due, self._measure, due)

    def _measure(self, due: float) -> None:
        late = max(0.0, asyncio.get_running_loop().time() - due)
        self._worst = max(self._worst or 0.0, late)
        self._schedule()
