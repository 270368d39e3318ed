"""Shared by the tests of the doctor: its report, its single checks, and servers to be checked."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from app.doctor import registry as checks
from app.doctor.checks.postgres import open_postgres
from app.doctor.checks.redis_server import open_redis
from app.doctor.groups import run_group
from app.doctor.results import Finding
from tests.support.program import Done, Program
from tests.support.servers import ValkeyServer

SECRET = "pa55word"
MAX_SECONDS = 60.0  # whatever hangs
KEY = {"OPENWEATHER_API_KEY": f"key-{SECRET}"}
StartValkey = Callable[..., ValkeyServer]


class Report:
    """The report of ``doctor --json``."""

    def __init__(self, done: Done) -> None:
        assert SECRET not in done.out + done.err
        assert "Traceback" not in done.err
        assert done.err == ""
        self.code = done.code
        self.items: list[dict[str, Any]] = done.json["items"]
        for result in self.items:
            assert set(result) == {"check", "group", "state", "finding", "consequence", "mend"}
            if result["state"] in ("warning", "wrong"):
                assert result["consequence"], result
                assert result["mend"], result
        assert done.json["wrong"] == len(self.named("wrong"))
        assert done.json["warnings"] == len(self.named("warning"))
        assert done.code == (1 if done.json["wrong"] else 0)

    def named(self, state: str) -> list[str]:
        """``group check`` of all results in a state."""
        return [f"{result['group']} {result['check']}" for result in self.items if result["state"] == state]

    def __getitem__(self, name: str) -> dict[str, Any]:
        (found,) = (result for result in self.items if f"{result['group']} {result['check']}" == name)
        return found

    def says(self, name: str) -> tuple[str, str]:
        """State and finding."""
        return self[name]["state"], self[name]["finding"]


def doctor(program: Program, *arguments: str, **environment: str) -> Report:
    return Report(program.run("doctor", "--json", *arguments, **(KEY | environment)))


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[StartValkey]:
    """Starts a Valkey with options of its own."""
    with ExitStack() as stack:

        def start(*options: str) -> ValkeyServer:
            server = ValkeyServer(tmp_path / f"valkey-{time.monotonic_ns()}", *options)
            server.start()
            stack.callback(server.stop)
            return server

        yield start


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port where connections are taken and nothing is ever said."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener.getsockname()[1]


async def run(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


async def redis_findings(url: str) -> dict[str, Finding]:
    """All checks of a Redis, without a process of their own."""
    server = await open_redis(url, "REDIS_URL")
    if isinstance(server, Finding):
        return {"server": server}
    results = await run_group("Redis", server, checks.REDIS)
    await server.close()
    return {result.check: result.finding for result in results}


async def postgres_findings(url: str, direct_url: str | None = None) -> dict[str, Finding]:
    """All checks of a Postgres."""
    at = await open_postgres(url, direct_url=direct_url, pool_size=5)
    if isinstance(at, Finding):
        return {"server": at}
    results = await run_group("database", at, checks.POSTGRES, concurrency=1)
    await at.close()
    return {result.check: result.finding for result in results}


def wrong_ones(found: dict[str, Finding]) -> list[str]:
    """The checks that found something wrong."""
    return [check for check, finding in found.items() if finding.state == "wrong"]


def with_role(url: str, name: str) -> str:
    return make_url(url).set(username=name, password=SECRET).render_as_string(hide_password=False)


def only_pings(listener: socket.socket, answer: bytes = b"+PONG") -> None:
    def serve(connection: socket.socket) -> None:
        while received := connection.recv(4096):
            words = received.upper()
            if b"PING" in words:
                connection.sendall(answer + b"\r\n")
            elif b"CLIENT" in words or b"INFO" in words or b"HELLO" in words:
                connection.sendall(b"-ERR unknown command\r\n" * max(1, words.count(b"SETINFO")))

    while True:
        try:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
        except OSError:
            return
