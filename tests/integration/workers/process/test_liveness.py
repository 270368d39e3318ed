"""What a snapshot says of processes that die, freeze, block or hang, and of instants ahead of the clock."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis as sync_redis
from redis.asyncio import Redis

from storage.database.engine import Database
from storage.dead_letters.repository import DeadLetterRepository
from storage.redis.client import execute
from storage.redis.scripts import run_script
from tests.integration.workers.conftest import Bench, MakeBench, eventually
from tests.support.processes import Journal, Spawner
from workers.engine.keys import BEATS, PROCESS, WAKE_CHANNEL, WORKERS
from workers.engine.policy import QueuePolicy, Timings
from workers.engine.queue import DECLARE_DEAD_SCRIPT
from workers.monitoring.descriptions import descriptions
from workers.monitoring.snapshot import QueueSnapshot, Snapshot
from workers.monitoring.snapshot_reader import SnapshotReader
from workers.process.heartbeat import BLOCKED_SCRIPT

HOUR_MS = 3_600_000


class View:
    """Snapshots of the one queue of a bench."""

    def __init__(self, observer: SnapshotReader) -> None:
        self._observer = observer

    async def now(self) -> Snapshot:
        return await self._observer.snapshot(loop_lag=None, drain_deadline_in=None)

    async def queue(self) -> QueueSnapshot:
        (found,) = (await self.now()).queues
        return found

    async def states(self) -> list[str]:
        return [worker.state for worker in (await self.now()).workers]


@pytest.fixture
async def view(redis: Redis, redis_url: str, database: Database) -> AsyncIterator[View]:
    policy = QueuePolicy("color-extraction", "extract_colors", concurrency=5, timeout=60)
    made = SnapshotReader(
        redis,
        redis_url,
        [policy],
        database,
        DeadLetterRepository(database),
        environment="test",
        weather_provider="offline",
    )
    yield View(made)
    await made.close()


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
async def spawn(redis_url: str, sqlite_url: str, journal: Journal) -> AsyncIterator[Spawner]:
    spawner = Spawner(redis=redis_url, database=sqlite_url, journal=str(journal.path))
    yield spawner
    await spawner.end()


async def server_ms(redis: Redis) -> int:
    seconds, micros = await redis.time()
    return int(seconds) * 1000 + int(micros) // 1000


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
    said = json.dumps({**words, "forget": 65, "channel": True})
    await bench.redis.hset(WORKERS, mapping={"w": said, "at:w": await server_ms(redis) - 20_000})
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


async def _leases(bench: Bench, worker: str, count: int, *, beat: int | None) -> None:
    """``count`` jobs in flight at ``worker``, which beat so many ms ago."""
    await bench.send(count)
    await bench.queue.take(worker, count, [])
    await bench.redis.zrem(BEATS, worker)
    if beat is not None:
        await bench.redis.zadd(BEATS, {worker: await server_ms(bench.redis) - beat})


async def test_jobs_of_the_dead_are_counted_with_the_time_at_which_they_run_again(
    make_bench: MakeBench, view: View
) -> None:
    bench = make_bench()
    await _leases(bench, "silent", 3, beat=11_000)
    queue = await view.queue()
    assert (queue.in_flight, queue.held_by_dead, queue.workers) == (3, 3, 0)
    assert descriptions(queue) == ("3 held by a dead worker, run again when a worker starts",)
    (worker,) = (await view.now()).workers
    assert (worker.state, worker.in_flight) == ("dead", 3)
    bench.policy = QueuePolicy("color-extraction", "extract_colors", concurrency=5, timeout=60)
    await bench.start(idle)
    queue = await view.queue()
    assert queue.recover_in is not None
    assert 0 < queue.recover_in <= 8
    (words,) = descriptions(queue)
    assert words.startswith("3 held by a dead worker, run again in ")


@pytest.mark.parametrize("field", ["beat", "at", "both"])
async def test_a_dead_process_whose_words_lie_an_hour_ahead_is_dead(
    make_bench: MakeBench, view: View, field: str
) -> None:
    bench = make_bench()
    ahead = await server_ms(bench.redis) + HOUR_MS
    await _leases(bench, "silent", 2, beat=None)
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


async def test_a_queue_whose_jobs_all_hang_has_the_time_and_the_usual_run(
    make_bench: MakeBench, view: View
) -> None:
    bench = make_bench()
    await _leases(bench, "w", 4, beat=0)
    leases = bench.queue.keys.leases
    taken = await server_ms(bench.redis) - 25_000
    for job in await bench.redis.hkeys(leases):
        await bench.redis.hset(leases, job, f"w:1:{taken}")
    assert (await view.queue()).full_for is None, "a place is free"
    await bench.redis.hset(leases, "saq:job:color-extraction:x", f"w:2:{taken + 3000}")
    queue = await view.queue()
    (words,) = descriptions(queue)
    assert re.fullmatch(r"stalled: 5 of 5 run for \d\d s, nothing has ended", words)
    at = taken - 20 * 60_000
    await bench.redis.zadd(f"{bench.queue.keys.history}60", {f"[{at}, 0, 0]": at})
    await bench.redis.hset(bench.queue.keys.totals, "r30", 10)
    last = await view.now()
    (words,) = descriptions(last.queues[0])
    assert re.fullmatch(r"stalled: 5 of 5 run for \d\d s, usually 900 ms", words)
    assert ("stalled", words) in [(alert.name, alert.message) for alert in last.alerts]
    await bench.redis.hset(bench.queue.keys.totals, "r45", 90)
    assert descriptions(await view.queue()) == (), "it usually takes longer"
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
    await eventually(lambda: process._listener.counted)
    (key,) = await bench.send()
    await eventually(lambda: process.dispatchers[bench.policy.name].settled["complete"], within=30)
    ended.set()
    await asyncio.to_thread(thread.join)
    said = json.loads(notes[0].partition(b" ")[2])
    assert "test_liveness.py:" in said["where"]
    assert "handler of color-extraction" in said["where"]
    assert (said["queue"], said["job"]) == ("color-extraction", key)

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
    assert "5 held by a dead worker, run again when a worker starts" in descriptions(queue)


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
    await bench.stock.enqueue("extract_colors", timeout=0, seconds=5)
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


async def test_the_scripts_work_before_any_process_has_published_its_presence(redis: Redis) -> None:
    await run_script(redis, BLOCKED_SCRIPT.call([WORKERS], ["w", b"{}", 5000]))
    since = int((await redis.hget(WORKERS, "blocked:w") or b"").split()[0])
    assert abs(await server_ms(redis) - 5000 - since) < 60_000
    assert await run_script(redis, BLOCKED_SCRIPT.call([WORKERS], ["w", b"", 0])) == 1
    assert await run_script(redis, DECLARE_DEAD_SCRIPT.call([WORKERS, BEATS], ["nobody", 0])) is None
    assert await redis.hgetall(WORKERS) == {}
