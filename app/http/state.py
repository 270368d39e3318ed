"""The state that all routes share: the operations, this process, and what Redis answered a moment ago."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import structlog
from redis.exceptions import TimeoutError as RedisTimeoutError

from storage.asyncio_tools import consume_exception
from storage.redis.refusals import reason, refusal_of
from workers.monitoring.snapshot import Snapshot
from workers.operations.operations import Operations
from workers.operations.scaling import QueueLoad
from workers.process.worker_process import WorkerProcess

log = structlog.get_logger(__name__)

T = TypeVar("T")

SILENT = "is silent"
REFUSES_CONNECTION = "refuses the connection"
"""Both follow a name of Redis in answers that need no token: its address is only for those who have it."""

_REUSE_SECONDS = 1.0
"""How long an answer of Redis is reused: probes and scrapers cost one call a second at most."""
_TIMEOUT_SECONDS = 3.0
"""How long a request waits for Redis: less than probes wait for us."""


def describe_redis_error(error: Exception, queues: Sequence[str] = ()) -> str:
    """Return why Redis does not answer or refuses, without its address; of several, that of ``queues``."""
    refusal = refusal_of(error)
    if refusal is not None:
        problem = f"{refusal.problem} ({refusal.code})"
    else:
        problem = SILENT if isinstance(error, TimeoutError | RedisTimeoutError) else REFUSES_CONNECTION
    name = f"Redis of {', '.join(queues)}" if queues else "Redis"
    return f"{name} {problem}"


class HttpState:
    """Operations and, if this process runs workers, the process and the result of its drain.

    ``drained`` resolves to the number of jobs that were returned to their queues.
    """

    def __init__(
        self,
        operations: Operations,
        process: WorkerProcess | None,
        drained: asyncio.Future[int] | None,
        version: str,
        release: str,
        unready: Callable[[], list[str]],
        closing: asyncio.Event,
    ) -> None:
        self.operations = operations
        self.process = process
        self.drained = drained
        self.version = version
        self.release = release
        self.unready = unready
        """Why the workers do not take jobs."""
        self.closing = closing
        """Set when requests under way have to come to their end."""
        self._snapshot = CoalescedCall(operations.snapshot)
        self._writes = CoalescedCall(operations.check_writes)
        self._stall_reasons = CoalescedCall(operations.stall_reasons)
        self._loads = CoalescedCall(operations.queues.loads)
        self._logged = False

    async def snapshot(self) -> Snapshot:
        """Return a snapshot that is less than a second old.  Raises TimeoutError if Redis is silent."""
        return await self._snapshot.result()

    async def loads(self) -> list[QueueLoad]:
        """Return the load of each queue, less than a second old.  Raises RedisError, OSError."""
        return await self._loads.result()

    async def stall_reasons(self) -> list[str]:
        """Return why a supervisor should restart the process."""
        return await self._stall_reasons.result()

    async def redis_errors(self) -> list[str]:
        """Return why each Redis that does not answer or takes no writes does so, without its address."""
        try:
            errors = await self._writes.result()
        except OSError as error:  # no answer in time
            errors = {(): error}
        if errors and not self._logged:
            log.warning("not ready", error="; ".join(map(reason, errors.values())))
        self._logged = bool(errors)
        return [describe_redis_error(error, queues) for queues, error in errors.items()]

    def close(self) -> None:
        """Cancel the calls that are under way."""
        for call in (self._snapshot, self._writes, self._stall_reasons, self._loads):
            call.close()


class CoalescedCall(Generic[T]):
    """Makes one call for all concurrent requests, and reuses its result for a second."""

    def __init__(self, call: Callable[[], Awaitable[T]]) -> None:
        self._call = call
        self._called_at = 0.0
        self._result: asyncio.Future[T] | None = None

    async def result(self) -> T:
        """Return the newest result.  Raises what the call raises, and TimeoutError."""
        result = self._result
        if result is None or (result.done() and time.monotonic() - self._called_at >= _REUSE_SECONDS):
            self._called_at = time.monotonic()
            result = self._result = asyncio.ensure_future(self._call())
            result.add_done_callback(consume_exception)  # no request may wait for it any more
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            return await asyncio.shield(result)

    def close(self) -> None:
        """Cancel the call that is under way."""
        if self._result is not None:
            self._result.cancel()
