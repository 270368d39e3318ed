"""The cache while its Redis is killed, frozen and started again: every read is answered, none is outdated."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from storage.cache.cache import Cache
from storage.cache.entries import CacheKey
from storage.cache.store import TIMEOUT_SECONDS, RedisCacheStore
from storage.cache.tags import user_tag
from storage.redis.auto_pipeline import AutoPipeline
from storage.redis.pipeline import PipelineConnection
from tests.support.servers import ValkeyServer

pytestmark = pytest.mark.slow

ROUNDS = max(1, round(float(os.environ.get("COUTURECAST_TEST_CHAOS", "1"))))
PLACES = 10


class Traffic:
    """Readers of one user's entries; the loader has the newest version, the cache must not fall behind it."""

    def __init__(self, caches: list[Cache[int]]) -> None:
        self.caches = caches
        self.version = 0
        self.newest = 0
        """The version that the cache was told of, and so the oldest that may be served here."""
        self.sources: Counter[str] = Counter()
        self.slowest = 0.0
        self._done = asyncio.Event()

    async def load(self) -> int:
        version = self.version
        await asyncio.sleep(0.003)
        return version

    async def read(self, cache: Cache[int], *, own_changes: bool) -> None:
        number = 0
        while not self._done.is_set():
            number += 1
            key, least, began = CacheKey("u1", f"place-{number % PLACES}"), self.newest, time.monotonic()
            answer = await cache.get_or_load(key, self.load)
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.sources[answer.source] += 1
            if own_changes:
                assert answer.value >= least, f"{answer} after version {least} had been told"
            await asyncio.sleep(0.002)

    async def change(self) -> None:
        self.version += 1
        version = self.version
        await self.caches[0].invalidate(user_tag("u1"))
        self.newest = version

    def end(self) -> None:
        self._done.set()


@pytest.fixture
async def traffic(valkey: ValkeyServer) -> AsyncIterator[Traffic]:
    lines = [PipelineConnection(valkey.url) for _ in range(2)]
    stores = [
        RedisCacheStore(AutoPipeline(partial(line.round_trip, limit=TIMEOUT_SECONDS))) for line in lines
    ]
    caches = [Cache(store, int, fresh_seconds=30.0, expire_seconds=60.0) for store in stores]
    yield Traffic(caches)
    for cache, line in zip(caches, lines, strict=True):
        await cache.close()
        await line.close()


async def frozen(valkey: ValkeyServer, seconds: float) -> None:
    assert valkey.pid is not None
    os.kill(valkey.pid, signal.SIGSTOP)
    await asyncio.sleep(seconds)
    os.kill(valkey.pid, signal.SIGCONT)


async def killed(valkey: ValkeyServer, seconds: float) -> None:
    valkey.kill()
    await asyncio.sleep(seconds)
    await asyncio.to_thread(valkey.start)


@pytest.mark.timeout(60 + 60 * ROUNDS)
async def test_every_read_is_answered_while_redis_goes_and_comes(
    valkey: ValkeyServer, traffic: Traffic
) -> None:
    """A change during an outage counts at once for the process that made it, and for all once it is over."""
    here, there = traffic.caches
    readers = [
        asyncio.create_task(traffic.read(cache, own_changes=cache is here))
        for cache in (here, there)
        for _ in range(10)
    ]
    for _ in range(ROUNDS):
        for outage in (killed, frozen):
            await asyncio.sleep(0.5)
            going = asyncio.create_task(outage(valkey, 2.5))
            await asyncio.sleep(0.3)
            await traffic.change()
            await going
            async with asyncio.timeout(10):
                await here.wait_until_delivered()
            late = await there.get_or_load(CacheKey("u1", "place-1"), traffic.load)
            assert late.value == traffic.version
    await asyncio.sleep(0.5)
    traffic.end()
    await asyncio.gather(*readers)
    assert traffic.sources["fresh"] > 100
    assert traffic.sources["direct"] > 100
    assert traffic.slowest < 5
    summary = f"{traffic.sources.total():,} reads, {dict(traffic.sources)}, slowest {traffic.slowest:.2f} s"
    sys.stdout.write(f"\n{summary}\n")


async def test_200_misses_of_two_real_processes_are_one_load(valkey: ValkeyServer, tmp_path: Path) -> None:
    journal = tmp_path / "loads"
    options = {"redis": valkey.url, "journal": str(journal), "readers": 100, "at": time.time() + 3}
    program = [sys.executable, "-m", "tests.support.cache_process", json.dumps(options)]
    processes = [
        await asyncio.create_subprocess_exec(*program, stdout=asyncio.subprocess.PIPE) for _ in range(2)
    ]
    results = [json.loads((await process.communicate())[0]) for process in processes]
    assert [answers["count"] for answers in results] == [100, 100]
    assert {value for answers in results for value in answers["values"]} == {"loaded once"}
    assert len(journal.read_text().splitlines()) == 1


async def test_a_process_killed_while_it_loads_is_taken_over_from(
    valkey: ValkeyServer, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"redis": valkey.url, "journal": str(tmp_path / "loads"), "readers": 1, "at": 0}
    program = [sys.executable, "-m", "tests.support.cache_process", json.dumps({**options, "seconds": 60})]
    dying = await asyncio.create_subprocess_exec(*program, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(20):
        while not (tmp_path / "loads").exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.05)
    dying.kill()
    await dying.wait()
    program[-1] = json.dumps(options)
    heir = await asyncio.create_subprocess_exec(*program, stdout=asyncio.subprocess.PIPE)
    result = json.loads((await heir.communicate())[0])
    assert result["values"] == ["loaded once"]
    assert result["seconds"] < 5, "beside the start of the process"
