"""Operations that answer with made-up moments, letters, jobs and cache entries."""

from __future__ import annotations

from tests.support.fake_cache import CannedCache
from tests.support.fake_jobs import CannedJobs, CannedSchedules
from tests.support.fake_letters import CannedLetters, letter
from tests.support.fake_queues import CannedQueues
from tests.support.fake_record import CannedRecord
from tests.support.fake_signals import CannedAlerts, CannedEvents, CannedHistory
from tests.support.fake_workers import CannedWorkers
from workers.monitoring.snapshot import Snapshot


class CannedOperations(CannedRecord):
    """Answers with one snapshot and some letters, and keeps what it was asked to do."""

    def __init__(self, snapshot: Snapshot, letters: int = 2) -> None:
        super().__init__(snapshot)
        self.letters = CannedLetters(self, [letter(number) for number in range(1, letters + 1)])
        self.dead_letters = self.replays = self.letters
        self.cache = CannedCache(self)
        self.alerts = CannedAlerts(self.done)
        self.events = CannedEvents()
        self.workers = CannedWorkers(self.done)
        self.history = CannedHistory(self)
        self.jobs = CannedJobs(self.done)
        self.schedules = CannedSchedules(self.done)
        self.queues = CannedQueues(self, self.jobs)
        self.notification_counts: dict[str, int] = {}
        self.has_workers = True
        self.draining = False
        self.in_flight = 2
        self.snapshots = 0

    async def snapshot(self) -> Snapshot:
        self.snapshots += 1
        if self.error is not None:
            raise self.error
        return self.now

    async def drain(self, *, now: bool = False) -> None:
        self.done.append(("drain", now))
        self.draining = True
