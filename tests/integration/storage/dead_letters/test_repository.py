"""The repositories, on SQLite and on Postgres."""

from __future__ import annotations

import asyncio
import re
import stat
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from storage.database.engine import Database
from storage.database.tables import Base
from storage.dead_letters.filters import LetterFilter
from storage.dead_letters.repository import DeadLetterRepository
from storage.errors import DatabaseUnavailableError, InvalidCursorError
from storage.repositories.alerts import AlertRepository
from storage.repositories.moderation import Decision, ModerationRepository
from storage.repositories.palettes import PaletteRepository
from storage.repositories.weather import Location, Weather, WeatherRepository
from tests.support.letters import NOON, letter
from tests.support.servers import PostgresServer

_SEARCH = re.compile(r"job_failures(_archive)?_text(_\w+)?|ix_job_failures(_archive)?_(error|args)")


async def test_a_letter_is_read_as_it_was_recorded(database: Database) -> None:
    letters = DeadLetterRepository(database)
    assert await letters.record([letter()]) == 1
    (found,) = (await letters.page()).items
    assert (found.job_data, found.failed_at, found.enqueued_at) == (
        letter().job_data,
        NOON,
        letter().enqueued_at,
    )
    assert (found.state, found.replay_count, found.replayed_at) == ("dead", 0, None)
    assert await letters.get(found.id) == found
    assert await letters.get(found.id + 1) is None


async def test_e8_recording_again_changes_nothing(database: Database) -> None:
    letters = DeadLetterRepository(database)
    batch = [letter(f"u{n}") for n in range(20)]
    new = await asyncio.gather(*(letters.record(batch) for _ in range(4)))
    assert sum(new) == 20
    assert await letters.count() == 20


async def test_a_refused_letter_does_not_delay_others(database: Database) -> None:
    letters = DeadLetterRepository(database)
    odd = letter("odd", enqueued_at=NOON.replace(tzinfo=None), job_data={"kwargs": {"number": 1}})
    assert await letters.record([letter("a"), odd, letter("b")]) == 3
    kept = {row.uid: row for row in (await letters.page()).items}
    assert sorted(kept) == ["a", "b", "odd"]
    assert "number" in kept["odd"].job_data["unreadable"]


async def test_text_that_a_database_refuses_is_escaped(database: Database) -> None:
    letters = DeadLetterRepository(database)
    nasty = "nul \x00 surrogate \ud800 ansi \x1b[31m [red]"
    data = {"kwargs": {nasty: [nasty, float("nan")]}}
    assert await letters.record([letter(error_message=nasty, job_data=data)]) == 1
    (found,) = (await letters.page()).items
    assert found.error_message == "nul \\x00 surrogate \\ud800 ansi \x1b[31m [red]"
    assert found.job_data["kwargs"][found.error_message] == [found.error_message, "nan"]


async def test_pages_are_stable_while_letters_are_recorded(database: Database) -> None:
    letters = DeadLetterRepository(database)
    await letters.record([letter(f"u{n}", failed_at=NOON + timedelta(seconds=n // 2)) for n in range(25)])
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await letters.page(limit=10, cursor=cursor)
        seen += [row.uid for row in page.items]
        await letters.record([letter(f"late{len(seen)}", failed_at=NOON + timedelta(days=1))])
        cursor = page.next
        if cursor is None:
            break
    assert sorted(seen, key=lambda uid: int(uid[1:]), reverse=True) == seen
    assert len(seen) == len(set(seen)) == 25


@pytest.mark.parametrize("cursor", ["", "x", "bm9uc2Vuc2U", "WzEsMiwzXQ", "💥"])
async def test_a_foreign_cursor_is_refused(database: Database, cursor: str) -> None:
    with pytest.raises(InvalidCursorError, match="leave it out"):
        await DeadLetterRepository(database).page(cursor=cursor)


async def test_pages_filter_by_queue_and_state(database: Database) -> None:
    letters = DeadLetterRepository(database)
    await letters.record([letter("a"), letter("b", queue_name="alert-fanout")])
    (other,) = (await letters.page(LetterFilter(queue="alert-fanout"))).items
    assert other.uid == "b"
    assert [await letters.discard([other.id]) for _ in range(2)] == [1, 0]
    assert [row.uid for row in (await letters.page()).items] == ["a"]
    assert [row.uid for row in (await letters.page(LetterFilter(state=None))).items] == ["b", "a"]


async def test_a_second_run_of_the_weather_job_changes_nothing(database: Database) -> None:
    store = WeatherRepository(database)
    await store.add_location(Location("lisboa", "Lisboa", 38.7, -9.1))
    await store.add_location(Location("lisboa", "Lisbon", 38.72, -9.14))
    assert await store.locations() == [Location("lisboa", "Lisbon", 38.72, -9.14)]
    first = Weather("lisboa", NOON, "openweather", {"temp": 17.5}, {"hourly": []}, NOON)
    await store.upsert(first)
    await store.upsert(replace(first, current={"temp": 18.0}))
    assert await store.latest("lisboa") == replace(first, current={"temp": 18.0})
    async with database.connect() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM weather"))).scalar_one() == 1


async def test_a_delivery_counts_once(database: Database) -> None:
    store = AlertRepository(database)
    first = await store.add_subscriber("lisboa", "webhook", "https://example.com/hook")
    second = await store.add_subscriber("lisboa", "log")
    assert [subscriber.id for subscriber in await store.subscribers("lisboa")] == [first, second]
    await store.record_failure("a1", first, "503")
    await store.record_failure("a1", first, "504")
    assert await store.delivered_ids("a1") == set()
    assert [await store.record_delivery("a1", first) for _ in range(2)] == [True, False]
    assert await store.delivered_ids("a1") == {first}


async def test_palettes_and_decisions_replace_older_ones(database: Database) -> None:
    palettes, decisions = PaletteRepository(database), ModerationRepository(database)
    await palettes.upsert("dress", [{"hex": "#ff0000", "share": 1.0}])
    await palettes.upsert("dress", [{"hex": "#00ff00", "share": 1.0}])
    assert await palettes.get("dress") == [{"hex": "#00ff00", "share": 1.0}]
    assert await palettes.get("hat") is None
    decision = Decision("c1", "needs_human", ["a link"], "rules")
    await decisions.upsert(decision)
    await decisions.upsert(replace(decision, decision="approved", reasons=[]))
    assert await decisions.get("c1") == Decision("c1", "approved", [], "rules")


async def test_the_migrations_create_the_tables_of_the_models(database: Database) -> None:
    def differences(connection: Connection) -> list[Any]:
        """Except those of the search, which differ, and which only the migration creates."""
        options = {"include_object": lambda _, name, *__: not _SEARCH.fullmatch(name)}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata))

    async with database.connect() as connection:
        assert await connection.run_sync(differences) == []


@pytest.mark.parametrize(
    "database_url", [pytest.param("sqlite", marks=pytest.mark.slow), "postgres"], indirect=True
)
async def test_five_processes_that_start_at_once_migrate_once(database_url: str) -> None:
    program = (
        "import asyncio, sys; from storage.database.engine import Database\n"
        "async def main():\n"
        "    database = Database(sys.argv[1])\n"
        "    await database.start(); await database.start(); await database.close()\n"
        "asyncio.run(main())"
    )
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", program, database_url) for _ in range(5)
    ]
    assert [await process.wait() for process in processes] == [0] * 5


@pytest.mark.slow
async def test_an_unavailable_database_is_reported_and_recovers(tmp_path: Path) -> None:
    server = PostgresServer()  # also if there is Docker, since the test stops and starts it
    try:
        database = Database(server.url().replace("postgres@", "postgres:hidden@"))
        with pytest.raises(DatabaseUnavailableError) as error:
            await database.start(timeout=0.3)
        assert "hidden" not in str(error.value)
        assert "\n" not in str(error.value)
        waits: list[str] = []
        waiting = asyncio.create_task(database.start(timeout=30, on_waiting=waits.append))
        await asyncio.to_thread(server.start)
        await waiting
        assert len(waits) <= 1
        letters = DeadLetterRepository(database)
        await letters.record([letter()])
        server.stop()
        with pytest.raises(DatabaseUnavailableError):
            await letters.count()
        await asyncio.to_thread(server.start)
        assert await letters.count() == 1
        await database.close()
    finally:
        server.remove()


def test_the_sqlite_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "couturecast.db"
    database = Database(f"sqlite:///{path}")
    asyncio.run(_start_and_close(database))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def _start_and_close(database: Database) -> None:
    await database.start()
    await database.close()


@pytest.mark.parametrize("url", ["mysql://x/y", "nonsense", "redis://localhost", ""])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"postgresql://"):
        Database(url)


def test_the_head_is_the_newest_revision() -> None:
    from alembic.script import ScriptDirectory

    from storage.database import migrations

    folder = str(Path(migrations.__file__).parent)
    assert ScriptDirectory(folder).get_current_head() == migrations.HEAD
