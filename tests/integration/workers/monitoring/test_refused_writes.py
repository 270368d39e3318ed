"""A Redis that answers and takes no writes, as a program that runs no workers sees it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from storage.database.engine import Database
from storage.dead_letters.repository import DeadLetterRepository
from storage.redis.client import make_client
from tests.support.servers import ValkeyServer
from tests.support.waiting import eventually
from workers.engine.keys import WORKERS
from workers.engine.policy import COLOR, DEFAULT_POLICIES, NORMAL
from workers.monitoring.snapshot import Snapshot
from workers.monitoring.snapshot_reader import SnapshotReader
from workers.process.worker_process import WorkerProcess

POLICY = DEFAULT_POLICIES[COLOR]
REFUSALS: list[tuple[dict[str, Any], str]] = [
    ({"replicaof": "127.0.0.1 1"}, "Redis is a read-only replica (READONLY"),
    ({"min-replicas-to-write": 1}, "Redis refuses writes, as it has too few replicas (NOREPLICAS)"),
    ({"maxmemory": 1}, "Redis is full (OOM)"),
]


@pytest.fixture
async def own_redis(valkey: ValkeyServer) -> AsyncIterator[Redis]:
    client = make_client(valkey.url)
    yield client
    await client.aclose()


async def _refuse(redis: Redis, settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        if name == "replicaof":
            await redis.execute_command("REPLICAOF", *value.split())
        else:
            await redis.config_set(name, value)


async def _look_once(url: str, database: Database) -> Snapshot:
    """Return the snapshot of a program that takes a single one."""
    redis = make_client(url)
    reader = _reader(redis, url, database)
    try:
        return await reader.snapshot(loop_lag=None, drain_deadline_in=None)
    finally:
        await reader.close()
        await redis.aclose()


def _reader(redis: Redis, url: str, database: Database) -> SnapshotReader:
    return SnapshotReader(
        redis,
        url,
        [POLICY],
        database,
        DeadLetterRepository(database),
        environment="test",
        weather_provider="offline",
    )


@pytest.mark.parametrize(("settings", "message"), REFUSALS, ids=[next(iter(item)) for item, _ in REFUSALS])
async def test_a_single_snapshot_finds_a_redis_that_takes_no_writes(
    valkey: ValkeyServer, own_redis: Redis, database: Database, settings: dict[str, Any], message: str
) -> None:
    assert "redis" not in [alert.name for alert in (await _look_once(valkey.url, database)).alerts]
    await _refuse(own_redis, settings)
    snapshot = await _look_once(valkey.url, database)
    (alert,) = [alert for alert in snapshot.alerts if alert.name == "redis"]
    assert alert.state == "firing"
    assert alert.message.startswith(message)
    assert snapshot.redis.error is None
    assert alert.message == f"Redis {snapshot.redis.refuses_writes}"


async def test_a_user_that_may_only_read_is_no_outage(
    valkey: ValkeyServer, own_redis: Redis, database: Database
) -> None:
    await own_redis.execute_command("ACL", "SETUSER", "viewer", "on", ">pw", "~*", "&*", "+@all", "-@write")
    snapshot = await _look_once(valkey.url.replace("//", "//viewer:pw@"), database)
    assert snapshot.redis.refuses_writes is None
    assert [alert.name for alert in snapshot.alerts] == ["no_worker"]


async def test_an_idle_process_finds_out_that_redis_is_full_and_no_longer_is(
    valkey: ValkeyServer, own_redis: Redis, database: Database
) -> None:
    process = await _start(valkey.url, database)
    try:
        assert not process.is_active()
        await own_redis.config_set("maxmemory", 1)
        await eventually(process.is_active)
        assert process.redis_error is None, "its workers could go on"
        assert await own_redis.hexists(WORKERS, process.id)
        await own_redis.config_set("maxmemory", 0)
        await eventually(lambda: not process.is_active())
    finally:
        await _end(process)


async def _start(url: str, database: Database) -> WorkerProcess:
    """An idle process that publishes its presence several times a second; after a second that expires."""

    async def work(ctx: dict[str, Any]) -> None: ...

    process = WorkerProcess(
        url,
        policies=[POLICY],
        functions={COLOR: work},
        letters=DeadLetterRepository(database),
        version="1",
        pace=replace(NORMAL, presence=0.3),
    )
    process.links[0].presence._ttl = 1.0
    await process.start()
    return process


async def _end(process: WorkerProcess) -> None:
    process.drain_now()
    await asyncio.wait_for(process.wait_drained(), 20)
    await process.close()


@pytest.mark.slow
@pytest.mark.parametrize("settings", [settings for settings, _ in REFUSALS[:2]], ids=["replica", "refuses"])
async def test_a_connected_process_whose_presence_has_expired_still_serves(
    valkey: ValkeyServer,
    own_redis: Redis,
    database: Database,
    settings: dict[str, Any],
) -> None:
    process = await _start(valkey.url, database)
    try:

        async def is_connected() -> bool:
            return b'"channel":true' in (await own_redis.hget(WORKERS, process.id) or b"")

        await eventually(is_connected)
        await _refuse(own_redis, settings)
        await asyncio.sleep(1.5)  # its presence expires

        async def serves() -> bool:
            """A moment after its connections were closed it is connected again."""
            found = await _look_once(valkey.url, database)
            assert "redis" in [alert.name for alert in found.alerts]
            return [alert.name for alert in found.alerts] == ["redis"]

        await eventually(serves)
        await eventually(lambda: process.redis_error, what="the idle process finds out")
        assert process.is_active(), "it is a reason to check the alerts"
        if "replicaof" in settings:
            await own_redis.execute_command("REPLICAOF", "NO", "ONE")
        else:
            await own_redis.config_set("min-replicas-to-write", 0)

        async def is_over() -> bool:
            return not (await _look_once(valkey.url, database)).alerts

        await eventually(is_over, within=20, what="its presence is published again")
    finally:
        await _end(process)


@pytest.mark.slow
async def test_a_single_snapshot_does_not_wait_for_a_silent_redis_twice(database: Database) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        snapshot = await _look_once(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", database)
    assert snapshot.redis.error == "TimeoutError: no reply within 2.5 s"  # and not the timeout of a command
    assert snapshot.redis.timed_out
