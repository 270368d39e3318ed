"""Connections that end or hang, and changes that nobody heard: the listener reconnects and resyncs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import structlog

from storage.cache import change_listener as changes
from storage.database.engine import Database
from tests.integration.storage.cache.change_listener.conftest import (
    MakeListener,
    RecordingListener,
    write,
    write_one,
)
from tests.support.forwarder import Forwarder
from tests.support.servers import PostgresServer
from tests.support.waiting import eventually

_TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


@pytest.fixture
async def own() -> AsyncIterator[PostgresServer]:
    """A server that may be stopped."""
    server = await asyncio.to_thread(PostgresServer)
    await asyncio.to_thread(server.start)
    yield server
    await asyncio.to_thread(server.remove)


async def test_the_listener_reconnects_after_an_outage(
    own: PostgresServer, make_listener: MakeListener
) -> None:
    database = Database(own.url())
    await database.start()
    listener = make_listener(database)
    await listener.wait_until_listening()
    with structlog.testing.capture_logs() as logs:
        await asyncio.to_thread(own.stop)
        await eventually(lambda: any("not received now" in line["event"] for line in logs), within=20)
    await asyncio.to_thread(own.start)
    await listener.wait_until_listening(2)
    await write_one(own.url())
    await listener.wait_for("user:after")
    await listener.stop()
    await database.close()


async def test_the_listener_replaces_a_terminated_connection(
    listener: RecordingListener, postgres_url: str
) -> None:
    for times in (2, 3):
        await write(postgres_url, _TERMINATE)
        await listener.wait_until_listening(times)
    await write_one(postgres_url)
    await listener.wait_for("user:after")


@pytest.fixture
async def by_way(
    postgres_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Forwarder, Database]]:
    """A database whose dedicated connections use a proxy, and its pool does not."""
    monkeypatch.setattr(changes, "_REPLY_SECONDS", 2.0)
    forwarder = Forwarder(postgres_url)
    await forwarder.start()
    database = Database(postgres_url, direct_url=forwarder.url())
    yield forwarder, database
    await database.close()
    await forwarder.stop()


@pytest.mark.slow
async def test_the_listener_notices_a_hanging_connection(
    by_way: tuple[Forwarder, Database], postgres_url: str, make_listener: MakeListener
) -> None:
    forwarder, database = by_way
    listener = make_listener(database)
    await listener.wait_until_listening()
    forwarder.freeze()
    await listener.wait_until_listening(2)  # though on the server the lock is still held
    await write_one(postgres_url)
    await listener.wait_for("user:after")


async def test_changes_while_no_process_listens_cause_a_resync(
    by_way: tuple[Forwarder, Database], postgres_url: str, make_listener: MakeListener
) -> None:
    forwarder, database = by_way
    listener = make_listener(database)
    await listener.wait_until_listening()
    await forwarder.stop()  # until it starts again the listener cannot connect
    await write_one(postgres_url, "unheard")
    await forwarder.start()
    await listener.wait_until_listening(2)
    await write_one(postgres_url)
    await listener.wait_for("user:after")


async def test_the_listener_stops_promptly_though_its_connection_hangs(
    by_way: tuple[Forwarder, Database], make_listener: MakeListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "_PING_SECONDS", 60)
    forwarder, database = by_way
    listener = make_listener(database)
    await listener.wait_until_listening()
    forwarder.freeze()
    began = time.monotonic()
    await listener.stop()
    assert time.monotonic() - began < 30, "and not when it would have looked after itself"
