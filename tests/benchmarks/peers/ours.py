"""This program: its worker process with database, recorder, leases and metrics, on uvloop, as it runs."""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import structlog
import uvloop
from saq import Job

from storage.database.engine import Database
from storage.dead_letters.repository import DeadLetterRepository
from storage.redis.client import make_client
from storage.redis.pipeline import PipelineConnection
from tests.benchmarks.peers.protocol import Tool, main
from workers.engine.enqueueing import new_job_key
from workers.engine.policy import DEFAULT_POLICIES, ECONOMICAL, NORMAL
from workers.engine.queue import JobQueue
from workers.process.worker_process import WorkerProcess


class CoutureCast(Tool):
    """Queues keep their policy but for the concurrency."""

    async def open(self) -> None:
        self._redis = make_client(self.redis_url)
        self._policy = DEFAULT_POLICIES[self.queue]
        self._queue = JobQueue(self._redis, self._policy, PipelineConnection(self.redis_url))
        self._database = Database(f"sqlite:///{tempfile.mkdtemp()}/couturecast.db")
        await self._database.start()

    async def enqueue(self, jobs: Sequence[dict[str, Any]]) -> None:
        done = await self._queue.enqueue_many([self._job(arguments) for arguments in jobs])
        assert all(done)

    async def enqueue_later(self, job: dict[str, Any], seconds: float) -> None:
        later = self._job(job)
        later.scheduled = time.time() + seconds  # type: ignore[assignment]  # SAQ's type is int
        await self._queue.enqueue_many([later])

    def _job(self, arguments: dict[str, Any]) -> Job:
        return Job(function=self._policy.function, kwargs=arguments, key=new_job_key())

    async def work(self, queues: Sequence[str], concurrency: int) -> None:
        async def handler(_ctx: dict[str, Any], **arguments: Any) -> None:
            await self.jobs.run(**arguments)

        process = WorkerProcess(
            self.redis_url,
            policies=[replace(DEFAULT_POLICIES[name], concurrency=concurrency) for name in queues],
            functions=dict.fromkeys(queues, handler),
            letters=DeadLetterRepository(self._database),
            pace=ECONOMICAL if self.economical else NORMAL,
        )
        await process.start()
        await process.wait_drained()

    async def count_unfinished(self) -> int:
        return int(await self._redis.zcard(self._queue.keys.incomplete))


if __name__ == "__main__":
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),  # standard output is the driver's
    )
    main(CoutureCast, uvloop.run)
