"""The work of the queues, in processes: the figure that an autoscaler holds at 1 a process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import RedisError

from storage.redis.scripts import Script, run_scripts
from workers.engine.placement import group_by_client
from workers.engine.queue import JobQueue

LOAD_SCRIPT = Script.load(__name__, "load")

_ONE_SECONDS = 1.5
"""Timeout of one of several Redises: less than a request by HTTP waits for the loads."""


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """The work of one queue, across the cluster."""

    queue: str
    in_flight: int
    ready: int
    due: int
    """Delayed jobs and retries whose time has come, and which no process has moved yet."""
    capacity: int
    """Jobs that one process may run at once: the queue's concurrency."""
    paused: bool

    @property
    def load(self) -> float:
        """Processes that the work would fill.

        Only the jobs in flight of a paused queue count, since no process could start another.
        """
        waiting = 0 if self.paused else self.ready + self.due
        return (self.in_flight + waiting) / self.capacity


async def read_loads(queues: Iterable[JobQueue]) -> list[QueueLoad]:
    """Return the load of each queue, in one round trip to each Redis.

    The queues of a Redis that is down are left out.  Raises RedisError if all are.
    """
    queues = list(queues)
    groups = group_by_client(queues)

    async def read(redis: Redis, queues: Sequence[JobQueue]) -> list[QueueLoad]:
        async with asyncio.timeout(_ONE_SECONDS if len(groups) > 1 else None):
            return await _read(redis, queues)

    replies = await asyncio.gather(*(read(*group) for group in groups.items()), return_exceptions=True)
    errors = [reply for reply in replies if isinstance(reply, BaseException)]
    unexpected = [error for error in errors if not isinstance(error, RedisError | OSError)]
    if unexpected or len(errors) == len(groups):
        raise (unexpected or errors)[0]
    loads = {load.queue: load for reply in replies if not isinstance(reply, BaseException) for load in reply}
    return [loads[queue.name] for queue in queues if queue.name in loads]


async def _read(redis: Redis, queues: Sequence[JobQueue]) -> list[QueueLoad]:
    keys = [queue.keys for queue in queues]
    calls = [LOAD_SCRIPT.call([key.queued, key.incomplete, key.leases, key.pause]) for key in keys]
    loads = []
    for queue, reply in zip(queues, await run_scripts(redis, calls), strict=True):
        if isinstance(reply, Exception):
            raise reply
        in_flight, ready, due, paused = reply
        loads.append(QueueLoad(queue.name, in_flight, ready, due, queue.policy.concurrency, bool(paused)))
    return loads
