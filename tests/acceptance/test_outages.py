"""A server that does not answer: a command says so soon, and one that needs only the other server works."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.servers.embedded_valkey import EmbeddedServer
from tests.acceptance.served import QUEUE
from tests.support.program import Done, Program, many, server_pid
from tests.support.servers import PostgresServer, ValkeyServer, free_port

JOB = '{"item_id": "dress-17", "image": "dress.jpg"}'
TEXT = '{"content_id": "c1", "text": "a fine day"}'
PATIENT = {"COUTURECAST_START_PATIENCE": "3600"}
"""A command that waited for so long would not end before the test's own timeout."""
FIX = "see whether it runs and answers, or correct the URL"
NEED_REDIS = (
    ("status", "--json"),
    ("status", "--watch"),
    ("pause", QUEUE),
    ("enqueue", QUEUE, "--data", JOB),
    ("run", "moderation-review", "--data", TEXT),
    ("failed-jobs", "replay", "1"),
)
NEED_THE_DATABASE = (
    ("failed-jobs", "list", "--json"),
    ("failed-jobs", "discard", "--all", "--yes", "--json"),
    ("failed-jobs", "replay", "--all", "--dry-run", "--json"),
    ("failed-jobs", "plans", "--json"),
    ("events", "--json"),
)


def _listen(stack: ExitStack) -> int:
    """Listen without an answer to anything; the port."""
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    return int(listener.getsockname()[1])


def _freeze(pid: int | None, stack: ExitStack) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    stack.callback(os.kill, pid, signal.SIGCONT)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("refused", "frozen", "no name")]


@pytest.fixture(params=["silent", *SLOW])
def redis_url(request: pytest.FixtureRequest, tmp_path: Path, stack: ExitStack) -> str:
    """URL of a Redis that does not answer."""
    match request.param:
        case "refused":
            return f"redis://me:hidden@127.0.0.1:{free_port()}/0"
        case "silent":
            return f"redis://me:hidden@127.0.0.1:{_listen(stack)}/0"
        case "frozen":
            server = stack.enter_context(ValkeyServer(tmp_path / "valkey"))
            _freeze(server.pid, stack)
            return server.url
        case _:
            return "redis://me:hidden@no-such-host.invalid/0"


@pytest.fixture(params=["silent", *SLOW[:2]])
def database_url(request: pytest.FixtureRequest, stack: ExitStack) -> str:
    """URL of a Postgres that does not answer."""
    match request.param:
        case "refused":
            return f"postgresql://me:hidden@127.0.0.1:{free_port()}/app"
        case "silent":
            return f"postgresql://me:hidden@127.0.0.1:{_listen(stack)}/app"
        case _:
            server = PostgresServer()
            server.start()
            stack.callback(server.remove)
            for pid in server.pids():
                _freeze(pid, stack)
            return server.url()


def _error(done: Done) -> str:
    """The one error line of a command that failed, and wrote nothing else but its log."""
    assert (done.code, done.out, len(done.errors)) == (1, "", 1), done
    assert "Traceback" not in done.err
    assert "hidden" not in done.err
    logged = done.err.splitlines()[:-1]
    assert all(json.loads(line)["level"] == "warning" for line in logged), done.err
    return done.errors[0]


@pytest.mark.slow
async def test_a_command_gives_up_soon_if_redis_does_not_answer(redis_url: str, program: Program) -> None:
    for done in await many(program, *NEED_REDIS, REDIS_URL=redis_url, **PATIENT):
        error = _error(done)
        assert error.startswith("error: REDIS_URL: redis://")
        assert "does not answer, given up after 5 s: " in error
        assert error.endswith(f": {FIX}")


@pytest.mark.slow
async def test_what_needs_the_database_alone_works_without_redis(redis_url: str, program: Program) -> None:
    program.run("failed-jobs", "list", REDIS_URL=redis_url)  # makes the tables
    for done in await many(program, *NEED_THE_DATABASE, REDIS_URL=redis_url, **PATIENT):
        assert (done.code, done.errors) == (0, []), done
        assert isinstance(done.json, dict)
    acknowledged = program.run("alerts", "ack", "redis", REDIS_URL=redis_url)
    assert (acknowledged.code, acknowledged.out) == (0, "acknowledged: redis\n")


@pytest.mark.slow
async def test_a_command_gives_up_soon_if_the_database_does_not_answer(
    database_url: str, program: Program
) -> None:
    commands = ("failed-jobs", "list"), ("events", "--json"), ("run", "moderation-review", "--data", TEXT)
    for done in await many(program, *commands, DATABASE_URL=database_url, **PATIENT):
        error = _error(done)
        assert error.startswith("error: DATABASE_URL: ")
        assert "does not answer: " in error
        assert error.endswith(f": {FIX}")


@pytest.mark.slow
async def test_commands_do_not_wait_for_an_embedded_server_that_is_frozen(
    program: Program, stack: ExitStack
) -> None:
    with EmbeddedServer(program.data_dir), ExitStack() as frozen:
        program.run("failed-jobs", "list")
        pid = server_pid(program.data_dir)
        _freeze(pid, frozen)
        for done in await many(program, ("status",), ("pause", QUEUE), ("workers", "list"), **PATIENT):
            assert f"{program.data_dir / 'valkey'} (pid {pid}) does not answer: see " in _error(done)
        listed, events = await many(program, ("failed-jobs", "list"), ("events", "--json"))
        assert (listed.code, listed.out) == (0, "no dead letters\n")
        assert (events.code, events.json["items"]) == (0, [])
        for done in (listed, events):
            (warning,) = map(json.loads, done.err.splitlines())
            assert warning["event"] == "Redis is unavailable: going on without it"
            assert f"(pid {pid}) does not answer" in warning["cause"]


@pytest.mark.slow
async def test_a_silent_redis_of_one_queue_gives_its_commands_one_line(
    program: Program, stack: ExitStack
) -> None:
    own = {"COUTURECAST_COLOR_EXTRACTION_REDIS_URL": f"redis://me:hidden@127.0.0.1:{_listen(stack)}/0"}
    for done in await many(program, ("pause", QUEUE), ("enqueue", QUEUE, "--data", JOB), **own):
        error = _error(done)
        assert error.startswith("error: Redis does not answer: ")
        assert error.endswith(": couturecast-tui doctor names the server and what to do")
    other = program.run("pause", "moderation-review", **own)
    assert (other.code, other.errors) == (0, [])


def test_a_silent_redis_of_the_cache_gives_its_commands_one_line(program: Program, stack: ExitStack) -> None:
    done = program.run("cache", "stats", CACHE_REDIS_URL=f"redis://me:hidden@127.0.0.1:{_listen(stack)}/0")
    assert _error(done) == f"error: the cache's Redis does not answer: no reply in time: {FIX}"


@pytest.mark.slow
async def test_a_start_waits_for_longer_than_a_command(program: Program) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    starting = asyncio.create_task(program.start(REDIS_URL=url, **PATIENT))
    done = await asyncio.to_thread(program.run, "status", REDIS_URL=url, **PATIENT)
    assert "given up after 5 s" in _error(done)
    assert not starting.done()
    program.headless[0].process.terminate()
    with pytest.raises(AssertionError):  # it never was ready
        await starting
