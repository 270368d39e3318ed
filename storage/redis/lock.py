"""A Redis lock with an expiry: only one process of the cluster holds it at a time."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence

from redis.asyncio import Redis

from storage.redis.scripts import Script, run_script

HOLD_SCRIPT = Script.load(__name__, "lock")

_TTL_SECONDS = 6.0
_RENEW_SECONDS = 1.5
"""Interval at which a holder renews its lock."""
_POLL_SECONDS = 0.25
"""Interval at which `ExpiringLock.wait_acquire` tries again."""

_PTTL_NO_KEY, _PTTL_NO_EXPIRY = -2, -1


class ExpiringLock:
    """A lock under the key ``name``.  Its holder calls `acquire_or_renew` within each ``ttl_seconds``."""

    def __init__(self, redis: Redis, name: str, *, ttl_seconds: float = _TTL_SECONDS) -> None:
        self._redis = redis
        self._name = name
        self._ttl_seconds = ttl_seconds
        self._owner = uuid.uuid4().hex
        self._renew_at = 0.0

    async def acquire_or_renew(self) -> bool:
        """Acquire the lock, or renew it; False if another holds it.  Raises RedisError."""
        now = time.monotonic()
        if now < self._renew_at:
            return True
        acquired = await self._call(round(self._ttl_seconds * 1000))
        self._renew_at = now + _RENEW_SECONDS if acquired else 0.0
        return acquired

    async def wait_acquire(self) -> bool:
        """Acquire the lock, waiting until the lock of a dead holder expires.  Raises RedisError.

        False if another process holds it and renews it.
        """
        deadline = time.monotonic() + self._ttl_seconds + _POLL_SECONDS
        while not await self.acquire_or_renew():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True

    async def release(self) -> None:
        """Release the lock, if this process holds it.  Raises RedisError."""
        self._renew_at = 0.0
        await self._call(0)

    @staticmethod
    async def held_names(redis: Redis, names: Sequence[str]) -> set[str]:
        """Return the names of the locks that are held.  Raises RedisError.

        A TTL longer than that of a lock (the server's clock was set back) is shortened; a living holder
        renews its lock.
        """
        pipeline = redis.pipeline(transaction=False)
        for name in names:
            pipeline.pttl(name)
        ttls_ms = dict(zip(names, await pipeline.execute(), strict=True)) if names else {}
        max_ms = round(_TTL_SECONDS * 1000)
        for name, ttl_ms in ttls_ms.items():
            if ttl_ms == _PTTL_NO_EXPIRY or ttl_ms > max_ms:
                await redis.pexpire(name, max_ms)
        return {name for name, ttl_ms in ttls_ms.items() if ttl_ms != _PTTL_NO_KEY}

    async def _call(self, ttl_ms: int) -> bool:
        reply = await run_script(self._redis, HOLD_SCRIPT.call([self._name], [self._owner, ttl_ms]))
        return bool(reply)
