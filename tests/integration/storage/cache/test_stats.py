"""The number of commands that statistics need, since some hosts bill commands."""

from __future__ import annotations

import redis.asyncio

from storage.cache.cache import Cache
from tests.integration.storage.cache.conftest import Outfit


async def commands(raw: redis.asyncio.Redis) -> int:
    return int((await raw.info("stats"))["total_commands_processed"])


async def test_past_minutes_are_read_once(cache: Cache[Outfit], raw: redis.asyncio.Redis) -> None:
    seconds, _ = await raw.time()
    past = f"couturecast:cache:minute:{seconds // 60 - 2}"
    await raw.hset(past, mapping={"hits": 3, "misses": 1})
    await raw.expire(past, 60)
    first = await cache.store.stats()
    assert (first.hits, first.misses, first.minutes[-3:].count(0.75)) == (3, 1, 1)
    before = await commands(raw)
    await cache.store.count({"hits": 4})
    then = await cache.store.stats()
    spent = await commands(raw) - before
    assert (then.hits, then.misses, len(then.minutes)) == (7, 1, 60)
    # INFO, EVALSHA with its three commands, TIME and HGETALL; one more if a minute has ended.
    assert spent <= 9
