"""How much work the queues have, in processes: the figure that an autoscaler holds at 1 a process."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from redis.asyncio import Redis

from storage.redis.scripts import Script, run_scripts
from workers.engine.keys import QueueKeys
from workers.engine.policy import QueuePolicy

LOAD_SCRIPT = Script.load(__name__, "load")


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

        Of a paused queue only the jobs in flight count, since no process could start another.
        """
        waiting = 0 if self.paused else self.ready + self.due
        return (self.in_flight + waiting) / self.capacity


async def read_loads(redis: Redis, policies: Iterable[QueuePolicy]) -> list[QueueLoad]:
    """Return the load of each queue, in one round trip.  Raises RedisError."""
    policies = list(policies)
    keys = [QueueKeys.of(policy.name) for policy in policies]
    calls = [LOAD_SCRIPT.call([key.queued, key.incomplete, key.leases, key.pause]) for key in keys]
    loads = []
    for policy, reply in zip(policies, await run_scripts(redis, calls), strict=True):
        if isinstance(reply, Exception):
            raise reply
        in_flight, ready, due, paused = reply
        loads.append(QueueLoad(policy.name, in_flight, ready, due, policy.concurrency, bool(paused)))
    return loads
