"""Caches on a real Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
import redis.asyncio
from pydantic import BaseModel

from storage.cache.cache import Cache
from storage.cache.store import TIMEOUT_SECONDS, RedisCacheStore
from storage.redis.auto_pipeline import AutoPipeline
from storage.redis.client import PipelineConnection


class Outfit(BaseModel):
    """The type of cached values."""

    name: str
    warmth: int = 0


NewCache = Callable[..., Cache[Outfit]]


@pytest.fixture
async def new_cache(redis_url: str) -> AsyncIterator[NewCache]:
    """Creates a cache like that of another process."""
    async with AsyncExitStack() as stack:

        def make(url: str = redis_url, **options: Any) -> Cache[Outfit]:
            connection = PipelineConnection(url)
            stack.push_async_callback(connection.close)
            pipeline = AutoPipeline(partial(connection.round_trip, limit=TIMEOUT_SECONDS))
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
