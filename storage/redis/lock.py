"""One process of the cluster does something at a time: it holds a place in Redis while it does."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence

from redis.asyncio import Redis

from storage.redis.scripts import Script, run_script

HOLD_SCRIPT = Script.load(__name__, "lock")


_KEPT = 6.0
"""Seconds after which a place is free whose holder does not come again."""
_RENEWED = 1.5
"""Seconds between two words of the holder."""
_TRIED = 0.25
"""Seconds between two tries to get a place whose holder may be dead."""

_NO_KEY, _NO_END = -2, -1
"""What PTTL says of a key that is not there, and of one that never expires."""


class ExpiringLock:
    """A lock under the key ``name``.  Its holder calls `acquire_or_renew` again and again."""

    def __init__(self, redis: Redis, name: str) -> None:
        self._redis = redis
        self._name = name
        self._who = uuid.uuid4().hex
        self._until = 0.0

    async def acquire_or_renew(self) -> bool:
        """Take the place, or keep it; False where another has it.  Raises RedisError."""
        now = time.monotonic()
        if now < self._until:
            return True
        held = await self._say(round(_KEPT * 1000))
        self._until = now + _RENEWED if held else 0.0
        return held

    async def wait_acquire(self) -> bool:
        """Acquire the lock, waiting until the lock of a dead holder expires.  Raises RedisError.

        False if another process holds it and renews it.
        """
        until = time.monotonic() + _KEPT + _TRIED
        while not await self.acquire_or_renew():
            if time.monotonic() > until:
                return False
            await asyncio.sleep(_TRIED)
        return True

    async def release(self) -> None:
        """Make it free for others, where this one has it.  Raises RedisError."""
        self._until = 0.0
        await self._say(0)

    @staticmethod
    async def held_names(redis: Redis, names: Sequence[str]) -> set[str]:
        """Those of the places that somebody holds.  Raises RedisError.

        One that would be kept for longer than it can be (the server's clock was set back) is cut short: its
        holder, if it lives, keeps it anew.
        """
        pipeline = redis.pipeline(transaction=False)
        for name in names:
            pipeline.pttl(name)
        left = dict(zip(names, await pipeline.execute(), strict=True)) if names else {}
        longest = round(_KEPT * 1000)
        for name, milliseconds in left.items():
            if milliseconds == _NO_END or milliseconds > longest:
                await redis.pexpire(name, longest)
        return {name for name, milliseconds in left.items() if milliseconds != _NO_KEY}

    async def _say(self, milliseconds: int) -> bool:
        reply = await run_script(self._redis, HOLD_SCRIPT.call([self._name], [self._who, milliseconds]))
        return bool(reply)
