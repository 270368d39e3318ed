"""Snapshots with processes that hang, block, freeze or are killed."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import threading
import time
from typing import Any

import pytest
import redis as sync_redis

from tests.integration.workers.process.conftest import HOUR_MS, View, add_leases, server_ms
from tests.support.engine import MakeBench
from tests.support.processes import Journal, Spawner
from tests.support.waiting import eventually
from workers.engine.keys import WORKERS
from workers.engine.policy import Timings
from workers.monitoring.descriptions import full_and_stalled, held_by_dead


async def test_a_queue_whose_jobs_all_hang_has_the_time_and_the_usual_run(
    make_bench: MakeBench, view: View
) -> None:
    bench = make_bench()
    await add_leases(bench, "w", 4, beat=0)
    leases = bench.queue.keys.leases
    taken = await server_ms(bench.redis) - 25_000
    for job in await bench.redis.hkeys(leases):
        await bench.redis.hset(leases, job, f"w:1:{taken}")
    assert (await view.queue()).full_for is None, "a place is free"
    await bench.redis.hset(leases, "saq:job:color-extraction:x", f"w:2:{taken + 3000}")
    queue = await view.queue()
    words = full_and_stalled(queue)
    assert re.fullmatch(r"stalled: 5 of 5 run for \d\d s, nothing has ended", words)
    at = taken - 20 * 60_000
    await bench.redis.zadd(f"{bench.queue.keys.history}60", {f"[{at}, 0, 0]": at})
    await bench.redis.hset(bench.queue.keys.totals, "r30", 10)
    last = await view.now()
    words = full_and_stalled(last.queues[0])
    assert re.fullmatch(r"stalled: 5 of 5 run for \d\d s, usually 900 ms", words)
    assert ("stalled", words) in [(alert.name, alert.message) for alert in last.alerts]
    await bench.redis.hset(bench.queue.keys.totals, "r45", 90)
    assert full_and_stalled(await view.queue()) == "", "it usually takes longer"
    await bench.redis.hset(leases, "saq:job:color-extraction:x", f"w:2:{taken + HOUR_MS}")
    assert (await view.queue()).full_for is None, "a time ahead is no time"


async def test_a_blocked_event_loop_is_named_while_it_stands_and_forgotten_when_it_moves(
    make_bench: MakeBench, redis_url: str, view: View
) -> None:
    bench = make_bench()
    notes: list[bytes] = []
    ended = threading.Event()

    def watch() -> None:
        with sync_redis.Redis.from_url(redis_url) as client:
            while not ended.wait(0.02):
                notes.extend(
                    value
                    for key, value in client.hgetall(WORKERS).items()  # type: ignore[union-attr]
                    if key.startswith(b"blocked:")
                )

    async def work(ctx: dict[str, Any], number: int) -> None:
        deadline = time.monotonic() + 20
        while not notes and time.monotonic() < deadline:
            time.sleep(0.05)  # noqa: ASYNC251 - what a careless handler does

    thread = threading.Thread(target=watch)
    thread.start()
    timings = Timings(blocked_after_seconds=0.3, loop_count_seconds=0.05, loop_check_seconds=0.05)
    process = await bench.start(work, timings=timings)
    await eventually(lambda: process.links[0].listener.counted)
    (key,) = await bench.send()
    await eventually(lambda: process.dispatchers[bench.policy.name].settled["complete"], within=30)
    ended.set()
    await asyncio.to_thread(thread.join)
    note = json.loads(notes[0].partition(b" ")[2])
    assert "test_stuck_processes.py:" in note["where"]
    assert "handler of color-extraction" in note["where"]
    assert (note["queue"], note["job"]) == ("color-extraction", key)

    async def forgotten() -> bool:
        return not await bench.redis.hexists(WORKERS, f"blocked:{process.id}")

    await eventually(forgotten)
    assert await view.states() == ["running"]


@pytest.mark.slow
async def test_workers_that_were_all_killed_are_shown_dead_with_what_they_held(
    make_bench: MakeBench, spawn: Spawner, journal: Journal, view: View
) -> None:
    bench = make_bench()
    victims = [await spawn(), await spawn()]

    async def connected() -> bool:
        presences = await bench.redis.hgetall(WORKERS)
        return sum(b'"channel":true' in presence for presence in presences.values()) == len(victims)

    await eventually(connected)  # before, a lost connection proves nothing
    for _ in range(5):
        await bench.stock.enqueue("extract_colors", timeout=0, seconds=60)
    await eventually(lambda: len(journal.events("start")) == 5)
    for victim in victims:
        victim.kill()

    async def dead() -> bool:
        states = await view.states()
        return bool(states) and set(states) == {"dead"}

    await eventually(dead, within=15)
    queue = await view.queue()
    assert (queue.workers, queue.in_flight, queue.held_by_dead) == (0, 5, 5)
    assert held_by_dead(queue) == "5 held by a dead worker, run again when a worker starts"


@pytest.mark.slow
async def test_what_a_killed_process_held_is_right_at_every_sample_until_it_runs_again(
    make_bench: MakeBench, spawn: Spawner, journal: Journal, view: View
) -> None:
    bench = make_bench()
    victim = await spawn()
    for _ in range(5):
        await bench.stock.enqueue("extract_colors", timeout=0, seconds=60)
    await eventually(lambda: len(journal.events("start")) == 5)
    other = await spawn()
    victim.kill()
    killed, samples = time.monotonic(), []
    while len(journal.events("start")) < 10:
        assert time.monotonic() < killed + 30
        queue, workers = await view.queue(), (await view.now()).workers
        samples.append((time.monotonic() - killed, queue.held_by_dead, [w.state for w in workers]))
        await asyncio.sleep(0.2)
    late = [sample for sample in samples if sample[0] > 6]
    assert late
    assert all(sample[1:] in ((5, ["dead", "running"]), (5, ["running", "dead"])) for sample in late[:-2])

    async def recovered() -> bool:
        queue = await view.queue()
        return (queue.held_by_dead, queue.in_flight, queue.workers) == (0, 5, 1)

    await eventually(recovered)
    assert [worker.pid for worker in (await view.now()).workers] == [other.pid]


@pytest.mark.slow
async def test_a_frozen_process_is_dead_while_it_is_frozen_and_runs_afterwards(
    make_bench: MakeBench, spawn: Spawner, journal: Journal, view: View
) -> None:
    bench = make_bench()
    frozen = await spawn()
    await bench.stock.enqueue("extract_colors", timeout=0, seconds=60)
    await eventually(lambda: journal.events("start"))
    frozen.send_signal(signal.SIGSTOP)

    async def dead() -> bool:
        return await view.states() == ["dead"]

    await eventually(dead, within=20)
    other = await spawn()

    async def alone() -> bool:
        return [worker.pid for worker in (await view.now()).workers] == [other.pid]

    await eventually(lambda: len(journal.events("start")) == 2, within=20)
    await eventually(alone)
    frozen.send_signal(signal.SIGCONT)

    async def both() -> bool:
        return await view.states() == ["running"] * 2

    await eventually(both, within=20)


@pytest.mark.slow
async def test_a_frozen_process_does_not_take_its_loop_for_blocked(
    make_bench: MakeBench, spawn: Spawner, journal: Journal
) -> None:
    bench = make_bench(timeout=1.0)
    frozen = await spawn(timeout=1.0, retry_delays=[])
    await bench.stock.enqueue("extract_colors", timeout=0, seconds=20)
    await eventually(lambda: journal.events("start"))
    frozen.send_signal(signal.SIGSTOP)
    await asyncio.sleep(13)  # longer than the watchdog's limits all together
    frozen.send_signal(signal.SIGCONT)
    await eventually(lambda: journal.events("cancelled"))
    frozen.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(frozen.wait(), 20) == 0
