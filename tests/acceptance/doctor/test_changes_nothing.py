"""The doctor changes nothing on servers and in files."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis

from tests.acceptance.doctor.conftest import doctor
from tests.support.program import Program, server_pid
from tests.support.waiting import eventually


def tree(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Every file and folder: mode, time of change in ns, digest of what is in it."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        about = path.lstat()
        body = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (about.st_mode, about.st_mtime_ns, hashlib.sha256(body).hexdigest())
    return found


def contents(url: str) -> tuple[Any, ...]:
    """All keys with their values, and how often anything was changed."""
    with redis.Redis.from_url(url) as server:
        keys: Any = server.keys("*")
        about: Any = server.info()
        dumps = {key: server.dump(key) for key in keys}
        counts = {name: count for name, count in about.get("db0", {}).items() if name != "avg_ttl"}  # it ages
        return dumps, counts, about["rdb_changes_since_last_save"], server.config_get()


async def tables(url: str) -> tuple[Any, ...]:
    """All relations of a database, and the rows of ours with the transactions that wrote them."""
    connection = await asyncpg.connect(url)
    names = await connection.fetch("SELECT oid, relname, relkind FROM pg_class WHERE relname !~ '^pg_toast'")
    ours = await connection.fetch("SELECT relname FROM pg_stat_user_tables ORDER BY 1")
    rows = {
        name: await connection.fetch(f'SELECT xmin::text, xmax::text, * FROM "{name}"') for (name,) in ours
    }
    await connection.close()
    return sorted(map(tuple, names)), rows


async def nobody_is_connected(redis_url: str, postgres_url: str) -> bool:
    """Whether the servers have closed the connections of processes that ended."""
    connection = await asyncpg.connect(postgres_url)
    others = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    sessions = await connection.fetchval(others)
    await connection.close()
    with redis.Redis.from_url(redis_url) as server:
        return bool(sessions == 0 and len(server.client_list()) == 1)


@pytest.mark.slow
async def test_it_changes_nothing_on_servers(program: Program, redis_url: str, postgres_url: str) -> None:
    environment = {"REDIS_URL": redis_url, "DATABASE_URL": postgres_url, "CACHE_REDIS_URL": redis_url}
    assert program.run("status", **environment).code == 0
    job = '{"content_id": "c", "text": "A fine linen coat."}'
    assert program.run("enqueue", "moderation-review", "--data", job, **environment).code == 0
    await eventually(lambda: nobody_is_connected(redis_url, postgres_url))
    before = (tree(program.directory), contents(redis_url))
    relations = await tables(postgres_url)
    found = await asyncio.to_thread(doctor, program, **environment)
    assert found.named("wrong") == []
    assert (tree(program.directory), contents(redis_url)) == before
    assert await tables(postgres_url) == relations


async def test_it_makes_no_tables_in_an_empty_database(program: Program, postgres_url: str) -> None:
    before = await tables(postgres_url)
    found = await asyncio.to_thread(doctor, program, DATABASE_URL=postgres_url)
    assert found["database migrations"]["finding"].startswith("no tables yet")
    assert await tables(postgres_url) == before


LEFT_BEHIND = """
import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA journal_mode=WAL")
database.execute("CREATE TABLE IF NOT EXISTS alembic_version (version_num TEXT)")
database.execute("INSERT INTO alembic_version VALUES ('in the log')")
os._exit(0)
"""


@pytest.mark.parametrize("state", ["stopped", "killed", "log without index", "handler"])
def test_it_changes_no_file(program: Program, tmp_path: Path, state: str) -> None:
    file = program.data_dir / "couturecast.db"
    environment: dict[str, str] = {}
    if state == "stopped":
        assert program.run("status").code == 0
        assert file.exists()
    if state in ("killed", "log without index"):
        program.data_dir.mkdir(mode=0o700)
        subprocess.run([sys.executable, "-c", LEFT_BEHIND, file], check=True)
        assert Path(f"{file}-wal").stat().st_size > 0
    if state == "log without index":
        Path(f"{file}-shm").unlink()
    if state == "handler":
        (program.directory / "mine.py").write_text("async def run(ctx, **kwargs): ...\n")
        environment["COUTURECAST_HANDLERS"] = "color-extraction=mine:run"
    before = tree(tmp_path)
    found = doctor(program, **environment)
    assert tree(tmp_path) == before
    if state == "killed":
        assert "revision in the log" in found["database migrations"]["finding"]
    if state == "log without index":
        assert found["database migrations"]["state"] == "unknown"
        assert "has no index" in found["database migrations"]["finding"]
    assert server_pid(program.data_dir) is None


CHANGED_BY_THE_PROGRAM = {"couturecast.db-wal", "couturecast.db-shm", "log-0", "couturecast.db"} | {
    f"appendonly.aof.1.{end}.aof" for end in ("base", "incr")
}
"""Files that a running program writes by itself: its database, its log and the embedded server's file."""


async def test_it_changes_no_file_of_a_running_program(program: Program, tmp_path: Path) -> None:
    started = await program.start()
    before = tree(tmp_path)
    await asyncio.to_thread(doctor, program)
    after = tree(tmp_path)
    assert sorted(after) == sorted(before)
    changed = {Path(path).name for path in before if after[path] != before[path]}
    assert changed <= CHANGED_BY_THE_PROGRAM
    assert await started.stop() == 0, started.err
