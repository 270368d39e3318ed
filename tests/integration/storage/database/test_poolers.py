"""Postgres behind a transaction pooler, with the URLs of Supabase and Prisma, and without the pooler."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.engine import make_url

from storage.database.engine import Database
from storage.database.postgres_url import parse_postgres_url
from storage.dead_letters.repository import DeadLetterRepository
from storage.errors import DatabaseUnavailableError, DirectConnectionError, DirectUrlError, MigrationError
from storage.repositories.weather import WeatherRepository
from tests.support.forwarder import Forwarder
from tests.support.letters import letter
from tests.support.servers import PostgresServer
from tests.support.waiting import eventually

_PRISMA = (
    "pgbouncer=true&connection_limit=1&pool_timeout=0&connect_timeout=30&socket_timeout=10&schema=public"
    "&statement_cache_size=0&sslaccept=accept_invalid_certs"
)


def _with(url: str, parameters: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{parameters}"


@pytest.fixture
async def forwarder(postgres_url: str) -> AsyncIterator[Forwarder]:
    """A proxy that bypasses the pooler."""
    forwarder = Forwarder(postgres_url)
    await forwarder.start()
    yield forwarder
    await forwarder.stop()


def _change_servers(database: Database) -> list[int]:
    """Each transaction begins as on another of the pooler's connections, where none of our statements is
    known, and leaves none behind; how many it found left.
    """
    left: list[int] = []

    def change(connection: Any) -> None:
        counted = connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''")
        left.append(counted.scalar())
        connection.exec_driver_sql("DEALLOCATE ALL")

    event.listen(database.engine.sync_engine, "begin", change)
    return left


async def test_e8_a_transaction_pooler_may_give_each_transaction_another_connection(
    postgres_url: str,
) -> None:
    database = Database(_with(postgres_url, _PRISMA), pool_size=1)
    await database.start()
    left = _change_servers(database)
    letters = DeadLetterRepository(database)
    for n in range(3):
        assert await letters.record([letter(f"u{n}"), letter(f"v{n}")]) == 2
        assert len((await letters.page()).items) == 2 * (n + 1)
        assert await letters.count() == 2 * (n + 1)
        assert await WeatherRepository(database).locations() == []
    assert len(left) > 9
    assert set(left) == {0}
    await database.close()


@pytest.mark.parametrize(
    ("url", "pooled"),
    [
        ("postgres://postgres.ref:pw@aws-0-eu-west-1.pooler.supabase.com:6543/postgres", True),
        ("postgres://postgres:pw@db.ref.supabase.co:6543/postgres", True),
        ("postgres://postgres.ref:pw@aws-0-eu-west-1.pooler.supabase.com:5432/postgres", False),
        ("postgresql://postgres:pw@db.ref.supabase.co:5432/postgres?sslmode=require", False),
        ("postgresql://me@pooler/app?pgbouncer=true", True),
        ("postgresql://me@pooler:6543/app?pgbouncer=false", False),
        ("postgresql://me@pooler/app?statement_cache_size=0", True),
        ("postgresql://me@pooler/app?statement_cache_size=500&connection_limit=5", False),
    ],
)
def test_a_transaction_pooler_is_recognised_by_its_url(url: str, pooled: bool) -> None:
    assert parse_postgres_url(make_url(url)).behind_pooler == pooled


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ("pgbouncer=true&schema=shop", "SET search_path"),
        ("sslmode=no-verify", "use one of"),
        ("sslrootcert=/nowhere.pem", "cannot be read"),
        ("sslmode=require&sslrootcert=system", "verify-full"),
        ("sslidentity=/me.p12", "PEM"),
    ],
)
def test_an_impossible_url_is_refused_in_one_line(parameters: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        Database(f"postgresql://me:hidden@host/app?{parameters}")
    assert "\n" not in str(refused.value)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    ["postgresql://me:hidden@host:6543/app", "sqlite:///file", "nonsense", "postgresql://h/a?sslmode=x"],
)
def test_an_impossible_direct_url_is_refused(url: str) -> None:
    with pytest.raises(DirectUrlError) as refused:
        Database("postgresql://me@host/app", direct_url=url)
    assert "hidden" not in str(refused.value)


async def test_the_migrations_bypass_the_pooler(postgres_url: str, forwarder: Forwarder) -> None:
    pooled = _with(postgres_url, "pgbouncer=true")
    database = Database(pooled, direct_url=forwarder.url())
    await database.start()
    assert forwarder.accepted == 1
    connection = await database.dedicated_connection()
    assert await connection.fetchval("SELECT count(*) FROM job_failures") == 0
    await connection.close()
    assert forwarder.accepted == 2
    await database.close()


async def test_without_a_direct_url_only_the_listener_fails(postgres_url: str, forwarder: Forwarder) -> None:
    await forwarder.stop()
    pooled = _with(postgres_url, "pgbouncer=true")
    database = Database(pooled, direct_url=forwarder.url())
    with pytest.raises(DirectConnectionError, match=r"127\.0\.0\.1:\d+/test_\d+ does not answer: ") as error:
        await database.start()
    assert "hidden" not in str(error.value)
    without = Database(pooled)
    await without.start()
    await without.close()
    await database.start()
    with pytest.raises(DirectConnectionError):
        await database.dedicated_connection()
    await database.close()


async def test_a_direct_url_of_another_database_is_refused(
    postgres_url: str, postgres_server: PostgresServer | str
) -> None:
    base = postgres_server.url() if isinstance(postgres_server, PostgresServer) else postgres_server
    database = Database(postgres_url, direct_url=base)
    with pytest.raises(MigrationError, match="another server, database or schema"):
        await database.start()
    await database.close()


async def test_e8_a_timeout_of_the_role_is_not_a_refusal(postgres_url: str) -> None:
    database = Database(postgres_url)
    await database.start()
    async with database.begin() as connection:
        name = await connection.scalar(text("SELECT current_database()"))
        for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
            await connection.exec_driver_sql(f"ALTER DATABASE {name} SET {limit} = '1s'")
    await database.engine.dispose()
    with pytest.raises(DatabaseUnavailableError, match="statement timeout"):
        async with database.connect() as connection:
            await connection.execute(text("SELECT pg_sleep(20)"))
    with pytest.raises(DatabaseUnavailableError, match=r"idle.in.transaction|closed"):
        await _idle(database)
    assert await DeadLetterRepository(database).record([letter()]) == 1
    await database.close()


async def _idle(database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(text("SELECT 1"))
        raw = (await connection.get_raw_connection()).driver_connection
        assert raw is not None
        await eventually(raw.is_closed)
        await connection.execute(text("SELECT 1"))
