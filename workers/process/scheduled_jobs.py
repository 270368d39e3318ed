"""Wakes a dispatcher when its queue has another next scheduled job: foreign producers do not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from redis.asyncio import Redis
from redis.exceptions import RedisError

from workers.engine.dispatcher import Dispatcher


class ScheduledJobs:
    """The next scheduled job of each queue, as of the last check."""

    def __init__(self, redis: Redis, dispatchers: Mapping[str, Dispatcher]) -> None:
        self._redis = redis
        self._dispatchers = dispatchers
        self._next: dict[str, list[tuple[bytes, float]]] = {}

    async def check(self) -> None:
        """Wake a dispatcher whose queue has another next scheduled job than at the last check.

        Our own producers and retries wake it themselves; foreign producers do not.
        """
        try:
            lowest = await self._lowest(self._dispatchers.values(), "-inf")
            holding = [
                self._dispatchers[name] for name, first in lowest.items() if first and first[0][1] <= 0
            ]
            scheduled = lowest | await self._lowest(holding, "(0")
        except (RedisError, OSError):
            for dispatcher in self._dispatchers.values():
                dispatcher.wake()  # its turn finds out whether Redis is down, and when it is back
            raise
        for name, first in scheduled.items():
            if first and first != self._next.get(name):
                self._dispatchers[name].wake()
            if lowest[name]:
                self._dispatchers[name].queue.reconciler.request()
        self._next = scheduled

    async def _lowest(
        self, dispatchers: Iterable[Dispatcher], lowest: str
    ) -> dict[str, list[tuple[bytes, float]]]:
        """Return by queue name the id with the lowest score from ``lowest`` on, and its score, or []."""
        pipeline = self._redis.pipeline(transaction=False)
        names = []
        for dispatcher in dispatchers:
            names.append(dispatcher.queue.name)
            key = dispatcher.queue.keys.incomplete
            pipeline.zrangebyscore(key, lowest, "+inf", start=0, num=1, withscores=True)
        return dict(zip(names, await pipeline.execute(), strict=True))
