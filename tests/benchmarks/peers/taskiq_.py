"""Taskiq with its Redis list broker: fire and forget, so a job counts as ended when its function has."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker

from tests.benchmarks.peers.protocol import QUEUE, Tool, await_in_batches, main


class Taskiq(Tool):
    """A receiver serves one broker, which is one queue, so there is one for each."""

    async def open(self) -> None:
        self._redis = Redis.from_url(self.redis_url)
        self._broker = ListQueueBroker(self.redis_url, queue_name=QUEUE)

        @self._broker.task(task_name="handler")
        async def handler(ms: float = 0, sent: int = 0) -> None:
            await self.jobs.run(ms, sent)

        self._handler = handler

    async def enqueue(self, jobs: Sequence[dict[str, Any]]) -> None:
        await await_in_batches(self._handler.kiq(**arguments) for arguments in jobs)

    async def work(self, queues: Sequence[str], concurrency: int) -> None:
        others = [ListQueueBroker(self.redis_url, queue_name=name) for name in queues[1:]]
        await asyncio.gather(
            *(
                run_receiver_task(broker, max_async_tasks=concurrency, run_startup=True)
                for broker in (self._broker, *others)
            )
        )

    async def count_unfinished(self) -> int:
        return int(await self._redis.llen(QUEUE))


if __name__ == "__main__":
    main(Taskiq)
