"""ARQ: its own worker and pool with their defaults, but for the concurrency and the jobs read in one poll."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from arq import create_pool, func
from arq.connections import RedisSettings
from arq.worker import Worker

from tests.benchmarks.peers.protocol import QUEUE, Tool, await_in_batches, main

_MAX_POLL_JOBS = 10_000
"""Jobs read in one poll.  The default of 100, with a poll each half second, would be 200 jobs a second."""


class Arq(Tool):
    """A worker serves one queue, so there is one for each."""

    async def open(self) -> None:
        self._settings = RedisSettings.from_dsn(self.redis_url)
        self._pool = await create_pool(self._settings, default_queue_name=QUEUE)

    async def enqueue(self, jobs: Sequence[dict[str, Any]]) -> None:
        await await_in_batches(self._pool.enqueue_job("handler", **arguments) for arguments in jobs)

    async def work(self, queues: Sequence[str], concurrency: int) -> None:
        async def handler(_ctx: dict[Any, Any], **arguments: Any) -> None:
            await self.jobs.run(**arguments)

        workers = [
            Worker(
                [func(handler, name="handler")],
                queue_name=name,
                redis_settings=self._settings,
                max_jobs=concurrency,
                queue_read_limit=_MAX_POLL_JOBS,
                handle_signals=False,
            )
            for name in queues
        ]
        await asyncio.gather(*(worker.async_run() for worker in workers))

    async def count_unfinished(self) -> int:
        return int(await self._pool.zcard(QUEUE))


if __name__ == "__main__":
    main(Arq)
