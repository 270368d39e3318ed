"""Notices that an empty queue got a job, by a wait on a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from redis.exceptions import RedisError, ResponseError

from storage.backoff import ReconnectBackoff
from storage.redis.pipeline import PipelineConnection
from workers.engine.queue import JobQueue

log = structlog.get_logger(__name__)


class ReadyWatch:
    """Calls ``on_ready`` when ``queue`` has a ready job, once after each `begin`.

    ``wait_seconds`` is how long one wait lasts.  ``retry_seconds`` are the first and the longest pause after
    an error.  ``on_ready`` is called after some errors, too: a turn finds out what Redis does.
    """

    def __init__(
        self,
        queue: JobQueue,
        connection: PipelineConnection,
        *,
        wait_seconds: float,
        retry_seconds: tuple[float, float],
        on_ready: Callable[[], None],
    ) -> None:
        self._queue = queue
        self._connection = connection
        self._wait_seconds = wait_seconds
        self._retry_seconds = retry_seconds
        self._on_ready = on_ready
        self._watching = asyncio.Event()

    def begin(self) -> None:
        """Wait for a job: the queue was found empty."""
        self._watching.set()

    def end(self) -> None:
        """Begin no further wait; one under way continues."""
        self._watching.clear()

    async def run(self) -> None:
        """Watch until cancelled.

        Proxies close a connection on which nothing happens; the first time it is opened again at once.
        """
        backoff = ReconnectBackoff(*self._retry_seconds)
        while True:
            await self._watching.wait()
            backoff.begin()
            try:
                is_ready = await self._queue.wait_for_job(self._connection, self._wait_seconds)
            except (RedisError, OSError) as error:
                log.debug("the wakeup connection broke", queue=self._queue.name, error=repr(error))
                pause = backoff.failure_delay()
                if pause or isinstance(error, ResponseError):
                    self._on_ready()
                await asyncio.sleep(pause)
            else:
                backoff.record_success()
                if is_ready:
                    self._watching.clear()
                    self._on_ready()
