"""One process of the cluster does something at a time: it holds a place in Redis while it does."""

from __future__ import annotations

import asyncio
import time
import uuid

from redis.asyncio import Redis

from workers import lua

_KEPT = 6.0
"""Seconds after which a place is free whose holder does not come again."""
_RENEWED = 1.5
"""Seconds between two words of the holder."""
_TRIED = 0.25
"""Seconds between two tries to get a place whose holder may be dead."""


class Place:
    """The place that the key ``name`` stands for; whoever holds it comes back to `hold` again and again."""

    def __init__(self, redis: Redis, name: str) -> None:
        self._redis = redis
        self._name = name
        self._who = uuid.uuid4().hex
        self._until = 0.0

    async def hold(self) -> bool:
        """Take the place, or keep it; False where another has it.  Raises RedisError."""
        now = time.monotonic()
        if now < self._until:
            return True
        held = await self._say(round(_KEPT * 1000))
        self._until = now + _RENEWED if held else 0.0
        return held

    async def outwait(self) -> bool:
        """As `hold`; a holder that has died is waited for until its place is free.  Raises RedisError."""
        until = time.monotonic() + _KEPT + _TRIED
        while not await self.hold():
            if time.monotonic() > until:
                return False
            await asyncio.sleep(_TRIED)
        return True

    async def leave(self) -> None:
        """Make it free for others, where this one has it.  Raises RedisError."""
        self._until = 0.0
        await self._say(0)

    async def _say(self, milliseconds: int) -> bool:
        reply = await lua.run_one(self._redis, lua.HOLD.call([self._name], [self._who, milliseconds]))
        return bool(reply)
