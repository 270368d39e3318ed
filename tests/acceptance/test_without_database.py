"""While only the database is unavailable, what needs Redis alone works at once, and says so."""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from app.servers.embedded_valkey import EmbeddedServer
from tests.support.program import Done, OpenTerminal, Program, client
from tests.support.servers import PostgresServer, free_port
from workers.engine.keys import QueueKeys

QUEUE = "color-extraction"
GOING_ON = "the database is unavailable: going on without it"
JOB = '{"item_id": "dress-17", "image": "dress.jpg"}'
KINDS = ("refused", "black hole", "stopped", "locked", "no folder", "damaged", "other tables")


def _black_hole(stack: ExitStack) -> str:
    """Takes connections and never answers."""
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    return f"postgresql://me:hidden@127.0.0.1:{listener.getsockname()[1]}/app"


def _stopped(stack: ExitStack) -> str:
    server = PostgresServer()
    server.start()
    stack.callback(server.remove)
    stack.callback(server.start)
    server.stop()
    return server.url()


def _locked(stack: ExitStack, path: Path) -> str:
    holder = stack.enter_context(closing(sqlite3.connect(path, isolation_level=None)))
    holder.execute("CREATE TABLE theirs (n)")
    holder.execute("BEGIN EXCLUSIVE")
    return f"sqlite:///{path}"


def _damaged(path: Path) -> str:
    path.write_bytes(b"no database " * 1_000)
    return f"sqlite:///{path}"


def _other_tables(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE job_failures (n)")
    return f"sqlite:///{path}"


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    path = tmp_path / "there.db"
    with ExitStack() as stack:
        match request.param:
            case "refused":
                yield f"postgresql://me:hidden@127.0.0.1:{free_port()}/app"
            case "black hole":
                yield _black_hole(stack)
            case "stopped":
                yield _stopped(stack)
            case "locked":
                yield _locked(stack, path)
            case "no folder":
                path.touch()
                yield f"sqlite:///{path}/below.db"
            case "damaged":
                yield _damaged(path)
            case _:
                yield _other_tables(path)


@pytest.fixture(autouse=True)
def server(program: Program) -> Iterator[None]:
    """Redis, which is there all the time."""
    with EmbeddedServer(program.data_dir):
        yield


async def _run(program: Program, url: str, *arguments: str) -> Done:
    environment = {"DATABASE_URL": url, "COUTURECAST_START_PATIENCE": "3600"}
    done = await asyncio.to_thread(program.run, *arguments, **environment)
    assert "hidden" not in done.err
    assert "Traceback" not in done.err
    return done


def _warnings(done: Done) -> list[str]:
    return [json.loads(line)["event"] for line in done.err.splitlines() if line.startswith("{")]


async def test_what_needs_redis_alone_goes_on(program: Program, database_url: str) -> None:
    with_key = ("enqueue", QUEUE, "--data", JOB, "--key", "k")
    paused, enqueued, listed, shown = await asyncio.gather(
        _run(program, database_url, "pause", QUEUE, "--reason", "outage"),
        _run(program, database_url, *with_key),
        _run(program, database_url, "cache", "list"),
        _run(program, database_url, "status", "--json"),
    )
    for done in (paused, enqueued, listed):
        assert (done.code, _warnings(done).count(GOING_ON)) == (0, 1), done.err
    assert enqueued.out == "k\n"
    assert (shown.code, _warnings(shown)) == (1, [GOING_ON])
    assert shown.json["database"]["error"]
    assert shown.json["redis"]["error"] is None
    with client(program.data_dir) as valkey:
        assert valkey.exists(QueueKeys.of(QUEUE).pause)
        assert valkey.llen(QueueKeys.of(QUEUE).queued) == 1
    resumed = await _run(program, database_url, "resume", QUEUE)
    assert (resumed.code, resumed.out) == (0, f"{QUEUE} runs again\n")
    acts = [json.loads(line) for line in resumed.err.splitlines()]
    assert [line["action"]["verb"] for line in acts if "action" in line] == ["resume"]


async def test_what_needs_the_database_fails_with_one_line(program: Program) -> None:
    url = f"postgresql://me:hidden@127.0.0.1:{free_port()}/app"
    done = program.run("failed-jobs", "list", DATABASE_URL=url, COUTURECAST_START_PATIENCE="0.2")
    assert (done.code, len(done.errors)) == (1, 1)
    assert "hidden" not in done.err


@pytest.mark.slow
async def test_a_verb_succeeds_and_is_logged_beside_a_writer(program: Program, tmp_path: Path) -> None:
    assert program.run("status").code == 0
    with closing(sqlite3.connect(program.data_dir / "couturecast.db", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        done = program.run("pause", QUEUE)
        assert (done.code, _warnings(done)) == (0, ["an action is recorded in this log only"])
        assert program.run("status").code == 0


@pytest.mark.slow
async def test_a_dashboard_without_workers_opens_and_uses_the_database_once_it_answers(
    program: Program, terminal: OpenTerminal
) -> None:
    server = PostgresServer()
    try:
        environment = {"DATABASE_URL": server.url(), "COUTURECAST_START_PATIENCE": "3600"}
        screen = terminal("--no-workers", size=(120, 36), **environment)
        await screen.shows(QUEUE)
        await screen.shows("does not answer")
        server.start()
        await screen.shows("Dead letters · none")
        screen.press("q")
        assert await screen.code() == 0
    finally:
        server.remove()
