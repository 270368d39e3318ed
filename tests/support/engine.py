"""One queue under test, and timings under which a dead process is noticed fast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from saq.queue.redis import RedisQueue

from storage.dead_letters.repository import DeadLetterRepository
from workers.engine.policy import QueuePolicy, Timings
from workers.engine.queue import JobQueue
from workers.engine.runner import SaqFunction
from workers.process.worker_process import WorkerProcess

FAST_RETRIES = (0.1, 0.2, 0.3)
QUICK = Timings(
    heartbeat_seconds=0.1,
    dead_after_seconds=0.6,
    max_check_gap_seconds=0.5,
    recovery_check_seconds=0.1,
    full_poll_seconds=0.05,
    standby_poll_seconds=0.1,
    retry_seconds=(0.02, 0.1),
    loop_check_seconds=0.05,
)
"""Notice in half a second that a process died: not for tests in which a living one must not seem dead."""


@dataclass
class Bench:
    """One queue under test: its policy, our handle on it, a stock SAQ producer, and processes to start."""

    url: str
    redis: Redis
    letters: DeadLetterRepository
    policy: QueuePolicy
    queue: JobQueue
    stock: RedisQueue
    processes: list[WorkerProcess] = field(default_factory=list)

    async def start(self, function: SaqFunction, **options: Any) -> WorkerProcess:
        process = WorkerProcess(
            self.url,
            policies=[self.policy],
            functions={self.policy.name: function},
            letters=self.letters,
            **options,
        )
        self.processes.append(process)
        await process.start()
        return process

    async def send(self, count: int = 1, **arguments: Any) -> list[str]:
        jobs = [await self.stock.enqueue(self.policy.function, number=n, **arguments) for n in range(count)]
        return [job.key for job in jobs if job is not None]

    async def total(self, outcome: str) -> int:
        return int(await self.redis.hget(self.queue.keys.totals, outcome) or 0)

    async def lists(self) -> dict[str, int]:
        """Lengths of everything that may hold a job that has not ended."""
        keys = self.queue.keys
        return {
            "queued": await self.redis.llen(keys.queued),
            "active": await self.redis.llen(keys.active),
            "incomplete": await self.redis.zcard(keys.incomplete),
            "leases": await self.redis.hlen(keys.leases),
        }

    async def empty(self) -> bool:
        return not any((await self.lists()).values())


MakeBench = Callable[..., Bench]


async def stop(process: WorkerProcess) -> None:
    """Drain a process without waiting for its jobs, and close it."""
    process.drain_now()
    await process.wait_drained()
    await process.close()
