"""Operations that answer with made-up moments, letters, jobs and cache entries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.support.fake_cache import CannedCache
from tests.support.fake_jobs import CannedJobs, CannedSchedules, job
from tests.support.fake_letters import CannedLetters, letter
from tests.support.fake_moments import NASTY, NOW
from tests.support.fake_signals import CannedAlerts, CannedEvents, CannedHistory
from tests.support.fake_workers import CannedWorkers
from workers.engine.attempt_log import LogLine
from workers.engine.policy import DEFAULT_POLICIES, QueuePolicy
from workers.errors import NotFoundError, UnknownQueueError
from workers.monitoring.snapshot import (
    Pause,
    Snapshot,
)


class CannedOperations:
    """Answers with one snapshot and some letters, and keeps what it was asked to do."""

    def __init__(self, snapshot: Snapshot, letters: int = 2) -> None:
        self.now = snapshot
        self.done: list[tuple[Any, ...]] = []
        self.letters = CannedLetters(self, [letter(number) for number in range(1, letters + 1)])
        self.dead_letters = self.replays = self.letters
        self.cache = CannedCache(self)
        self.alerts = CannedAlerts(self.done)
        self.events = CannedEvents()
        self.workers = CannedWorkers(self.done)
        self.history = CannedHistory(self)
        self.jobs = CannedJobs(self.done)
        self.schedules = CannedSchedules(self.done)
        self.notification_counts: dict[str, int] = {}
        self.has_workers = True
        self.read_only = False
        self.draining = False
        self.in_flight = 2
        self.error: Exception | None = None
        self.snapshots = 0

    async def snapshot(self) -> Snapshot:
        self.snapshots += 1
        if self.error is not None:
            raise self.error
        return self.now

    def policy(self, queue: str) -> QueuePolicy:
        if queue not in DEFAULT_POLICIES:
            raise UnknownQueueError(queue, tuple(DEFAULT_POLICIES))
        return DEFAULT_POLICIES[queue]

    async def enqueue(
        self, queue: str, data: Mapping[str, Any], *, key: str | None = None, delay: float = 0.0
    ) -> str | None:
        if self.error is not None:
            raise self.error
        if any((one.queue, one.key) == (queue, key) for one in self.jobs.kept):
            return None
        self.done.append(("enqueue", queue, dict(data), key, delay))
        self.jobs.kept.append(job(key or "new-1", "ready", queue, position=0))
        return key or "new-1"

    async def pause(self, queue: str, reason: str = "") -> Pause:
        self.done.append(("pause", queue, reason))
        return Pause("me", reason, NOW)

    async def resume(self, queue: str) -> bool:
        self.done.append(("resume", queue))
        return True

    def logs(self, worker: str, *, limit: int = 200, **selection: Any) -> list[LogLine]:
        if worker != self.workers.own_id:
            raise NotFoundError(f"worker {worker!r} is not this process")
        return [LogLine(NOW - 5, "warning", f"slow: 2 s {NASTY}", "color-extraction", "dress-17", 1, worker)]

    async def drain(self, *, now: bool = False) -> None:
        self.done.append(("drain", now))
        self.draining = True
