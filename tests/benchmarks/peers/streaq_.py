"""streaq: its own worker with its defaults, but for the concurrency; on uvloop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import uvloop
from streaq import Worker

from tests.benchmarks.peers.protocol import QUEUE, Tool, main


class Streaq(Tool):
    """A worker serves one queue, so there is one for each."""

    async def open(self) -> None:
        self._producer, self._handler = self._make(QUEUE)
        await self._producer.__aenter__()  # the program ends without leaving it

    def _make(self, name: str, concurrency: int = 1) -> tuple[Worker[Any], Any]:
        worker: Worker[Any] = Worker(
            self.redis_url, queue_name=name, concurrency=concurrency, handle_signals=False
        )

        @worker.task(name="handler")
        async def handler(**arguments: Any) -> None:
            await self.jobs.run(**arguments)

        return worker, handler

    async def enqueue(self, jobs: Sequence[dict[str, Any]]) -> None:
        await self._producer.enqueue_many([self._handler.enqueue(**arguments) for arguments in jobs])

    async def enqueue_later(self, job: dict[str, Any], seconds: float) -> None:
        await self._handler.enqueue(**job).start(delay=timedelta(seconds=seconds))

    async def work(self, queues: Sequence[str], concurrency: int) -> None:
        workers = [self._make(name, concurrency)[0] for name in queues]
        await asyncio.gather(*(worker.run_async() for worker in workers))

    async def count_unfinished(self) -> int:
        return await self._producer.queue_size()


if __name__ == "__main__":
    main(Streaq, uvloop.run)
