"""Maps queues to their Redis: queues of one server share its clients, and no call spans two servers."""

from __future__ import annotations

from collections.abc import Iterable

from redis.asyncio import Redis

from workers.engine.policy import QueuePolicy
from workers.engine.queue import JobQueue


def group_by_url(policies: Iterable[QueuePolicy], main_url: str) -> dict[str, list[QueuePolicy]]:
    """Return the queues of each Redis by its URL; the main one is the first, though it may hold none."""
    groups: dict[str, list[QueuePolicy]] = {main_url: []}
    for policy in policies:
        groups.setdefault(policy.redis_url or main_url, []).append(policy)
    return groups


def group_by_client(queues: Iterable[JobQueue]) -> dict[Redis, list[JobQueue]]:
    """Return the queues of each Redis by its client."""
    groups: dict[Redis, list[JobQueue]] = {}
    for queue in queues:
        groups.setdefault(queue.redis, []).append(queue)
    return groups
