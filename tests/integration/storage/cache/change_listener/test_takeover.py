"""One process listens; another takes over if it ends, is killed or freezes."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import event, text

from storage.cache import change_listener as changes
from storage.database.engine import Database
from tests.integration.storage.cache.change_listener.conftest import (
    MakeListener,
    RecordingListener,
    write_one,
)
from tests.support.waiting import eventually


async def test_one_process_listens_and_another_takes_over(
    listener: RecordingListener, database: Database, postgres_url: str, make_listener: MakeListener
) -> None:
    polls: list[str] = []

    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "pg_locks" in statement:
            polls.append(statement)

    others = Database(postgres_url)
    event.listen(others.engine.sync_engine, "after_cursor_execute", count)
    second = make_listener(others)
    await eventually(lambda: len(polls) >= 2, what="the second process polls and stands by")
    await write_one(postgres_url, "first")
    await listener.wait_for("user:first")
    assert (second.changes, second.resyncs) == ([], 0)

    async def one_session_beside_the_pools() -> bool:
        """A closing connection counts until it is closed."""
        pools = [owner.engine.pool for owner in (database, others)]
        own = sum(pool.checkedin() + pool.checkedout() for pool in pools)  # type: ignore[attr-defined]
        sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        async with database.connect() as connection:
            return bool(await connection.scalar(text(sessions)) == own + 1)

    await eventually(one_session_beside_the_pools)
    await listener.stop()
    await second.wait_until_listening()
    await write_one(postgres_url, "second")
    await second.wait_for("user:second")
    assert listener.changes == []
    await second.stop()
    await others.close()


_LISTENER = """
import asyncio, sys
from storage.cache import change_listener
from storage.database.engine import Database

async def report(subject="resync"):
    with open(sys.argv[2], "a") as said:
        print(subject, file=said)

change_listener._PING_SECONDS = 0.3
asyncio.run(change_listener.ChangeListener(Database(sys.argv[1]), on_change=report, on_resync=report).run())
"""


@pytest.mark.slow
async def test_another_process_takes_over_from_a_killed_listener(
    database: Database, postgres_url: str, make_listener: MakeListener, tmp_path: Path
) -> None:
    output = tmp_path / "said"
    output.touch()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _LISTENER, postgres_url, str(output), stdout=subprocess.DEVNULL
    )
    await eventually(lambda: output.read_text() == "resync\n")
    listener = make_listener(database)
    await write_one(postgres_url, "before")
    await eventually(lambda: output.read_text() == "resync\nuser:before\n")
    process.kill()
    await process.wait()
    await listener.wait_until_listening()
    await write_one(postgres_url)
    await listener.wait_for("user:after")


@pytest.mark.slow
async def test_another_process_takes_over_from_a_frozen_listener(
    database: Database,
    postgres_url: str,
    make_listener: MakeListener,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(changes, "_STANDBY_SECONDS", 0.2)
    monkeypatch.setattr(changes, "_SILENT_SECONDS", 3.0)
    output = tmp_path / "said"
    output.touch()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _LISTENER, postgres_url, str(output), stdout=subprocess.DEVNULL
    )
    await eventually(lambda: output.read_text() == "resync\n")
    listener = make_listener(database)
    await asyncio.sleep(4)
    assert listener.resyncs == 0, "it is idle, and alive"
    process.send_signal(signal.SIGSTOP)
    await listener.wait_until_listening()
    await write_one(postgres_url)
    await listener.wait_for("user:after")
    process.kill()
    await process.wait()
