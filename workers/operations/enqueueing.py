"""Enqueues jobs for programs and operators, after it has validated all of them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from saq import Job
from saq.utils import now

from storage.errors import ApplianceError
from storage.validation import lower_first, validation_problems
from workers.engine import wire
from workers.engine.enqueueing import EnqueueResult, new_job_key
from workers.engine.payload_limits import check_payload
from workers.engine.queue import JobQueue
from workers.engine.tracing import producer_meta, send_span
from workers.errors import InvalidJobError, UnknownQueueError
from workers.handlers.base import validate_payload

MAX_DELAY_SECONDS = 366 * 86_400
"""A job with a longer delay is more likely a mistake."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to enqueue: its arguments, its key (None: one is generated) and a delay in seconds.

    ``source`` is where it came from, for instance a file and a line; an error about it begins with that.
    """

    data: Mapping[str, Any]
    key: str | None = None
    delay: float = 0.0
    source: str = ""


class Enqueueing:
    """Enqueues jobs, without an audit record.  ``schemas`` has the payload model of each queue that has one.

    Everything raises redis.exceptions.RedisError if Redis is down.
    """

    def __init__(self, queues: Mapping[str, JobQueue], schemas: Mapping[str, type[BaseModel]]) -> None:
        self.queues = queues
        self.schemas = schemas

    def queue(self, name: str) -> JobQueue:
        """Return the queue with this name.  Raises UnknownQueueError."""
        try:
            return self.queues[name]
        except KeyError:
            raise UnknownQueueError(name, tuple(self.queues)) from None

    async def enqueue(self, queue: str, data: Mapping[str, Any], *, key: str | None = None) -> bool:
        """Enqueue one job for a handler; False if a job with this key is queued already."""
        (enqueued_key,) = await self.enqueue_many(queue, [NewJob(data, key)])
        return enqueued_key is not None

    async def enqueue_function(
        self, function: str, data: Mapping[str, Any], key: str | None, scheduled: float
    ) -> str | None:
        """Enqueue a job of ``function``, for a Unix time, for a handler; its key, None if one with it waits.

        Raises InvalidJobError if no queue runs that function.
        """
        queues = {queue.policy.function: name for name, queue in self.queues.items()}
        if function not in queues:
            raise InvalidJobError(f"function: unknown function {function!r}: use one of {', '.join(queues)}")
        delay = max(0.0, scheduled - time.time()) if scheduled else 0.0
        (enqueued_key,) = await self.enqueue_many(queues[function], [NewJob(data, key, delay)])
        return enqueued_key

    async def enqueue_many(self, queue: str, jobs: Sequence[NewJob]) -> list[str | None]:
        """Enqueue jobs in order, if all of them are valid; the key of each, None if it is queued already.

        Raises UnknownQueueError, and InvalidJobError with the field's name.
        """
        target = self.queue(queue)
        with send_span(queue, len(jobs)) as context:
            valid = [self._valid_job(target, job, context) for job in jobs]
            results = await target.enqueue_many(valid)
        return [
            job.key if result is EnqueueResult.ENQUEUED else None
            for job, result in zip(valid, results, strict=True)
        ]

    async def enqueue_stream(self, queue: str, jobs: Iterable[NewJob]) -> AsyncGenerator[list[str | None]]:
        """Enqueue jobs in order as they are read; yields, for each batch, what `enqueue_many` returns.

        Raises UnknownQueueError, and InvalidJobError, or what ``jobs`` raises: after the jobs before that
        one were enqueued.
        """
        target = self.queue(queue)
        waiting: deque[str] = deque()
        problem: list[Exception] = []

        def valid(context: str | None) -> Iterator[tuple[Job, str]]:
            try:
                for new in jobs:
                    job = self._valid_job(target, new, context)
                    waiting.append(job.key)
                    yield job, ""
            except ApplianceError as error:
                problem.append(error)

        with send_span(queue, None) as context:
            async with aclosing(target.enqueue_stream(valid(context))) as batches:
                async for results in batches:
                    keys = [waiting.popleft() for _ in results]
                    yield [
                        key if result is EnqueueResult.ENQUEUED else None
                        for key, result in zip(keys, results, strict=True)
                    ]
        if problem:
            raise problem[0]

    def check_payload(self, queue: str, data: Mapping[str, Any]) -> None:
        """Raises InvalidJobError if ``data`` breaks the queue's schema, or the limits of any payload."""
        schema = self.schemas.get(queue)
        if schema is not None:
            validate_payload(schema, dict(data))
        value = {"kwargs": dict(data)}
        check_payload(wire.dump(value), value)

    def payload_problems(self, queue: str, data: Mapping[str, Any]) -> dict[str, str]:
        """Return what is wrong with ``data``, by the field; the name is empty for the payload as a whole."""
        self.queue(queue)
        schema = self.schemas.get(queue)
        try:
            if schema is not None:
                schema.model_validate(dict(data))
            self.check_payload(queue, data)
        except ValidationError as error:
            problems: dict[str, str] = {}
            for problem in validation_problems(error):
                name = str(problem.location[0]) if problem.location else ""
                where = ".".join(map(str, problem.location[1:]))
                problems.setdefault(
                    name, f"{where}: {problem.problem}" if where else lower_first(problem.problem)
                )
            return problems
        except InvalidJobError as error:
            return {"": str(error)}
        return {}

    def _valid_job(self, queue: JobQueue, new: NewJob, context: str | None) -> Job:
        try:
            return self._job(queue, new, context)
        except InvalidJobError as error:
            if not new.source:
                raise
            raise InvalidJobError(f"{new.source}: {error}") from None

    def _job(self, queue: JobQueue, new: NewJob, context: str | None) -> Job:
        schema = self.schemas.get(queue.name)
        if schema is not None:
            validate_payload(schema, dict(new.data))
        if not 0 <= new.delay <= MAX_DELAY_SECONDS:
            raise InvalidJobError(f"delay: {new.delay:g} s is not between 0 and {MAX_DELAY_SECONDS} (a year)")
        if new.key == "":
            raise InvalidJobError("key: is empty: leave it out, and one is made")
        key = new_job_key() if new.key is None else new.key
        job = Job(queue.policy.function, dict(new.data), queue, key, queued=now())
        if context is not None:
            job.meta = producer_meta(context)
        if new.delay:
            job.scheduled = time.time() + new.delay  # type: ignore[assignment]  # SAQ's type is int, its scores are not
        value = wire.job_dict(job)
        check_payload(wire.dump(value), value)
        return job
