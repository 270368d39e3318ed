"""The verbs on queues, made up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.support.fake_jobs import CannedJobs, job
from tests.support.fake_moments import NOW
from tests.support.fake_record import CannedRecord
from workers.engine.policy import DEFAULT_POLICIES, QueuePolicy
from workers.errors import UnknownQueueError
from workers.monitoring.snapshot import Pause


class CannedQueues:
    """Keeps what it was asked to do; a job that it enqueues is one of ``jobs``."""

    def __init__(self, record: CannedRecord, jobs: CannedJobs) -> None:
        self._record = record
        self._jobs = jobs

    def policy(self, queue: str) -> QueuePolicy:
        if queue not in DEFAULT_POLICIES:
            raise UnknownQueueError(queue, tuple(DEFAULT_POLICIES))
        return DEFAULT_POLICIES[queue]

    async def enqueue(
        self, queue: str, data: Mapping[str, Any], *, key: str | None = None, delay: float = 0.0
    ) -> str | None:
        if self._record.error is not None:
            raise self._record.error
        if any((one.queue, one.key) == (queue, key) for one in self._jobs.kept):
            return None
        self._record.done.append(("enqueue", queue, dict(data), key, delay))
        self._jobs.kept.append(job(key or "new-1", "ready", queue, position=0))
        return key or "new-1"

    async def pause(self, queue: str, reason: str = "") -> Pause:
        self._record.done.append(("pause", queue, reason))
        return Pause("me", reason, NOW)

    async def resume(self, queue: str) -> bool:
        self._record.done.append(("resume", queue))
        return True
