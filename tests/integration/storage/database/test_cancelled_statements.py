"""Cancelled statements and failed connections leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import sys
import threading
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from sqlalchemy import text

from storage.asyncio_tools import cancel_and_wait
from storage.database.engine import Database
from storage.database.events import NewEvent
from storage.errors import DatabaseUnavailableError
from storage.repositories.events import EventRepository
from tests.support.waiting import eventually

_LONG = (
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 2000000) SELECT count(*) FROM n"
)
_PROGRAM = f"""
import asyncio, sys
from sqlalchemy import text
from storage.database.engine import Database
from storage.asyncio_tools import cancel_and_wait

async def main():
    database = Database(sys.argv[1])
    async with database.connect() as connection:
        await connection.execute(text("SELECT 1"))

    async def run():
        async with database.connect() as connection:
            await connection.execute(text({_LONG!r}))

    task = asyncio.create_task(run())
    await asyncio.sleep(0.05)
    await cancel_and_wait([task], retry_seconds=0.01)
    await database.close()

asyncio.run(main())
"""


async def _run(database: Database) -> None:
    async with database.connect() as connection:
        await connection.execute(text(_LONG))


@pytest.mark.parametrize("again", [0.005, 0.05, 60.0])
async def test_a_cancelled_statement_leaves_no_task_behind(migrated_database_url: str, again: float) -> None:
    database = Database(migrated_database_url)
    for _ in range(3):
        task = asyncio.create_task(_run(database))
        await asyncio.sleep(0.05)
        await cancel_and_wait([task], retry_seconds=again)
        assert task.cancelled()
    async with database.connect() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1
    await database.close()


async def test_e14_a_write_that_is_cancelled_gives_its_lock_back_at_once(
    migrated_sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a freeze: the statement has its rows, and the timeout is over before they are read."""
    database, has_rows = Database(migrated_sqlite_url), asyncio.Event()
    fetch = aiosqlite.Cursor.fetchall

    async def fetch_nothing_inserted(cursor: aiosqlite.Cursor) -> Any:
        if cursor.description[0][0] == "id":
            has_rows.set()
            await asyncio.Event().wait()
        return await fetch(cursor)

    gc.disable()  # which would find the statement, some time
    try:
        with monkeypatch.context() as patch:
            patch.setattr(aiosqlite.Cursor, "fetchall", fetch_nothing_inserted)
            event = NewEvent("worker-started", "")
            task = asyncio.create_task(EventRepository(database).record([event]))
            await has_rows.wait()
            await cancel_and_wait([task])
        with sqlite3.connect(migrated_sqlite_url.removeprefix("sqlite:///"), timeout=0) as other:
            other.execute("BEGIN IMMEDIATE")
    finally:
        gc.enable()
    await database.close()


async def test_a_statement_that_begins_after_the_interrupt_does_not_run_to_its_end(
    migrated_sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, threads = Database(migrated_sqlite_url), list[threading.Thread]()
    interrupts = 0

    async def run() -> None:
        async with database.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            interrupt = driver.interrupt

            async def miss_once() -> None:
                nonlocal interrupts
                interrupts += 1
                if interrupts > 1:
                    await interrupt()

            monkeypatch.setattr(driver, "interrupt", miss_once)
            threads.append(driver._thread)
            await connection.execute(text(_LONG.replace("2000000", str(10**10))))

    task = asyncio.create_task(run())
    await eventually(lambda: threads)
    await asyncio.sleep(0.05)
    await cancel_and_wait([task], retry_seconds=0.005)
    await eventually(lambda: not threads[0].is_alive(), within=20)
    await database.close()


@pytest.mark.slow
async def test_a_process_ends_after_a_statement_that_was_cancelled_twice(migrated_sqlite_url: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PROGRAM, migrated_sqlite_url, stderr=asyncio.subprocess.PIPE
    )
    _, err = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, err) == (0, b"")


async def test_a_wait_for_another_writer_can_be_cancelled(migrated_sqlite_url: str) -> None:
    """SQLite waits in a thread, where the end of a timeout could not reach it."""
    holder, waiting = Database(migrated_sqlite_url), Database(migrated_sqlite_url, busy_seconds=3600)
    async with holder.begin():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), waiting.begin():
                raise AssertionError("two write at once")
    async with waiting.begin() as connection:
        assert await connection.scalar(text("SELECT 1")) == 1
    await holder.close()
    await waiting.close()


async def test_writers_wait_for_each_other_and_give_up_after_the_time(migrated_sqlite_url: str) -> None:
    holder, waiting = Database(migrated_sqlite_url), Database(migrated_sqlite_url, busy_seconds=0.3)
    async with holder.begin():
        with pytest.raises(DatabaseUnavailableError, match="database is locked"):
            async with waiting.begin():
                raise AssertionError("two write at once")
        without_limit = Database(migrated_sqlite_url)
        begun = asyncio.create_task(_write(without_limit))
        await asyncio.sleep(0.1)
        assert not begun.done()
    await begun
    for database in (holder, waiting, without_limit):
        await database.close()


async def _write(database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(text("SELECT 1"))


def test_a_failed_connection_does_not_call_a_closed_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread of a failed connection calls the loop once more, in some runs after it was closed."""
    failed: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: failed.append(str(args.exc_value)))

    async def ping() -> None:
        database = Database(f"sqlite:///{tmp_path}/missing/x.db")
        with pytest.raises(DatabaseUnavailableError):
            await database.ping()
        await database.close()

    for _ in range(100):
        asyncio.run(ping())
    assert failed == []
