"""Old databases are migrated, however long it takes and whatever they hold."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from storage.database import engine as database_module
from storage.database import errors as driver_errors
from storage.database import migrations
from storage.database.engine import Database
from storage.dead_letters.filters import LetterFilter
from storage.dead_letters.repository import DeadLetterRepository
from storage.errors import DatabaseUnavailableError, MigrationError
from tests.support.letters import NOON, letter
from tests.support.waiting import eventually

_COLUMNS = (
    "uid, queue_name, job_id, function, job_data, error_type, error_message, fingerprint, attempts, "
    "attempt_errors, failed_at"
)


def _to_0002(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, "0002")


@pytest.fixture
async def old(database_url: str) -> AsyncIterator[Database]:
    """A database as an earlier version left it."""
    database = Database(database_url)
    await database.ping()
    async with database.begin() as connection:
        await connection.run_sync(_to_0002)
    yield database
    await database.close()


async def _add(database: Database, **values: Any) -> None:
    row: dict[str, Any] = {
        "uid": "u1",
        "queue_name": "weather-ingestion",
        "job_id": "job",
        "function": "ingest_weather",
        "job_data": json.dumps({"kwargs": {"city": "Porto"}}),
        "error_type": "RuntimeError",
        "error_message": "503",
        "fingerprint": "f" * 16,
    } | values
    names = ", ".join(f":{name}" for name in row)
    job_data = "CAST(:job_data AS jsonb)" if database.dialect == "postgresql" else ":job_data"
    async with database.begin() as connection:
        insert = f"INSERT INTO job_failures ({_COLUMNS}) VALUES ({names}, 4, '[]', '2026-03-01 12:00:00')"
        await connection.execute(text(insert.replace(":job_data", job_data)), row)


class _Holder:
    """Another process that writes, so that nobody else can change the table of letters."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Any = None

    async def __aenter__(self) -> _Holder:
        if self._url.startswith("sqlite"):
            path = self._url.removeprefix("sqlite:///")
            self._connection = sqlite3.connect(path, isolation_level=None)
            self._connection.execute("BEGIN IMMEDIATE")
        else:
            self._connection = await asyncpg.connect(self._url)
            await self._connection.execute("BEGIN")
            lock = database_module._MIGRATION_LOCK
            await self._connection.execute(f"SELECT pg_advisory_xact_lock({lock})")
            await self._connection.execute("LOCK TABLE job_failures IN ROW EXCLUSIVE MODE")
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._url.startswith("sqlite"):
            self._connection.rollback()
            self._connection.close()
        else:
            await self._connection.execute("ROLLBACK")
            await self._connection.close()


async def test_e8_a_start_without_migrations_does_not_wait_for_a_writer(database_url: str) -> None:
    first, second = Database(database_url), Database(database_url)
    await first.start()
    async with _Holder(database_url):
        began = time.monotonic()
        await second.start(timeout=0.2)
        assert time.monotonic() - began < 20
    await first.close()
    await second.close()


async def test_e8_a_migration_may_take_longer_than_a_statement(
    old: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_errors, "STATEMENT_SECONDS", 0.5)
    await _add(old)
    if old.dialect == "postgresql":
        async with old.begin() as connection:
            name = await connection.scalar(text("SELECT current_database()"))
            await connection.exec_driver_sql(f"ALTER DATABASE {name} SET statement_timeout = '600ms'")
            await connection.exec_driver_sql(f"ALTER DATABASE {name} SET lock_timeout = '600ms'")
    await old.close()
    both = [Database(database_url, busy_seconds=0.2) for _ in range(2)]
    waits: list[str] = []
    async with _Holder(database_url):
        starts = [
            asyncio.create_task(database.start(timeout=0.2, on_waiting=waits.append)) for database in both
        ]
        await eventually(lambda: len(waits) == 2, what="both wait")
        await asyncio.sleep(1.0)  # longer than the timeout of a statement
        assert not any(start.done() for start in starts)
    await asyncio.gather(*starts)
    assert len(waits) == 2
    assert "another process" in waits[0]
    for database in both:
        assert await DeadLetterRepository(database).count() == 1
        await database.close()


async def test_a_statement_timeout_is_reported(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_errors, "STATEMENT_SECONDS", 0.3)
    database = Database(postgres_url)
    with pytest.raises(DatabaseUnavailableError, match=r" did not answer within 0\.3 s$"):
        async with database.connect() as connection:
            await connection.execute(text("SELECT pg_sleep(3)"))
    await database.close()


async def test_old_names_too_long_for_an_index_are_shortened(old: Database) -> None:
    name = "".join(random.Random(1).choices("0123456789abcdef", k=2_400))
    await _add(old, uid="plain")
    await _add(old, uid="name", function=name * 2, queue_name=name, fingerprint=name, error_type=name * 2)
    await old.start()
    letters = DeadLetterRepository(old)
    short = name[:199] + "…"
    (found,) = (await letters.page(LetterFilter(queue=short, function=short))).items
    assert (found.uid, found.error_type) == ("name", short)
    assert await letters.record([letter("new", function=name * 2)]) == 1
    assert await letters.count(LetterFilter(function=short)) == 2
    assert [row.uid for row in (await letters.page(LetterFilter(args={"city": "Porto"}))).items] == [
        "name",
        "plain",
    ]


async def test_old_jobs_that_are_not_json_are_kept(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    await database.ping()
    async with database.begin() as connection:
        await connection.run_sync(_to_0002)
    odd = ["{'a': 1}", "", '{"kwargs": ', '{"kwargs": {"city": "Porto", "n": NaN}}', "\ud83d", "[1]", "7"]
    odd = [name.encode("utf-8", "backslashreplace").decode() for name in odd]
    for n, body in enumerate(odd):
        await _add(database, uid=f"odd{n}", job_data=body)
    await _add(database, uid="plain")
    await database.start()
    letters = DeadLetterRepository(database)
    found = {row.uid: row.job_data for row in (await letters.page()).items}
    assert len(found) == len(odd) + 1
    assert found["odd0"] == {"unreadable": "{'a': 1}"}
    assert [row.uid for row in (await letters.page(LetterFilter(args={"city": "Porto"}))).items] == ["plain"]
    assert await letters.archive(NOON + timedelta(days=1)) == len(odd) + 1
    assert len((await letters.page(LetterFilter(archived=True))).items) == len(odd) + 1
    await database.close()


@pytest.mark.parametrize("table", ["user_preferences", "job_failures", "weather"])
async def test_a_foreign_table_with_our_name_is_reported(database_url: str, table: str) -> None:
    database = Database(database_url)
    await database.ping()
    async with database.begin() as connection:
        await connection.exec_driver_sql(f"CREATE TABLE {table} (theirs INT)")
    with pytest.raises(MigrationError, match=f"{table}.* already exists, and is not ours: ") as error:
        await database.start()
    fix = "?schema=couturecast" if database.dialect == "postgresql" else "name another file in DATABASE_URL"
    assert fix in str(error.value)
    assert "\n" not in str(error.value)
    await database.close()


async def test_our_tables_can_have_a_schema_of_their_own(postgres_url: str) -> None:
    theirs = Database(postgres_url)
    async with theirs.begin() as connection:
        await connection.exec_driver_sql("CREATE TABLE user_preferences (theirs INT)")
        await connection.exec_driver_sql("CREATE SCHEMA couturecast")
    ours = Database(f"{postgres_url}{'&' if '?' in postgres_url else '?'}schema=couturecast")
    await ours.start()
    await ours.close()
    await theirs.close()


async def test_the_migrations_of_another_program_are_reported(database_url: str) -> None:
    database = Database(database_url)
    await database.ping()
    async with database.begin() as connection:
        await connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
        await connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('3f2a')")
    with pytest.raises(
        MigrationError, match=r"'3f2a': a newer version wrote that, which .* or another program: "
    ):
        await database.start()
    await database.close()


async def test_malformed_json_is_a_refusal(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    with pytest.raises(OperationalError, match="malformed JSON"):
        async with database.connect() as connection:
            await connection.execute(text("SELECT json('{')"))
    await database.close()


async def test_the_newest_migration_is_the_one_that_a_start_expects(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    await database.start()
    async with database.connect() as connection:
        assert await connection.scalar(text("SELECT version_num FROM alembic_version")) == migrations.HEAD
    await database.close()


@pytest.mark.slow
def test_the_first_start_loads_no_lexers_for_error_pages(tmp_path: Path) -> None:
    program = (
        "import asyncio, sys\n"
        "from storage.database.engine import Database\n"
        f"asyncio.run(Database('sqlite:///{tmp_path}/couturecast.db').start())\n"
        "sys.exit('alembic.command' not in sys.modules or 'pygments.lexers.python' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
