"""Behind a transaction pooler, whether the URL names it or not, and after its restart."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import structlog
from sqlalchemy import text

from storage.database import engine
from storage.database.engine import Database
from storage.dead_letters.repository import DeadLetterRepository
from storage.errors import DatabaseUnavailableError
from storage.repositories.weather import WeatherRepository
from tests.support.letters import letter
from tests.support.pooler import TransactionPooler

SWITCHED_OFF = "no statements are prepared"


@pytest.fixture
async def pooler(postgres_url: str) -> AsyncIterator[TransactionPooler]:
    pooler = TransactionPooler(postgres_url)
    await pooler.start()
    yield pooler
    await pooler.stop()


async def _use(*databases: Database) -> None:
    """Different statements by different clients, each over several of the pooler's connections."""
    for _ in range(4):
        for database in databases:
            letters = DeadLetterRepository(database)
            assert await letters.record([letter(uuid.uuid4().hex)]) == 1
            assert len((await letters.page()).items) == await letters.count()
            assert await WeatherRepository(database).locations() == []


async def _start_and_use(*databases: Database) -> None:
    for database in databases:
        await database.start(timeout=0.0)
    await _use(*databases)


async def _lose_statements(database: Database) -> None:
    """As if a pooler served the second statement by another connection."""
    async with database.connect() as connection:
        await connection.execute(text("SELECT 1"))
        await connection.exec_driver_sql("DEALLOCATE ALL")
        await connection.execute(text("SELECT 1"))


async def test_prepared_statements_fail_behind_a_pooler(pooler: TransactionPooler) -> None:
    """The pooler of these tests behaves like a real one."""
    databases = [Database(pooler.url("pgbouncer=false"), pool_size=1) for _ in range(2)]
    with pytest.raises(DatabaseUnavailableError, match="behind a transaction pooler"):
        await _start_and_use(*databases)
    for database in databases:
        await database.close()


@pytest.mark.slow
@pytest.mark.parametrize("parameters", ["pgbouncer=true", "", "connection_limit=1&schema=public"])
async def test_a_pooler_is_recognised_at_the_start(pooler: TransactionPooler, parameters: str) -> None:
    databases = [Database(pooler.url(parameters), pool_size=1) for _ in range(2)]
    with structlog.testing.capture_logs() as logged:
        await _start_and_use(*databases)
    notes = [line for line in logged if SWITCHED_OFF in line["event"]]
    assert len(notes) == (0 if "pgbouncer" in parameters else len(databases))
    assert "hidden" not in str(notes)
    await pooler.stop()
    for database in databases:
        with pytest.raises(DatabaseUnavailableError):
            await database.ping()
    await pooler.start()
    await _use(*databases)
    for database in databases:
        await database.close()


async def test_a_pooler_added_later_is_recognised_by_its_first_error(postgres_url: str) -> None:
    database = Database(postgres_url, pool_size=1)
    await database.start()
    assert database.no_session_reason is None
    with (
        structlog.testing.capture_logs() as logged,
        pytest.raises(DatabaseUnavailableError, match="behind a transaction pooler"),
    ):
        await _lose_statements(database)
    assert [SWITCHED_OFF in line["event"] for line in logged] == [True]
    await _lose_statements(database)
    assert "DIRECT_URL" in str(database.no_session_reason)
    await database.close()


@pytest.mark.slow
async def test_a_start_does_not_wait_for_a_pooler_whose_connections_are_taken(
    pooler: TransactionPooler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the connection and answers no statement."""
    monkeypatch.setattr(engine, "_MIN_ATTEMPT_SECONDS", 0.5)
    database, others = (Database(pooler.url("pgbouncer=true")) for _ in range(2))
    async with AsyncExitStack() as transactions:
        for _ in range(3):
            other = await transactions.enter_async_context(others.connect())
            await other.execute(text("SELECT 1"))
        with pytest.raises(DatabaseUnavailableError, match=r"does not answer: nothing within 0\.5 s"):
            await database.start(timeout=0.0)
    await database.start()
    await database.close()
    await others.close()


async def test_without_a_pooler_statements_are_prepared(postgres_url: str) -> None:
    database = Database(postgres_url, pool_size=1)
    await database.start()
    async with database.connect() as connection:
        await connection.execute(text("SELECT 1"))
        names = await connection.scalar(text("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''"))
    assert names > 0
    await database.close()
