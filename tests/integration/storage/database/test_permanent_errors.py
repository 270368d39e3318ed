"""A start waits for errors that pass, and ends at once for others."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from storage.database.engine import Database
from storage.dead_letters.repository import DeadLetterRepository
from storage.errors import DatabaseUnavailableError, PermanentDatabaseError
from tests.support.forwarder import Forwarder
from tests.support.letters import letter
from tests.support.servers import free_port

PAGE_BYTES = 4096


async def _refused(url: str, words: str) -> None:
    """The start ends at once, whatever its timeout, with one line."""
    database, waited = Database(url), list[str]()
    with pytest.raises(PermanentDatabaseError, match=words) as refused:
        await asyncio.wait_for(database.start(timeout=3600, on_waiting=waited.append), 60)
    assert waited == []
    assert "\n" not in str(refused.value)
    assert "hidden" not in str(refused.value)
    await database.close()


async def _waited_for(url: str) -> None:
    database, waited = Database(url), list[str]()
    with pytest.raises(DatabaseUnavailableError) as unavailable:
        await database.start(timeout=0.3, on_waiting=waited.append)
    assert not isinstance(unavailable.value, PermanentDatabaseError)
    assert len(waited) == 1
    await database.close()


async def test_an_unknown_user_or_database_is_a_permanent_error(postgres_url: str) -> None:
    url = make_url(postgres_url)
    stranger = url.set(username="stranger", password="hidden")
    await _refused(
        stranger.render_as_string(hide_password=False), "correct user and password in the URL, or let"
    )
    elsewhere = url.set(database="nowhere").render_as_string(hide_password=False)
    await _refused(elsewhere, '"nowhere" does not exist: create it, or name another')


async def test_a_missing_right_to_connect_is_a_permanent_error(postgres_url: str) -> None:
    url = make_url(postgres_url)
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(f"REVOKE CONNECT ON DATABASE {url.database} FROM PUBLIC")
    await connection.execute(f"CREATE ROLE guest_{url.database} LOGIN")
    try:
        guest = url.set(username=f"guest_{url.database}", password="hidden")
        await _refused(guest.render_as_string(hide_password=False), "permission denied .*: grant that to")
    finally:
        await connection.execute(f"DROP ROLE guest_{url.database}")
        await connection.close()


async def test_a_server_without_tls_is_a_permanent_error(postgres_url: str) -> None:
    forwarder = Forwarder(postgres_url)
    await forwarder.start()
    await _refused(forwarder.url("sslmode=require"), "it speaks no TLS")
    await forwarder.stop()


@pytest.mark.parametrize(
    "content", [b"no database " * 1_000, bytes(8192), b"SQLite format 3\0" + b"\xff" * 8176]
)
async def test_a_file_that_is_not_a_database_is_a_permanent_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.db"
    path.write_bytes(content)
    await _refused(f"sqlite:///{path}", "is damaged: .*: restore a backup, or move it away")
    assert path.read_bytes() == content


async def test_a_damaged_database_file_is_a_permanent_error(tmp_path: Path) -> None:
    path = tmp_path / "damaged.db"
    database = Database(f"sqlite:///{path}")
    await database.start()
    await DeadLetterRepository(database).record([letter()])
    await database.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    content[100:PAGE_BYTES] = b"\xff" * (PAGE_BYTES - 100)
    path.write_bytes(content)
    await _refused(f"sqlite:///{path}", "is damaged: .*: restore a backup, or move it away")


async def test_a_folder_instead_of_the_file_is_a_permanent_error(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}")
    with pytest.raises(DatabaseUnavailableError, match="cannot be written"):
        await asyncio.wait_for(database.start(timeout=3600), 60)
    await database.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
async def test_a_start_waits_for_a_server_that_may_still_start(host: str) -> None:
    await _waited_for(f"postgresql://me:hidden@{host}:{free_port()}/app")
