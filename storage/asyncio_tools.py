"""Starts and ends asyncio tasks."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


async def cancel_and_wait(tasks: Sequence[asyncio.Future[T]], *, retry_seconds: float = 0.1) -> None:
    """Cancel ``tasks`` and wait until they have ended.

    Tasks that have not ended after ``retry_seconds`` are cancelled again; choose it longer than their
    cleanup takes.  Python 3.11's ``asyncio.wait_for``, through which redis-py writes, loses a cancellation
    that arrives as the write ends (https://github.com/python/cpython/issues/86296).

    If the caller is cancelled while it waits, for instance by the retry of an outer `cancel_and_wait`, it
    waits to the end all the same: no task is left behind.  Then it raises its cancellation.
    """
    clock = asyncio.get_running_loop().time
    interruption: asyncio.CancelledError | None = None
    retry_at = -math.inf
    while pending := [task for task in tasks if not task.done()]:
        if clock() >= retry_at:
            for task in pending:
                task.cancel()
            retry_at = clock() + retry_seconds
        try:
            await asyncio.wait(pending, timeout=max(0.0, retry_at - clock()))
        except asyncio.CancelledError as cancelled:
            interruption = cancelled
    if interruption is not None:
        raise interruption


def consume_exception(task: asyncio.Future[Any]) -> None:
    """Ignore the error of a task that may never be awaited, which asyncio would report when it is collected.

    Give it to ``add_done_callback``.
    """
    if not task.cancelled():
        task.exception()


class BackgroundTasks:
    """Tasks that their owner starts and ends.  Errors are for those who await them, and else ignored."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run ``coroutine`` in a task."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(consume_exception)
        return task

    async def close(self) -> None:
        """Cancel the tasks and wait for their end."""
        await cancel_and_wait(list(self._tasks))
