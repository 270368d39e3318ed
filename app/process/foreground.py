"""Puts together what one job needs that runs here and now: the servers, and the handler of its queue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from app.custom_handlers import custom_handlers
from app.process.composition import open_appliance
from app.process.handlers import open_handlers
from app.servers.database_startup import DatabaseUse
from app.settings import Settings
from workers.engine.policy import QueuePolicy
from workers.engine.runner import SaqFunction
from workers.errors import UnknownQueueError
from workers.handlers.processes.launch import Streams
from workers.handlers.processes.pool import HandlerPool
from workers.operations.operations import Operations


@dataclass(frozen=True)
class ForegroundHandler:
    """The handler of one queue, which runs in this process, or in one that has its terminal."""

    operations: Operations
    policy: QueuePolicy
    function: SaqFunction
    name: str | None
    """``module:function``; None: it is the built-in one."""
    about: Mapping[str, Any] | None
    """The facts that its process sent at its start; None: it runs in this one."""


@asynccontextmanager
async def open_foreground(
    settings: Settings,
    policies: Mapping[str, QueuePolicy],
    queue: str,
    data: Mapping[str, Any],
    streams: Streams,
) -> AsyncIterator[ForegroundHandler]:
    """Open the servers and the handler, once it is known that the job may run.

    Raises AppError, UnknownQueueError, InvalidJobError, ReadOnlyError.
    """
    if queue not in policies:
        raise UnknownQueueError(queue, tuple(policies))
    custom, policy = custom_handlers(settings, policies), policies[queue]
    database: DatabaseUse = "optional" if queue in custom else "required"
    async with open_appliance(settings, policies, database=database) as appliance, AsyncExitStack() as stack:
        appliance.operations.foreground.check(queue, data)
        functions = await open_handlers(
            {queue: policy},
            custom,
            settings,
            appliance.database,
            enqueue=appliance.enqueueing.enqueue,
            enqueue_job=appliance.enqueueing.enqueue_function,
            invalidate=appliance.invalidate,
            stack=stack,
            streams=streams,
        )
        pool = HandlerPool.for_function(functions[queue])
        facts = pool.processes[0].about if pool is not None else None
        yield ForegroundHandler(appliance.operations, policy, functions[queue], custom.get(queue), facts)
