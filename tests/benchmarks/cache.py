"""``make bench-cache``: our cache and the libraries that it was weighed against, in turn on one server.

``python tests/benchmarks/cache.py PEER URL`` measures one and prints a JSON object: hits a second, loads of
200 misses at once in two caches, commands of an invalidation of 30 entries, and whether a read after a change
that came during a load sees the change.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).parents[2]
PYTHON = {
    "ours": ROOT / ".venv/bin/python",
    "cashews": ROOT / ".venv-bench/cache/bin/python",
    "aiocache": ROOT / ".venv-bench/cache/bin/python",
}
RUNS = 3
HITS, READERS = 20_000, 50
MISSES = 100
"""Readers of one entry at the same time, in each of two caches."""
OWNED = 30
PAYLOAD = {
    "user_id": "anna",
    "preferences": {"style": "casual", "palette": ["#334455"] * 6},
    "hours": [{"dt": hour, "temp": 12.5, "weather": [{"main": "Rain"}]} for hour in range(3)],
}

Load = Callable[[], Awaitable[dict[str, Any]]]


class Peer(Protocol):
    """One cache of one process."""

    async def read(self, user: str, name: str, load: Load) -> dict[str, Any]:
        """The value, loaded if it is missing."""

    async def invalidate_user(self, user: str) -> None:
        """All entries of a user go."""

    async def close(self) -> None:
        """Close the connections."""


class Ours:
    """This project's."""

    def __init__(self, url: str) -> None:
        sys.path.insert(0, str(ROOT))
        from storage.cache.cache import Cache
        from storage.cache.entries import CacheKey
        from storage.cache.store import RedisCacheStore
        from storage.cache.tags import location_tag, user_tag
        from storage.redis.auto_pipeline import AutoPipeline
        from storage.redis.pipeline import PipelineConnection

        self._key, self._user, self._depends = CacheKey, user_tag, (location_tag("lisboa"),)
        self._line = PipelineConnection(url)
        self._cache = Cache(RedisCacheStore(AutoPipeline(self._line.round_trip)), dict)

    async def read(self, user: str, name: str, load: Load) -> dict[str, Any]:
        return (await self._cache.get_or_load(self._key(user, name, self._depends), load)).value

    async def invalidate_user(self, user: str) -> None:
        await self._cache.invalidate(self._user(user))

    async def close(self) -> None:
        await self._cache.close()
        await self._line.close()


class Cashews:
    """https://github.com/Krukov/cashews, set up with its lock and its tags."""

    def __init__(self, url: str) -> None:
        self._cache = importlib.import_module("cashews").Cache()
        self._cache.setup(url)
        self._loads: dict[int, Load] = {}

        @self._cache(ttl="60s", key="{user}:{name}", tags=["user:{user}"], lock=True)
        async def load(user: str, name: str, number: int) -> dict[str, Any]:
            return await self._loads[number]()

        self._load = load

    async def read(self, user: str, name: str, load: Load) -> dict[str, Any]:
        self._loads[id(load)] = load
        value: dict[str, Any] = await self._load(user, name, id(load))
        return value

    async def invalidate_user(self, user: str) -> None:
        await self._cache.delete_tags(f"user:{user}")

    async def close(self) -> None:
        await self._cache.close()


class Aiocache:
    """https://github.com/aio-libs/aiocache, with its lock; it has no tags, so the keys are known here."""

    def __init__(self, url: str) -> None:
        library, lock = importlib.import_module("aiocache"), importlib.import_module("aiocache.lock")
        serializers = importlib.import_module("aiocache.serializers")
        host, _, port = url.split("/")[2].partition(":")
        self._cache = library.RedisCache(
            endpoint=host, port=int(port), serializer=serializers.JsonSerializer(), namespace="peer"
        )
        self._lock = lock.RedLock

    async def read(self, user: str, name: str, load: Load) -> dict[str, Any]:
        key = f"{user}:{name}"
        value: dict[str, Any] | None = await self._cache.get(key)
        if value is not None:
            return value
        async with self._lock(self._cache, key, 10):
            value = await self._cache.get(key)
            if value is None:
                value = await load()
                await self._cache.set(key, value, ttl=60)
            return value

    async def invalidate_user(self, user: str) -> None:
        await asyncio.gather(*(self._cache.delete(f"{user}:p{number}") for number in range(OWNED)))

    async def close(self) -> None:
        await self._cache.close()


PEERS: dict[str, Callable[[str], Peer]] = {"ours": Ours, "cashews": Cashews, "aiocache": Aiocache}


class Loader:
    """Counts its calls; what it says is of the moment in which it began."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.calls, self.version, self._seconds = 0, 0, seconds

    async def __call__(self) -> dict[str, Any]:
        self.calls += 1
        value = PAYLOAD | {"version": self.version}
        await asyncio.sleep(self._seconds)
        return value


async def measure(make: Callable[[str], Peer], url: str) -> dict[str, Any]:
    """All figures of one peer."""
    import redis.asyncio

    here, there = make(url), make(url)
    async with redis.asyncio.Redis.from_url(url) as server:
        await server.flushall()
        misses = Loader(0.2)
        await asyncio.gather(
            *(process.read("misses", "p0", misses) for process in (here, there) for _ in range(MISSES))
        )
        hits = await _hits(here)
        for number in range(OWNED):
            await here.read("owner", f"p{number}", Loader())
        before = (await server.info("stats"))["total_commands_processed"]
        await here.invalidate_user("owner")
        commands = (await server.info("stats"))["total_commands_processed"] - before - 1
        seen = await _sees_the_change(here, there)
    await here.close()
    await there.close()
    return {"hits": hits, "loads": misses.calls, "commands": commands, "seen": seen}


async def _hits(cache: Peer) -> float:
    """Reads of one entry a second."""
    load, left = Loader(), HITS
    await cache.read("anna", "p0", load)

    async def reader() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await cache.read("anna", "p0", load)

    began = time.perf_counter()
    await asyncio.gather(*(reader() for _ in range(READERS)))
    return HITS / (time.perf_counter() - began)


async def _sees_the_change(here: Peer, there: Peer) -> bool:
    load = Loader(0.2)
    loading = asyncio.create_task(here.read("changing", "p0", load))
    await asyncio.sleep(0.1)
    load.version = 1
    await there.invalidate_user("changing")
    await loading
    return bool((await there.read("changing", "p0", load))["version"] == 1)


def compare() -> str:
    """A table of all peers, measured in turn."""
    from statistics import median

    from tests.benchmarks.server import server

    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as url:
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in PEERS}
        for _ in range(RUNS):
            for name, runs in found.items():
                program = [str(PYTHON[name]), __file__, name, url]
                runs.append(json.loads(subprocess.check_output(program, timeout=120)))
    ours = median(run["hits"] for run in found["ours"])
    lines = ["| | hits/s | ours / theirs | loads of 200 misses | commands | change seen |", "|" + "---|" * 6]
    for name, runs in found.items():
        hits = median(run["hits"] for run in runs)
        loads, commands, seen = (
            ", ".join(str(run[what]) for run in runs) for what in ("loads", "commands", "seen")
        )
        lines.append(f"| {name} | {hits:,.0f} | {ours / hits:.2f} | {loads} | {commands} | {seen} |")
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        import uvloop

        figures = uvloop.run(measure(PEERS[sys.argv[1]], sys.argv[2]))
        sys.stdout.write(json.dumps(figures))
    else:
        sys.stdout.write(compare() + "\n")
