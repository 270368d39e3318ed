"""An outage of Redis is one alert of the cluster: it fires after its time, and ends for all at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from saq.queue.redis import RedisQueue

from storage.database.engine import Database
from storage.database.events import NewEvent
from storage.dead_letters.repository import DeadLetterRepository
from storage.redis.client import make_client
from storage.repositories.alert_history import AlertHistoryRepository
from tests.support.servers import ValkeyServer, free_port
from tests.support.waiting import eventually
from workers.engine.policy import COLOR, DEFAULT_POLICIES
from workers.monitoring import background_value, roster
from workers.monitoring.alert_rules import REDIS, Thresholds
from workers.monitoring.snapshot import Snapshot
from workers.monitoring.snapshot_reader import SnapshotReader
from workers.operations.worker_list import list_workers
from workers.process import alert_keeper, wake_listener
from workers.process.alert_keeper import AlertKeeper
from workers.process.idle_checks import IdleChecks
from workers.process.worker_process import WorkerProcess

POLICY = DEFAULT_POLICIES[COLOR]
FOR_SECONDS = 1.5


class Member:
    """One process of a cluster, with what keeps its alerts."""

    def __init__(self, url: str, database: Database, events: list[NewEvent]) -> None:
        self.has_crashed = False
        self.redis = make_client(url)
        letters, history = DeadLetterRepository(database), AlertHistoryRepository(database)
        self.process = WorkerProcess(url, policies=[POLICY], functions={COLOR: _succeed}, letters=letters)
        self.reader = SnapshotReader(
            self.redis,
            url,
            [POLICY],
            database,
            letters,
            environment="test",
            weather_provider="offline",
            thresholds=Thresholds(durations={REDIS: FOR_SECONDS}),
            history=history,
        )
        self.keeper = AlertKeeper(
            self.redis,
            history,
            self.snapshot,
            is_active=lambda: True,
            idle=IdleChecks([self.redis], count_seconds=30),
            emit=events.append,
        )

    async def snapshot(self) -> Snapshot:
        return await self.reader.snapshot(
            loop_lag=None, drain_deadline_in=None, outages=self.process.redis_outages
        )

    async def crash(self) -> None:
        """End the process as it is; while Redis is down, that leaves its traces there."""
        self.has_crashed = True
        await self.process.close()

    async def close(self) -> None:
        if not self.has_crashed:
            self.process.drain_now()
            await asyncio.wait_for(self.process.wait_drained(), 20)
            await self.process.close()
        await self.reader.close()
        await self.redis.aclose()


@pytest.fixture
def valkey_options() -> tuple[str, ...]:
    """Return options with which its data survives restarts."""
    return "--appendonly", "yes"


async def _succeed(ctx: dict[str, Any], seconds: float = 0.0) -> None:
    await asyncio.sleep(seconds)


@pytest.fixture
def events() -> list[NewEvent]:
    return []


@pytest.fixture
async def members(
    valkey: ValkeyServer, database: Database, events: list[NewEvent]
) -> AsyncIterator[list[Member]]:
    made = [Member(valkey.url, database, events) for _ in range(3)]
    for member in made:
        await member.process.start()
    await eventually(lambda: all(member.process.links[0].listener.counted for member in made))
    yield made
    for member in made:
        await member.close()


async def _pass(members: list[Member]) -> None:
    for member in members:
        await member.keeper.check()
    await asyncio.sleep(0.1)


def _of_redis(events: list[NewEvent]) -> list[str]:
    return [event.kind for event in events if event.subject == REDIS]


@pytest.mark.slow
async def test_an_outage_of_redis_is_one_alert_of_three_processes_and_one_end(
    valkey: ValkeyServer, members: list[Member], events: list[NewEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_keeper, "_REPEAT_SECONDS", -4.0)  # with the pause of 5 s: a second
    for _ in range(2):
        events.clear()
        await members[0].snapshot()  # as a dashboard does all the time, and the others do not
        valkey.kill()
        began = time.monotonic()
        while not _of_redis(events):
            await _pass(members)
            assert time.monotonic() < began + 10
        assert time.monotonic() - began > FOR_SECONDS
        for _ in range(5):
            await _pass(members)
        assert _of_redis(events) == ["alert-fired"]
        valkey.start()
        await eventually(lambda: not any(member.process.redis_error for member in members))

        async def is_over() -> bool:
            await _pass(members)
            return "alert-resolved" in _of_redis(events)

        await eventually(is_over, within=15)
        for _ in range(5):
            await _pass(members)
        assert _of_redis(events) == ["alert-fired", "alert-resolved"]


@pytest.mark.slow
async def test_no_process_ends_the_alert_of_one_that_still_cannot_use_redis(
    members: list[Member], database: Database, events: list[NewEvent]
) -> None:
    cut_off = Member(f"redis://127.0.0.1:{free_port()}", database, events)
    for member in members:  # one of them holds the lock
        await member.keeper.check()
    try:
        await cut_off.keeper.check()
        assert not _of_redis(events), "it has lasted for an instant"

        async def fires() -> bool:
            await _pass([cut_off, *members])
            return bool(_of_redis(events))

        await eventually(fires)
        for _ in range(10):
            await _pass([cut_off, *members])
        assert _of_redis(events) == ["alert-fired"]
    finally:
        await cut_off.close()


@pytest.mark.slow
async def test_after_an_outage_only_a_process_that_died_in_it_is_lost(
    valkey: ValkeyServer, members: list[Member], events: list[NewEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wake_listener, "_RECONNECT_SECONDS", (6.0, 6.0))  # a connect may take its timeout
    victim, *living = members
    await living[0].keeper.check()
    valkey.stop()
    began = time.monotonic()
    await victim.crash()
    while time.monotonic() < began + 4:
        await _pass(living)
    await asyncio.sleep(4.5)  # the pause between two passes is longer than the outage was seen
    valkey.start()

    async def is_found() -> bool:
        await _pass(living)
        return any(event.kind == "worker-lost" for event in events)

    await eventually(is_found, within=40)
    for _ in range(5):
        await _pass(living)
    assert [event.subject for event in events if event.kind == "worker-lost"] == [victim.process.id]


@pytest.mark.slow
async def test_no_process_is_dead_or_ready_while_redis_takes_no_writes(
    members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_value, "REFRESH_SECONDS", 3600.0)  # its own check comes too late
    monkeypatch.setattr(roster, "_SILENT_SECONDS", 3.0)
    redis = members[0].redis
    producer = RedisQueue(redis, name=COLOR)
    for _ in range(3):
        await producer.enqueue(POLICY.function, seconds=60, timeout=90)

    async def holders() -> list[str]:
        workers = (await members[0].snapshot()).workers
        return [worker.state for worker in workers if worker.in_flight]

    await eventually(holders)
    await asyncio.sleep(0.1)
    await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
    await eventually(lambda: all(member.process.redis_error for member in members))
    until = time.monotonic() + 6
    while time.monotonic() < until:
        snapshot = await members[0].snapshot()
        assert [queue.held_by_dead for queue in snapshot.queues] == [0]
        await asyncio.sleep(0.3)
    listed = list_workers(snapshot.workers, snapshot.queues)
    assert [(worker.ready, worker.unready) for worker in listed] == [(False, ("Redis takes no writes",))] * 3
    await redis.execute_command("REPLICAOF", "NO", "ONE")
    await eventually(lambda: not any(member.process.redis_error for member in members))
    snapshot = await members[0].snapshot()
    assert [queue.held_by_dead for queue in snapshot.queues] == [0]
    assert all(worker.ready for worker in list_workers(snapshot.workers, snapshot.queues))
