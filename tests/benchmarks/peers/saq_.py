"""Stock SAQ: its own worker and queue with their defaults, but for the concurrency."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Any

from saq import Queue, Worker

from tests.benchmarks.peers.protocol import QUEUE, Tool, await_in_batches, main

_POLICY = {"timeout": 40, "retries": 4}
"""By default a job is given up after 10 s, and is not run again when its worker is killed."""


class Saq(Tool):
    """A worker serves one queue, so there is one for each."""

    async def open(self) -> None:
        self._queue = Queue.from_url(self.redis_url, name=QUEUE)

    async def enqueue(self, jobs: Sequence[dict[str, Any]]) -> None:
        await await_in_batches(self._queue.enqueue("handler", **_POLICY, **arguments) for arguments in jobs)

    async def enqueue_later(self, job: dict[str, Any], seconds: float) -> None:
        due = math.ceil(time.time() + seconds)  # its times are whole seconds
        await self._queue.enqueue("handler", scheduled=due, **_POLICY, **job)

    async def work(self, queues: Sequence[str], concurrency: int) -> None:
        async def handler(_ctx: Any, **arguments: Any) -> None:
            await self.jobs.run(**arguments)

        workers = [
            Worker(Queue.from_url(self.redis_url, name=name), [("handler", handler)], concurrency=concurrency)
            for name in queues
        ]
        await asyncio.gather(*(worker.start() for worker in workers))

    async def count_unfinished(self) -> int:
        return await self._queue.count("incomplete")


if __name__ == "__main__":
    main(Saq)
