"""Servers that may be killed, and how long the tests go on: ``COUTURECAST_TEST_CHAOS`` multiplies it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from saq.queue.redis import RedisQueue

from storage.database.engine import Database
from storage.dead_letters.repository import DeadLetterRepository
from storage.redis.client import make_client
from tests.chaos.ledger import Ledger
from tests.support.processes import Journal, Spawner
from tests.support.servers import PostgresServer, ValkeyServer
from workers.engine.policy import QueuePolicy

FAST_RETRIES = (0.1, 0.2, 0.3)

MakeLedger = Callable[..., Awaitable[Ledger]]


@pytest.fixture(scope="session")
def factor() -> float:
    """1 in CI, 10 for ``make chaos``."""
    return float(os.environ.get("COUTURECAST_TEST_CHAOS", "1"))


@pytest.fixture
def valkey_options() -> tuple[str, ...]:
    """A server that loses nothing that it has acknowledged."""
    return ("--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture
async def redis(valkey: ValkeyServer) -> AsyncIterator[Redis]:
    client = make_client(valkey.url)
    yield client
    await client.aclose()


@pytest.fixture
async def letters(sqlite_url: str) -> AsyncIterator[DeadLetterRepository]:
    database = Database(sqlite_url)
    await database.start()
    yield DeadLetterRepository(database)
    await database.close()


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
async def spawn(valkey: ValkeyServer, sqlite_url: str, journal: Journal) -> AsyncIterator[Spawner]:
    spawner = Spawner(
        redis=valkey.url, database=sqlite_url, journal=str(journal.path), retry_delays=FAST_RETRIES
    )
    yield spawner
    await spawner.end()


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    """A Postgres of the test's own."""
    server = PostgresServer()
    server.start()
    yield server
    server.remove()


@pytest.fixture
async def make_ledger(
    valkey: ValkeyServer, redis: Redis, letters: DeadLetterRepository
) -> AsyncIterator[MakeLedger]:
    stocks: list[RedisQueue] = []

    async def make(journal: Journal | None = None, **policy: Any) -> Ledger:
        settings = {
            "name": "color-extraction",
            "function": "extract_colors",
            "concurrency": 5,
            "timeout": 60,
            "retry_delays": FAST_RETRIES,
        } | policy
        made = QueuePolicy(**settings)
        stocks.append(RedisQueue.from_url(valkey.url, name=made.name))
        return Ledger(redis, stocks[-1], made, letters, journal)

    yield make
    for stock in stocks:
        await stock.redis.aclose()
