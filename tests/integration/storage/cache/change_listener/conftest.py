"""Shared by the tests of the change listener: one whose calls are recorded, and a program that writes."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable

import pytest

from storage.asyncio_tools import cancel_and_wait
from storage.cache import change_listener as changes
from storage.cache.change_listener import ChangeListener
from storage.database.engine import Database
from tests.support.databases import open_database
from tests.support.servers import PostgresServer
from tests.support.waiting import eventually


class RecordingListener:
    """Records the calls of a listener."""

    def __init__(self, database: Database) -> None:
        self.changes: list[str] = []
        self.resyncs = 0
        self.fail: Callable[[str], bool] = lambda subject: False
        self.failed = 0
        self.task = asyncio.create_task(
            ChangeListener(database, on_change=self._change, on_resync=self._resync).run(), name="changes"
        )

    async def _change(self, subject: str) -> None:
        if self.fail(subject):
            self.failed += 1
            raise RuntimeError("the cache is down")
        self.changes.append(subject)

    async def _resync(self) -> None:
        self.resyncs += 1

    async def wait_for(self, *subjects: str) -> None:
        """Wait until these tags have changed, and nothing else, since the last call."""
        await eventually(lambda: len(self.changes) >= len(subjects), what=f"{subjects}, not {self.changes}")
        assert self.changes == list(subjects)
        self.changes.clear()

    async def wait_until_listening(self, times: int = 1) -> None:
        """Wait until it has started to listen ``times`` times."""
        await eventually(lambda: self.resyncs == times, within=20, what="listening")

    async def stop(self) -> None:
        """Stop the listener as the end of a process does."""
        await cancel_and_wait([self.task])


MakeListener = Callable[[Database], RecordingListener]


@pytest.fixture
async def make_listener(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MakeListener]:
    """Creates listeners with short intervals."""
    monkeypatch.setattr(changes, "_STANDBY_SECONDS", 0.1)
    monkeypatch.setattr(changes, "_PING_SECONDS", 0.2)
    listeners: list[RecordingListener] = []

    def make(database: Database) -> RecordingListener:
        listeners.append(RecordingListener(database))
        return listeners[-1]

    yield make
    for listener in listeners:
        await listener.stop()


@pytest.fixture
def postgres_url(migrated_postgres_url: str) -> str:
    return migrated_postgres_url


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    async with open_database(postgres_url) as database:
        yield database


@pytest.fixture
async def listener(database: Database, make_listener: MakeListener) -> RecordingListener:
    """A listener that has started to listen."""
    listener = make_listener(database)
    await listener.wait_until_listening()
    return listener


async def write(url: str, *statements: str) -> str:
    """Run SQL as another program does; returns its output."""
    psql = [str(PostgresServer._BIN / "psql"), "-qAtX", "-v", "ON_ERROR_STOP=1", "-d", url]
    done = await asyncio.to_thread(
        subprocess.run,
        [*psql, *(word for statement in statements for word in ("-c", statement))],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


async def write_one(url: str, user_id: str = "after") -> None:
    await write(url, f"INSERT INTO user_preferences VALUES ('{user_id}', '{{}}')")
