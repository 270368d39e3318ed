"""Runs one job here and now: of no queue in Redis, without a timeout, a retry or a dead letter."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from saq import Job

from couturecast_handlers import PermanentError
from workers.engine.attempts import failed_attempt
from workers.engine.enqueueing import new_job_key
from workers.engine.remote_error import RemoteError
from workers.engine.runner import SaqFunction
from workers.errors import HandlerProcessDiedError
from workers.operations.audit import Audit
from workers.operations.enqueueing import Enqueueing

OnUpdate = Callable[[Mapping[str, Any]], None]
"""Called with what a handler stores of its job while it runs: ``progress``, ``meta``."""


@dataclass(frozen=True, slots=True)
class ForegroundResult:
    """How the job ended; without ``error_type`` it is done."""

    queue: str
    function: str
    key: str
    seconds: float
    result: Any = None
    error_type: str | None = None
    message: str | None = None
    traceback: str | None = None
    permanent: bool = False
    """Whether a worker would not retry it."""


class ForegroundJobs:
    """Runs jobs in the caller's process; the jobs that their handlers enqueue are enqueued."""

    def __init__(self, enqueueing: Enqueueing, audit: Audit) -> None:
        self._enqueueing = enqueueing
        self._audit = audit

    def check(self, queue: str, data: Mapping[str, Any]) -> None:
        """Raises UnknownQueueError, InvalidJobError for a payload that breaks the schema, ReadOnlyError."""
        self._enqueueing.queue(queue)
        self._enqueueing.check_payload(queue, data)
        self._audit.check_writable("run")

    async def run(
        self,
        queue: str,
        data: Mapping[str, Any],
        handler: SaqFunction,
        *,
        key: str | None = None,
        on_update: OnUpdate = lambda _: None,
    ) -> ForegroundResult:
        """Run a job with this payload, which `check` has allowed."""
        target = self._enqueueing.queue(queue)
        job = Job(function=target.policy.function, kwargs=dict(data), key=key or new_job_key(), attempts=1)
        job.queue = _NoQueue(queue, on_update)  # type: ignore[assignment]
        async with self._audit.record("run", {"queue": queue, "keys": [job.key]}) as action:
            began = time.monotonic()
            try:
                result = await handler({"job": job, "queue": target}, **data)
            except BaseException as error:
                task = asyncio.current_task()
                if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                    raise
                failure = _failed_result(queue, job, error, time.monotonic() - began)
                action.outcome, action.failed = f"{failure.error_type}: {failure.message}", True
                return failure
            return ForegroundResult(queue, job.function, job.key, time.monotonic() - began, result)


class _NoQueue:
    """Stands in for the queue of a job that is in none."""

    def __init__(self, name: str, on_update: OnUpdate) -> None:
        self.name = name
        self._on_update = on_update

    def job_id(self, key: str) -> str:
        return f"saq:job:{self.name}:{key}"

    async def update(self, job: Job, **fields: Any) -> None:
        for name, value in fields.items():
            setattr(job, name, value)
        self._on_update(fields)


def _failed_result(queue: str, job: Job, error: BaseException, seconds: float) -> ForegroundResult:
    trace = error.__traceback__.tb_next if error.__traceback__ is not None else None  # without our own frame
    error = error.with_traceback(None if isinstance(error, HandlerProcessDiedError) else trace)
    attempt = failed_attempt(error, number=1, failed_at=time.time(), worker="", run_seconds=seconds)
    permanent = error.permanent if isinstance(error, RemoteError) else isinstance(error, PermanentError)
    names = ("error_type", "message", "traceback")
    parts = {name: attempt[name] for name in names}
    return ForegroundResult(queue, job.function, job.key, seconds, permanent=permanent, **parts)
