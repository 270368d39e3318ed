"""The verbs on queues: enqueue, pause, resume."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from storage.redis.client import execute
from storage.redis.scripts import Script, run_script
from workers.engine.keys import WAKE_CHANNEL
from workers.engine.policy import QueuePolicy
from workers.monitoring.overview import parse_pause
from workers.monitoring.snapshot import Pause
from workers.operations.audit import Audit
from workers.operations.enqueueing import Enqueueing, NewJob
from workers.operations.scaling import QueueLoad, read_loads

PAUSE_SCRIPT = Script.load(__name__, "pause")
RESUME_SCRIPT = Script.load(__name__, "resume")


class QueueOperations:
    """Everything raises redis.exceptions.RedisError if a server is down."""

    def __init__(self, enqueueing: Enqueueing, audit: Audit) -> None:
        self._enqueueing = enqueueing
        self._audit = audit

    def policy(self, queue: str) -> QueuePolicy:
        """Return how a queue runs, by the settings of this process.  Raises UnknownQueueError."""
        return self._enqueueing.queue(queue).policy

    async def loads(self) -> list[QueueLoad]:
        """Return the load of each queue, for an autoscaler."""
        return await read_loads(self._enqueueing.queues.values())

    async def enqueue(
        self, queue: str, data: Mapping[str, Any], *, key: str | None = None, delay: float = 0.0
    ) -> str | None:
        """Enqueue one job; its key, or None if a job with that key is queued already.

        Raises UnknownQueueError, and InvalidJobError with the field's name.
        """
        (enqueued_key,) = await self.enqueue_many(queue, [NewJob(data, key, delay)])
        return enqueued_key

    async def enqueue_many(
        self,
        queue: str,
        jobs: Sequence[NewJob],
        *,
        audited: bool = True,
    ) -> list[str | None]:
        """Enqueue jobs in order, if all of them are valid; for each as `enqueue`.

        Without ``audited`` no record is written: producers send jobs by the thousand.
        """
        if not audited:
            self._audit.check_writable("enqueue")
            return await self._enqueueing.enqueue_many(queue, jobs)
        async with self._audit.record("enqueue", {"queue": queue, "jobs": len(jobs)}) as action:
            keys = await self._enqueueing.enqueue_many(queue, jobs)
            action.affected = sum(key is not None for key in keys)
            action.outcome = f"{action.affected} of {len(jobs)} enqueued"
            return keys

    async def enqueue_stream(
        self, queue: str, jobs: Iterable[NewJob], *, audited: bool = True
    ) -> AsyncGenerator[list[str | None]]:
        """Enqueue jobs in order as they are read, in batches; for the jobs of each as `enqueue_many`.

        If a job is not valid, or ``jobs`` raises an ApplianceError, those before it are enqueued, and then it
        is raised.
        """
        if not audited:
            self._audit.check_writable("enqueue")
            async with aclosing(self._enqueueing.enqueue_stream(queue, jobs)) as batches:
                async for keys in batches:
                    yield keys
            return
        read = 0
        async with self._audit.record("enqueue", {"queue": queue}) as action:
            async with aclosing(self._enqueueing.enqueue_stream(queue, jobs)) as batches:
                async for keys in batches:
                    read += len(keys)
                    action.count(sum(key is not None for key in keys))
                    yield keys
            action.affected = action.done_so_far
            action.outcome = f"{action.affected} of {read} enqueued"

    async def pause(self, queue: str, reason: str = "") -> Pause:
        """Start no job of the queue, in any process, until it is resumed.  Raises UnknownQueueError."""
        paused = self._enqueueing.queue(queue)
        async with self._audit.record("pause", {"queue": queue}, reason):
            call = PAUSE_SCRIPT.call([paused.keys.pause], [self._audit.actor, reason])
            since = await run_script(paused.redis, call)
            return Pause(self._audit.actor, reason, float(since))

    async def resume(self, queue: str) -> bool:
        """Let a paused queue start jobs again; False if it was not paused.  Raises UnknownQueueError."""
        resumed = self._enqueueing.queue(queue)
        async with self._audit.record("resume", {"queue": queue}) as action:
            call = RESUME_SCRIPT.call([resumed.keys.pause, resumed.keys.looks], [WAKE_CHANNEL, queue])
            action.affected = int(await run_script(resumed.redis, call))
            return bool(action.affected)

    async def pause_of(self, queue: str) -> Pause | None:
        """Return who paused the queue, why and since when; None if it runs.  Raises UnknownQueueError."""
        of_queue = self._enqueueing.queue(queue)
        return parse_pause(await execute(of_queue.redis, "HGETALL", of_queue.keys.pause))
