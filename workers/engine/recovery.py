"""Recovers the jobs of dead workers: they go back to the queue, the attempt charged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from workers.engine import outcome
from workers.engine.policy import Timings
from workers.engine.queue import JobQueue
from workers.engine.runner import parse_job
from workers.engine.settlement import LeasedJob, Settlement
from workers.errors import InvalidJobError, WorkerLostError

log = structlog.get_logger(__name__)


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
        """A worker began to hold jobs: wake the dispatcher once it may have died with them."""
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
        """Settlements of the jobs whose workers died, if a check is due.  Raises RedisError."""
        now = asyncio.get_running_loop().time()
        if now < self._next_check:
            return []
        self._next_check = now + self._timings.recovery_check_seconds
        settlements = []
        blocked_at: dict[str, str | None] = {}
        dead_after, max_gap = self._timings.dead_after_seconds, self._timings.max_check_gap_seconds
        for leased in await self._queue.leases_of_dead_workers(dead_after, max_gap):
            worker = leased.lease.decode(errors="replace").split(":", 1)[0]
            if worker not in blocked_at:
                blocked_at[worker] = await self._queue.declare_dead(worker, dead_after)
            log.warning("worker died with a job", queue=self._queue.name, job=leased.id, worker=worker)
            settlements.append(self._settle(leased, worker, blocked_at[worker]))
        return settlements

    def _settle(self, leased: LeasedJob, worker: str, blocked_at: str | None) -> Settlement:
        blocked = f"; its event loop was blocked by {blocked_at}" if blocked_at else ""
        error = WorkerLostError(f"worker {worker} died during the attempt{blocked}")
        try:
            job = parse_job(self._queue, leased)
        except InvalidJobError as unreadable:
            key = self._queue.job_key_from_id(leased.id)
            return outcome.unreadable(leased, self._queue.name, key, unreadable, worker=worker)
        return outcome.worker_died(leased, job, error, policy=self._queue.policy, worker=worker)
