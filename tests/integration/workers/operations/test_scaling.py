"""The load of a queue, on a real server."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from redis.asyncio import Redis

from tests.support.engine import Bench, MakeBench
from tests.support.waiting import eventually
from workers.operations.scaling import QueueLoad, read_loads


async def load_of(bench: Bench) -> QueueLoad:
    (load,) = await read_loads([bench.queue])
    return load


async def test_an_empty_queue_has_no_load(make_bench: MakeBench) -> None:
    bench = make_bench(concurrency=5)
    assert await load_of(bench) == QueueLoad("color-extraction", 0, 0, 0, 5, paused=False)
    assert (await load_of(bench)).load == 0.0


async def test_jobs_in_flight_ready_and_due_count_and_those_for_later_do_not(make_bench: MakeBench) -> None:
    bench = make_bench(concurrency=2)
    release = asyncio.Event()

    async def wait(ctx: dict[str, Any], number: int) -> None:
        await release.wait()

    await bench.start(wait)
    await bench.send(5)
    await bench.stock.enqueue("extract_colors", number=9, scheduled=int(time.time()) + 3_600)

    async def all_in_flight() -> bool:
        return (await load_of(bench)).in_flight == 2

    await eventually(all_in_flight)
    load = await load_of(bench)
    assert (load.ready, load.due, load.capacity, load.load) == (3, 0, 2, 2.5)
    # As after its time, while all slots are taken and no process has moved it.
    await bench.redis.zadd(bench.queue.keys.incomplete, {"saq:job:color-extraction:due": time.time() - 1})
    load = await load_of(bench)
    assert load.ready + load.due == 4
    release.set()


async def test_of_a_paused_queue_only_jobs_in_flight_count(make_bench: MakeBench, redis: Redis) -> None:
    bench = make_bench(concurrency=4)
    await bench.send(8)
    await redis.hset(bench.queue.keys.pause, mapping={"by": "ops", "reason": "CDN", "since": "1"})
    await redis.hset(bench.queue.keys.leases, "saq:job:color-extraction:x", "w:1:1")
    load = await load_of(bench)
    assert (load.paused, load.ready, load.in_flight, load.load) == (True, 8, 1, 0.25)


async def test_keys_of_another_type_count_as_empty(make_bench: MakeBench, redis: Redis) -> None:
    bench = make_bench()
    keys = bench.queue.keys
    for key in (keys.queued, keys.incomplete, keys.leases):
        await redis.set(key, "foreign")
    assert (await load_of(bench)).load == 0.0
    await redis.delete(keys.queued, keys.incomplete, keys.leases)
