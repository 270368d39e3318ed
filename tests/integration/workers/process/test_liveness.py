"""Snapshots with processes that are gone or dead, and with times ahead of the clock."""

from __future__ import annotations

import json
from typing import Any

import pytest
from redis.asyncio import Redis

from storage.redis.client import execute
from storage.redis.scripts import run_script
from tests.integration.workers.process.conftest import HOUR_MS, View, add_leases, server_ms
from tests.support.engine import MakeBench
from tests.support.waiting import eventually
from workers.engine.keys import BEATS, PROCESS, WAKE_CHANNEL, WORKERS
from workers.engine.policy import QueuePolicy
from workers.engine.queue import DECLARE_DEAD_SCRIPT
from workers.monitoring.descriptions import held_by_dead
from workers.process.heartbeat import BLOCKED_SCRIPT


async def idle(ctx: dict[str, Any], number: int = 0) -> None: ...


async def test_a_process_that_publishes_that_its_channel_counts_is_gone_when_the_channel_is(
    make_bench: MakeBench, view: View
) -> None:
    bench = make_bench()
    process = await bench.start(idle)
    channel = f"{PROCESS}{process.id}"

    async def about() -> dict[str, Any]:
        return dict(json.loads(await bench.redis.hget(WORKERS, process.id) or b"{}"))

    async def counted() -> bool:
        return bool((await about()).get("channel"))

    await eventually(counted)
    assert (await bench.redis.pubsub_numsub(channel))[0][1] == 1
    assert await view.states() == ["running"]
    # As after kill -9: its words are a few seconds old, and nobody listens on its channel.
    gone = await about()
    await bench.redis.hset(
        WORKERS, mapping={"gone": json.dumps(gone), "at:gone": await server_ms(bench.redis)}
    )
    assert await view.states() == ["running"] * 2, "it may be reconnecting"
    await bench.redis.hset(WORKERS, "at:gone", await server_ms(bench.redis) - 4000)
    assert [worker.id for worker in (await view.now()).workers] == [process.id]


async def test_published_presence_counts_on_a_redis_that_denies_the_list_of_subscribers(
    redis: Redis, redis_url: str, make_bench: MakeBench, view: View
) -> None:
    bench = make_bench()
    words = {"host": "box", "pid": 1, "version": "1", "queues": ["color-extraction"], "draining": False}
    presence = json.dumps({**words, "forget": 65, "channel": True})
    await bench.redis.hset(WORKERS, mapping={"w": presence, "at:w": await server_ms(redis) - 20_000})
    assert await view.states() == []
    await execute(redis, "ACL", "SETUSER", "default", "-pubsub")
    try:
        assert await view.states() == ["running"]
        process = await bench.start(idle)
        await eventually(lambda: process.dispatchers[bench.policy.name].turned.is_set())
        assert len(await view.states()) == 2
        await eventually(lambda: _publishes_that_it_is_not_counted(redis, process.id))
    finally:
        await execute(redis, "ACL", "SETUSER", "default", "+pubsub")


async def _publishes_that_it_is_not_counted(redis: Redis, worker_id: str) -> bool:
    return json.loads(await redis.hget(WORKERS, worker_id) or b"{}").get("channel") is False


async def test_a_user_with_a_right_to_the_one_channel_only_is_nudged_all_the_same(
    redis: Redis, make_bench: MakeBench, view: View
) -> None:
    bench = make_bench()
    await execute(redis, "ACL", "SETUSER", "default", "resetchannels", f"&{WAKE_CHANNEL}")
    try:
        process = await bench.start(idle)

        async def subscribed() -> bool:
            return bool((await bench.redis.pubsub_numsub(WAKE_CHANNEL))[0][1] == 1)

        await eventually(subscribed)
        assert (await bench.redis.pubsub_numsub(f"{PROCESS}{process.id}"))[0][1] == 0
        assert await view.states() == ["running"]
    finally:
        await execute(redis, "ACL", "SETUSER", "default", "allchannels")


async def test_jobs_of_the_dead_are_counted_with_the_time_at_which_they_run_again(
    make_bench: MakeBench, view: View
) -> None:
    bench = make_bench()
    await add_leases(bench, "silent", 3, beat=11_000)
    queue = await view.queue()
    assert (queue.in_flight, queue.held_by_dead, queue.workers) == (3, 3, 0)
    assert held_by_dead(queue) == "3 held by a dead worker, run again when a worker starts"
    (worker,) = (await view.now()).workers
    assert (worker.state, worker.in_flight) == ("dead", 3)
    bench.policy = QueuePolicy("color-extraction", "extract_colors", concurrency=5, timeout=60)
    await bench.start(idle)
    queue = await view.queue()
    assert queue.recover_in is not None
    assert 0 < queue.recover_in <= 8
    assert held_by_dead(queue).startswith("3 held by a dead worker, run again in ")


@pytest.mark.parametrize("field", ["beat", "at", "both"])
async def test_a_dead_process_whose_words_lie_an_hour_ahead_is_dead(
    make_bench: MakeBench, view: View, field: str
) -> None:
    bench = make_bench()
    ahead = await server_ms(bench.redis) + HOUR_MS
    await add_leases(bench, "silent", 2, beat=None)
    words = {"host": "box", "pid": 1, "version": "1", "queues": ["color-extraction"], "draining": False}
    await bench.redis.hset(WORKERS, "silent", json.dumps({**words, "forget": 65, "channel": True}))
    if field != "at":
        await bench.redis.zadd(BEATS, {"silent": ahead})
    if field != "beat":
        await bench.redis.hset(WORKERS, "at:silent", ahead)
    assert await view.states() == ["dead"]
    assert (await view.queue()).held_by_dead == 2


@pytest.mark.parametrize("odd", ["ahead", "inf", "nan", "soon", "", "1e999"])
async def test_a_start_repairs_instants_that_would_never_expire(
    make_bench: MakeBench, redis: Redis, odd: str
) -> None:
    bench = make_bench()
    now = await server_ms(redis)
    value = str(now + HOUR_MS) if odd == "ahead" else odd
    await redis.hset(WORKERS, mapping={"silent": "{}", "at:silent": value})
    await redis.zadd(BEATS, {"silent": now + HOUR_MS})
    await bench.start(idle)
    left = await redis.hget(WORKERS, "at:silent")
    assert left is None or now - 1000 <= int(left) <= await server_ms(redis)
    assert (await redis.zscore(BEATS, "silent") or 0) <= await server_ms(redis)


async def test_a_worker_that_beats_is_not_declared_dead_by_others(make_bench: MakeBench) -> None:
    bench = make_bench()
    now = await server_ms(bench.redis)
    await bench.redis.hset(WORKERS, mapping={"w": "{}", "at:w": now})
    await bench.redis.zadd(BEATS, {"w": now})
    assert await bench.queue.declare_dead("w", 8) is None
    assert await bench.redis.zscore(BEATS, "w") == now
    await bench.redis.zadd(BEATS, {"w": now - 9000})
    await bench.redis.hset(WORKERS, "blocked:w", b'1 {"where": "handler shop:f, shop.py:3 in f"}')
    assert await bench.queue.declare_dead("w", 8) == "handler shop:f, shop.py:3 in f"
    assert await bench.redis.zscore(BEATS, "w") < now - 60_000
    assert int(await bench.redis.hget(WORKERS, "at:w") or 0) < 0


async def test_the_scripts_work_before_any_process_has_published_its_presence(redis: Redis) -> None:
    await run_script(redis, BLOCKED_SCRIPT.call([WORKERS], ["w", b"{}", 5000]))
    since = int((await redis.hget(WORKERS, "blocked:w") or b"").split()[0])
    assert abs(await server_ms(redis) - 5000 - since) < 60_000
    assert await run_script(redis, BLOCKED_SCRIPT.call([WORKERS], ["w", b"", 0])) == 1
    assert await run_script(redis, DECLARE_DEAD_SCRIPT.call([WORKERS, BEATS], ["nobody", 0])) is None
    assert await redis.hgetall(WORKERS) == {}
