"""What the handlers of requests work with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import structlog
from redis.exceptions import RedisError

from storage.asyncio_tools import consume_exception
from storage.redis.refusals import reason, refusal_of
from workers.monitoring.snapshot import Snapshot
from workers.operations.operations import Operations
from workers.process.worker_process import WorkerProcess

log = structlog.get_logger(__name__)

T = TypeVar("T")

SILENT = "Redis is silent"
REFUSES = "Redis refuses the connection"
"""What anybody may know of it: its address is for the log, and for those who have the token."""

_SHARED_SECONDS = 1.0
_PATIENCE = 3.0
"""Seconds that a request waits for Redis, which is less than what probes wait for us."""


class Context:
    """The operations and, where this process runs workers, the process and the end of its drain.

    ``drained`` has the number of jobs that were put back.
    """

    def __init__(
        self,
        operations: Operations,
        process: WorkerProcess | None,
        drained: asyncio.Future[int] | None,
        version: str,
    ) -> None:
        self.operations = operations
        self.process = process
        self.drained = drained
        self.version = version
        self._snapshot = _Shared(operations.snapshot)
        self._writes = _Shared(operations.check_writes)
        self._told = False

    async def snapshot(self) -> Snapshot:
        """This moment, or one less than a second ago.  Raises TimeoutError where Redis is silent."""
        return await self._snapshot.get()

    async def redis_error(self) -> str | None:
        """Why Redis does not answer or takes no writes, without its address; None if it did a second ago."""
        try:
            await self._writes.get()
        except (RedisError, OSError) as error:
            if not self._told:
                log.warning("not ready", error=reason(error))
            self._told = True
            refusal = refusal_of(error)
            if refusal is not None:
                return f"Redis {refusal.problem} ({refusal.code})"
            # redis.exceptions.TimeoutError is no OSError
            return SILENT if "Timeout" in type(error).__name__ else REFUSES
        self._told = False
        return None

    def close(self) -> None:
        """Break off what is being asked."""
        self._snapshot.close()
        self._writes.close()


class _Shared(Generic[T]):
    """Asks at most once a second, for all who want to know."""

    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        self._ask = ask
        self._asked = 0.0
        self._answer: asyncio.Future[T] | None = None

    async def get(self) -> T:
        """The newest answer.  Raises what asking raises, and TimeoutError."""
        answer = self._answer
        if answer is None or (answer.done() and time.monotonic() - self._asked >= _SHARED_SECONDS):
            self._asked = time.monotonic()
            answer = self._answer = asyncio.ensure_future(self._ask())
            answer.add_done_callback(consume_exception)
        async with asyncio.timeout(_PATIENCE):
            return await asyncio.shield(answer)

    def close(self) -> None:
        if self._answer is not None:
            self._answer.cancel()
