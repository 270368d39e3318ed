"""Shared by the tests of a drain: a handler that waits, and a process that ends as the program does."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio import Redis

from tests.support.waiting import eventually
from workers.engine.keys import PROCESS
from workers.operations.operations import Operations
from workers.process.worker_process import WorkerProcess


class Gate:
    """A handler that runs until it is let through."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.running = 0

    async def __call__(self, ctx: dict[str, Any], number: int = 0) -> None:
        self.running += 1
        await self.opened.wait()


class Life:
    """A process that ends once it has drained, as the program does."""

    def __init__(self, process: WorkerProcess) -> None:
        self.process = process
        self.ended = asyncio.create_task(self._live())

    async def _live(self) -> int:
        returned = await self.process.wait_drained()
        await self.process.close()
        return returned


async def subscribed(redis: Redis, worker: str) -> bool:
    return bool((await redis.pubsub_numsub(f"{PROCESS}{worker}"))[0][1])


async def the_worker(operations: Operations, state: str = "running") -> str:
    """The id of the only process, once it is connected and in this state."""

    async def found() -> str | None:
        workers = [worker for worker in await operations.workers.list() if worker.state == state]
        return workers[0].id if workers else None

    worker: str = await eventually(found)
    return worker
