"""Recovers the jobs of dead workers: they are requeued, the attempt charged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import structlog

from storage.database.events import SHORT_ID_CHARS, NewEvent
from workers.engine import outcome
from workers.engine.policy import Timings
from workers.engine.queue import JobQueue
from workers.engine.runner import parse_job
from workers.engine.settlement import LeasedJob, Settlement, parse_lease
from workers.errors import InvalidJobError, WorkerLostError

log = structlog.get_logger(__name__)


class DeadWorker(NamedTuple):
    """A worker that died with jobs; its release, and where its event loop was blocked, if they are known."""

    id: str
    release: str | None
    blocked_at: str | None


class Recovery:
    """Checks one queue for leases of dead workers.  ``wake`` has the dispatcher make a turn."""

    def __init__(self, queue: JobQueue, timings: Timings, wake: Callable[[], None]) -> None:
        self._queue = queue
        self._timings = timings
        self._wake = wake
        self._next_check = 0.0
        """Loop time."""
        self._timer: asyncio.TimerHandle | None = None
        self._check_again = False

    def schedule_check(self) -> None:
        """Note that a worker began to hold jobs: wake the dispatcher once it may have died with them."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._timings.recovery_check_seconds, self._on_timer)
        else:  # a worker that begins just before that check is checked once more
            self._check_again = True

    def _on_timer(self) -> None:
        self._timer = None
        self._wake()
        if self._check_again:
            self._check_again = False
            self.schedule_check()

    def stop(self) -> None:
        """Forget the check that was scheduled."""
        if self._timer is not None:
            self._timer.cancel()

    @property
    def seconds_until_check(self) -> float:
        """Until the next check is due, 10 ms at least."""
        return max(0.01, self._next_check - asyncio.get_running_loop().time())

    async def recover(self) -> list[Settlement]:
        """Return the settlements of the jobs whose workers died, if a check is due.  Raises RedisError."""
        now = asyncio.get_running_loop().time()
        if now < self._next_check:
            return []
        self._next_check = now + self._timings.recovery_check_seconds
        settlements = []
        dead: dict[str, DeadWorker] = {}
        dead_after, max_gap = self._timings.dead_after_seconds, self._timings.max_check_gap_seconds
        for leased in await self._queue.leases_of_dead_workers(dead_after, max_gap):
            worker = parse_lease(leased.lease)[0].decode(errors="replace")
            if worker not in dead:
                dead[worker] = await self._declare_dead(worker)
            log.warning("worker died with a job", queue=self._queue.name, job=leased.id, worker=worker)
            settlements.append(self._settle(leased, dead[worker]))
        return settlements

    async def _declare_dead(self, worker: str) -> DeadWorker:
        presence = await self._queue.presence_of(worker)
        blocked_at = await self._queue.declare_dead(worker, self._timings.dead_after_seconds)
        release = presence.get("release")
        dead = DeadWorker(worker, release if isinstance(release, str) else None, blocked_at)
        self._queue.emit(_worker_lost(dead, self._queue.name, presence))
        return dead

    def _settle(self, leased: LeasedJob, dead: DeadWorker) -> Settlement:
        blocked = f"; its event loop was blocked by {dead.blocked_at}" if dead.blocked_at else ""
        error = WorkerLostError(f"worker {dead.id} died during the attempt{blocked}")
        queue, release = self._queue, dead.release
        try:
            job = parse_job(queue, leased)
        except InvalidJobError as unreadable:
            key = queue.job_key_from_id(leased.id)
            return outcome.unreadable(leased, queue.name, key, unreadable, worker=dead.id, release=release)
        return outcome.worker_died(leased, job, error, policy=queue.policy, worker=dead.id, release=release)


def _worker_lost(dead: DeadWorker, queue: str, presence: Mapping[str, Any]) -> NewEvent:
    """Return the event that a worker died; the first process that finds its jobs, in any queue, writes it."""
    where = f" ({presence['host']}, pid {presence.get('pid')})" if "host" in presence else ""
    blocked = f", its event loop blocked by {dead.blocked_at}" if dead.blocked_at else ""
    return NewEvent(
        "worker-lost",
        f"worker {dead.id[:SHORT_ID_CHARS]}{where} died with jobs of {queue}{blocked}: they run again",
        subject=dead.id,
        detail={"queue": queue, "release": dead.release, "blocked_at": dead.blocked_at},
        dedupe=f"worker-lost:{dead.id}",
    )
