"""Caches on a real Redis, and a loader that counts its calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
import redis.asyncio
from pydantic import BaseModel

from storage.cache.cache import Cache
from storage.cache.entries import CacheKey
from storage.cache.store import RedisCacheStore
from storage.cache.tags import location_tag
from storage.redis.auto_pipeline import AutoPipeline
from storage.redis.pipeline import PipelineConnection


class Outfit(BaseModel):
    """The type of cached values."""

    name: str
    warmth: int = 0


NewCache = Callable[..., Cache[Outfit]]


@pytest.fixture
async def new_cache(redis_url: str) -> AsyncIterator[NewCache]:
    """Creates a cache like that of another process, but for the seconds that it waits for a reply: a busy
    machine may stand still for the one of the program."""
    async with AsyncExitStack() as stack:

        def make(url: str = redis_url, *, limit: float = 10.0, **options: Any) -> Cache[Outfit]:
            connection = PipelineConnection(url)
            stack.push_async_callback(connection.close)
            pipeline = AutoPipeline(partial(connection.round_trip, limit=limit))
            cache = Cache(RedisCacheStore(pipeline), Outfit, **options)
            stack.push_async_callback(cache.close)
            return cache

        yield make


@pytest.fixture
def cache(new_cache: NewCache) -> Cache[Outfit]:
    """The cache of one process."""
    return new_cache()


@pytest.fixture
async def raw(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    """A client of Redis that bypasses the cache."""
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        yield client


KEY = CacheKey("u1", "lisboa:2026-11-25T03", (location_tag("lisboa"),))
OTHER = CacheKey("u2", "lisboa:2026-11-25T03", (location_tag("lisboa"),))
COAT = Outfit(name="coat", warmth=3)


class Wardrobe:
    """A loader that counts its calls."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.calls = 0
        self.seconds = seconds
        self.outfit = COAT
        self.error: Exception | None = None

    async def load(self) -> Outfit:
        self.calls += 1
        outfit = self.outfit
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return outfit


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await holds():  # noqa: ASYNC110 - what others do in Redis has no event
            await asyncio.sleep(0.01)


async def called(wardrobe: Wardrobe, times: int) -> bool:
    return wardrobe.calls >= times
