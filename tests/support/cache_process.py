"""A real process that reads through the cache: ``python -m tests.support.cache_process '{"redis": …}'``.

Options (one JSON object): redis, journal (a file to which each load appends a line), readers (at the same
time), at (Unix seconds at which they all read), seconds (that a load takes, 0.3 without it), load_seconds
(that it may take).  Prints one JSON object: count, and the set of values.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

from storage.cache.cache import Cache
from storage.cache.entries import CacheKey
from storage.cache.store import RedisCacheStore
from storage.redis.auto_pipeline import AutoPipeline
from storage.redis.pipeline import PipelineConnection


async def main(options: dict[str, Any]) -> None:
    async def load() -> str:
        journal = os.open(options["journal"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(journal, f"{os.getpid()}\n".encode())
        os.close(journal)
        await asyncio.sleep(options.get("seconds", 0.3))
        return "loaded once"

    line = PipelineConnection(options["redis"])
    store = RedisCacheStore(AutoPipeline(line.round_trip))
    cache = Cache(store, str, load_seconds=options.get("load_seconds", 2.0))
    await asyncio.sleep(max(0.0, options["at"] - time.time()))
    key = CacheKey("u1", "place")
    began = time.monotonic()
    answers = await asyncio.gather(*(cache.get_or_load(key, load) for _ in range(options["readers"])))
    took = time.monotonic() - began
    await cache.close()
    await line.close()
    values = sorted({answer.value for answer in answers})
    sys.stdout.write(json.dumps({"count": len(answers), "values": values, "seconds": took}))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
