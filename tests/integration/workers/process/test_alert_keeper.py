"""Alerts of a real queue: the same for all who look, and recorded once."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from storage.database.engine import Database
from storage.database.events import NewEvent
from storage.dead_letters.repository import DeadLetterRepository
from storage.repositories.alert_history import AlertHistoryRepository, FiringAlert
from tests.support.engine import Bench, MakeBench
from tests.support.fake_moments import HEALTHY
from tests.support.processes import Spawner
from tests.support.waiting import eventually
from workers.engine.keys import OBSERVED, WAKE_CHANNEL
from workers.engine.policy import ALERT, COLOR, RateLimit
from workers.monitoring.snapshot import Alert, LostWorker, RedisSnapshot, Snapshot
from workers.monitoring.snapshot_reader import SnapshotReader
from workers.process import idle_checks
from workers.process.alert_keeper import AlertKeeper
from workers.process.idle_checks import IdleChecks

MakeReader = Callable[[Bench], SnapshotReader]


async def server_ms(redis: Redis) -> int:
    seconds, micros = await redis.time()
    return int(seconds * 1000 + micros // 1000)


async def succeed(ctx: dict[str, Any], number: int) -> None: ...


@pytest.fixture
async def make_reader(database: Database) -> AsyncIterator[MakeReader]:
    made: list[SnapshotReader] = []

    def make(bench: Bench) -> SnapshotReader:
        letters, history = DeadLetterRepository(database), AlertHistoryRepository(database)
        made.append(
            SnapshotReader(
                bench.redis,
                bench.url,
                [bench.policy],
                database,
                letters,
                environment="test",
                weather_provider="offline",
                history=history,
            )
        )
        return made[-1]

    yield make
    for reader in made:
        await reader.close()


async def _now(reader: SnapshotReader, **options: Any) -> Snapshot:
    return await reader.snapshot(loop_lag=None, drain_deadline_in=None, **options)


async def _alerts(reader: SnapshotReader) -> dict[str, Alert]:
    return {alert.name: alert for alert in (await _now(reader)).alerts}


def _keeper(bench: Bench, database: Database, reader: SnapshotReader, events: list[NewEvent]) -> AlertKeeper:
    return AlertKeeper(
        bench.redis,
        AlertHistoryRepository(database),
        lambda: _now(reader, keep_history=True),
        is_active=lambda: True,
        idle=IdleChecks([bench.redis], count_seconds=30),
        emit=events.append,
    )


async def _fill(bench: Bench, count: int, ago: float) -> None:
    """Ready jobs that were enqueued ``ago`` seconds ago."""
    queued = await server_ms(bench.redis) - round(ago * 1000)
    for number in range(count):
        job_id = bench.queue.job_id(str(number))
        body = {
            "function": bench.policy.function,
            "key": str(number),
            "queue": bench.policy.name,
            "queued": queued,
        }
        await bench.redis.set(job_id, json.dumps(body | {"kwargs": {"number": number}}))
        await bench.redis.zadd(bench.queue.keys.incomplete, {job_id: 0})
        await bench.redis.rpush(bench.queue.keys.queued, job_id)


async def test_every_process_has_the_same_moment_since_which_no_worker_serves_a_queue(
    make_bench: MakeBench, make_reader: MakeReader
) -> None:
    bench = make_bench()
    first, second = make_reader(bench), make_reader(bench)
    seen = (await _alerts(first))["no_worker"]
    assert seen.state == "pending"
    await asyncio.sleep(0.05)
    assert (await _alerts(second))["no_worker"].since == seen.since
    await bench.redis.hset(OBSERVED, "no_worker|color-extraction|", await server_ms(bench.redis) - 16_000)
    for reader in (first, second, make_reader(bench)):
        assert (await _alerts(reader))["no_worker"].state == "firing"
    await bench.start(succeed)
    await eventually(lambda: _is_served(first))
    assert await bench.redis.hgetall(OBSERVED) == {}


async def _is_served(reader: SnapshotReader) -> bool:
    return "no_worker" not in await _alerts(reader)


async def test_a_moment_ahead_of_the_clock_or_of_junk_is_written_again(
    make_bench: MakeBench, make_reader: MakeReader
) -> None:
    bench = make_bench()
    for written in (b"soon", str(await server_ms(bench.redis) + 3_600_000).encode(), b"-1"):
        await bench.redis.hset(OBSERVED, "no_worker|color-extraction|", written)
        since = (await _alerts(make_reader(bench)))["no_worker"].since
        assert since is not None
        assert abs(since - await server_ms(bench.redis) / 1000) < 5


async def test_a_backlog_that_no_process_saw_is_as_old_as_its_jobs(
    make_bench: MakeBench, make_reader: MakeReader
) -> None:
    bench = make_bench()
    await _fill(bench, 120, ago=90)
    alert = (await _alerts(make_reader(bench)))["backlog"]
    assert (alert.state, alert.value) == ("firing", 120)


async def test_a_silence_is_known_before_the_alert_that_it_covers_fires(
    make_bench: MakeBench, make_reader: MakeReader, database: Database
) -> None:
    bench = make_bench()
    reader = make_reader(bench)
    assert (await _alerts(reader))["no_worker"].state == "pending"
    now = datetime.now(UTC)
    await AlertHistoryRepository(database).silence(
        "no_worker", None, now + timedelta(hours=1), "ann", "deploy", now
    )
    reader.invalidate_decisions()

    async def is_known() -> bool:
        alert = (await _alerts(reader))["no_worker"]
        return (alert.state, alert.silenced_by) == ("pending", "ann")

    await eventually(is_known)
    await bench.redis.hset(OBSERVED, "no_worker|color-extraction|", await server_ms(bench.redis) - 16_000)
    assert (await _alerts(reader))["no_worker"].state == "silenced"


async def test_an_alert_is_recorded_once_by_three_keepers_and_its_end_too(
    make_bench: MakeBench, make_reader: MakeReader, database: Database
) -> None:
    bench = make_bench()
    await _fill(bench, 120, ago=90)
    await bench.redis.hset(bench.queue.keys.pause, mapping={"by": "ann", "since": time.time()})
    await bench.start(succeed)
    events: list[NewEvent] = []
    keepers = [_keeper(bench, database, make_reader(bench), events) for _ in range(3)]
    passes = await asyncio.gather(*(keeper.check() for keeper in keepers))
    assert sum(changes is not None for changes in passes) == 1, "one process holds the lock"
    assert [(event.kind, event.subject) for event in events] == [("alert-fired", "backlog")]
    assert await bench.redis.zcard(f"{bench.queue.keys.history}10") == 1, "a paused queue has a history, too"
    await bench.redis.ltrim(bench.queue.keys.queued, 40, -1)
    (keeper,) = (keeper for keeper, changes in zip(keepers, passes, strict=True) if changes is not None)
    await keeper.check()
    assert [event.kind for event in events] == ["alert-fired", "alert-resolved"]


async def test_a_process_that_ends_while_nothing_happens_is_noticed(
    make_bench: MakeBench, make_reader: MakeReader, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle_checks, "_LOOK_SECONDS", 1e-6)
    bench = make_bench()
    keeper = AlertKeeper(
        bench.redis,
        AlertHistoryRepository(database),
        lambda: _now(make_reader(bench)),
        is_active=lambda: False,
        idle=IdleChecks([bench.redis], count_seconds=0),
        emit=lambda event: None,
    )
    processes = [await bench.start(succeed) for _ in range(2)]
    await eventually(lambda: _listen(bench, 2))
    await keeper.check()
    assert not await keeper.has_reason()
    assert not await keeper.has_reason(), "two processes, as before"
    processes[0].drain_now()
    await processes[0].wait_drained()
    await processes[0].close()
    bench.processes.remove(processes[0])
    await eventually(lambda: _listen(bench, 1))
    assert await keeper.has_reason()
    await keeper.check()
    assert not await keeper.has_reason()


@pytest.mark.slow
async def test_a_killed_process_without_jobs_is_one_event_of_the_cluster(
    make_bench: MakeBench, make_reader: MakeReader, database: Database, spawn: Spawner
) -> None:
    bench = make_bench()
    victim, events = await spawn(), list[NewEvent]()
    (worker,) = (await _now(make_reader(bench))).workers
    keepers = [_keeper(bench, database, make_reader(bench), events) for _ in range(2)]
    await asyncio.gather(*(keeper.check() for keeper in keepers))
    assert not [event for event in events if event.kind == "worker-lost"]
    victim.kill()

    async def is_found() -> bool:
        await asyncio.gather(*(keeper.check() for keeper in keepers))
        return any(event.kind == "worker-lost" for event in events)

    await eventually(is_found, within=30)
    await asyncio.gather(*(keeper.check() for keeper in keepers))
    (lost,) = (event for event in events if event.kind == "worker-lost")
    assert (lost.subject, lost.dedupe) == (worker.id, f"worker-lost:{worker.id}")
    assert lost.message.endswith(f"({worker.host}, pid {worker.pid}) ended without a drain; it held no jobs")


async def _listen(bench: Bench, count: int) -> bool:
    ((_, listening),) = await bench.redis.pubsub_numsub(WAKE_CHANNEL)
    return bool(listening == count)


async def test_ready_jobs_that_a_living_process_does_not_start_are_a_stall(
    make_bench: MakeBench, make_reader: MakeReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench()
    process = await bench.start(succeed)
    dispatcher = process.dispatchers[bench.policy.name]
    await eventually(dispatcher.turned.is_set)
    turn, hangs, released = dispatcher._advance, asyncio.Event(), asyncio.Event()

    async def hang() -> bool:
        hangs.set()
        await released.wait()
        return await turn()

    monkeypatch.setattr(dispatcher, "_advance", hang)
    dispatcher.wake()
    await hangs.wait()
    ago = await server_ms(bench.redis) - 40_000
    await bench.redis.hset(bench.queue.keys.turns, process.id, ago)
    await bench.redis.hset("couturecast:workers", f"since:{process.id}", ago)
    await _fill(bench, 3, ago=31)
    reader = make_reader(bench)
    alert = (await _alerts(reader))["stalled"]
    assert alert.state == "pending"
    assert alert.message == "stalled: 3 ready, nothing forbids a start, none for 31 s"
    (key,) = await bench.redis.hkeys(OBSERVED)
    await bench.redis.hset(OBSERVED, key, await server_ms(bench.redis) - 11_000)
    assert (await _alerts(reader))["stalled"].state == "firing"
    released.set()
    await eventually(lambda: _is_not_stalled(reader))


async def _is_not_stalled(reader: SnapshotReader) -> bool:
    return "stalled" not in await _alerts(reader)


async def test_a_process_that_stopped_taking_is_named_while_another_one_drains_the_queue(
    make_bench: MakeBench, make_reader: MakeReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(ctx: dict[str, Any], number: int) -> None:
        await asyncio.sleep(0.2)

    bench = make_bench(concurrency=1)
    stopped = await bench.start(work)
    dispatcher = stopped.dispatchers[bench.policy.name]
    await eventually(dispatcher.turned.is_set)
    turn, hangs, released = dispatcher._advance, asyncio.Event(), asyncio.Event()

    async def hang() -> bool:
        hangs.set()
        await released.wait()
        return await turn()

    monkeypatch.setattr(dispatcher, "_advance", hang)
    dispatcher.wake()
    await hangs.wait()
    ago = await server_ms(bench.redis) - 40_000
    await bench.redis.hset(bench.queue.keys.turns, stopped.id, ago)
    await bench.redis.hset("couturecast:workers", f"since:{stopped.id}", ago)
    await _fill(bench, 50, ago=31)
    await bench.start(work)

    async def other_works() -> bool:
        return await bench.total("completed") > 0

    await eventually(other_works)
    alert = (await _alerts(make_reader(bench)))["stalled"]
    assert alert.subject == stopped.id
    assert re.search(r":\d+ takes nothing for 3\d s, \d+ ready", alert.message)
    released.set()
    reader = make_reader(bench)
    await eventually(lambda: _is_not_stalled(reader))


async def test_a_queue_that_waits_for_its_rate_limit_is_not_stalled(
    make_bench: MakeBench, make_reader: MakeReader
) -> None:
    bench = make_bench(rate_limit=RateLimit(2, 60))
    await bench.start(succeed)
    await bench.send(5)

    async def two_started() -> bool:
        return await bench.total("completed") == 2

    await eventually(two_started)
    reader = make_reader(bench)
    (queue,) = (await _now(reader)).queues
    assert queue.next_start_in is not None
    assert "stalled" not in await _alerts(reader)


async def test_alerts_of_a_redis_that_is_down_stay_and_those_of_the_others_end(
    make_bench: MakeBench, database: Database
) -> None:
    bench, history = make_bench(), AlertHistoryRepository(database)
    down = RedisSnapshot("x", "refused", name=f"Redis of {COLOR}", queues=(COLOR,), subject=COLOR)
    snapshot = replace(HEALTHY, alerts=(), other_redises=(down,))
    await history.record(
        [
            FiringAlert("backlog", COLOR, "", "132 queued", 132.0),
            FiringAlert("backlog", ALERT, "", "132 queued", 132.0),
            FiringAlert("redis_memory", "", COLOR, "full", 0.9),
            FiringAlert("redis_memory", "", "", "full", 0.9),
            FiringAlert("event_loop_blocked", "", "w1", "blocked", None),
        ],
        datetime.now(UTC),
    )

    async def take() -> Snapshot:
        return snapshot

    keeper = AlertKeeper(
        bench.redis,
        history,
        take,
        is_active=lambda: True,
        idle=IdleChecks([bench.redis], count_seconds=30),
        emit=lambda event: None,
    )
    changes = await keeper.check()
    assert changes is not None
    assert sorted(record.key for record in changes.resolved) == [
        ("backlog", ALERT, ""),
        ("redis_memory", "", ""),
    ]
    snapshot = replace(HEALTHY, alerts=())
    changes = await keeper.check()
    assert changes is not None
    assert not changes.firing


async def test_a_process_that_is_missing_in_one_pass_only_is_not_lost(
    make_bench: MakeBench, database: Database
) -> None:
    bench, events = make_bench(), list[NewEvent]()
    lost = LostWorker("w" * 32, "box", 7, None, 50.0, connected=False)
    passes = [(lost,), (), (lost,), (lost,), (lost,)]

    async def take() -> Snapshot:
        return replace(HEALTHY, alerts=(), lost=passes.pop(0))

    keeper = AlertKeeper(
        bench.redis,
        AlertHistoryRepository(database),
        take,
        is_active=lambda: False,
        idle=IdleChecks([bench.redis], count_seconds=3600),
        emit=events.append,
    )
    for _ in range(3):
        await keeper.check()
        assert not events
    assert await keeper.has_reason(), "the next pass tells"
    for _ in range(2):
        await keeper.check()
    assert [event.subject for event in events] == [lost.id]
    assert not await keeper.has_reason()
