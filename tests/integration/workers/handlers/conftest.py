"""Shared by the handlers' tests: a real HTTP server with prepared answers, and the two databases."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from storage.database.engine import Database
from tests.integration.workers.conftest import letters, make_bench  # noqa: F401  # fixtures
from tests.support.databases import open_database
from tests.support.handler_pools import open_pool  # noqa: F401  # a fixture
from tests.support.team_module import team  # noqa: F401  # a fixture
from workers.handlers import http_client as net
from workers.handlers.base import JobContext
from workers.handlers.process_pool import CpuPool

SAMPLES = Path(__file__).parents[4] / "app" / "process" / "samples" / "images"
CERTIFICATE = Path(__file__).with_name("localhost.pem")
FIRST = JobContext(job_key="job-1", attempt=1)


@dataclass(frozen=True)
class Request:
    """A request that the server received."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """An answer of the server: ``body``, then all that ``more`` yields, then the end of the connection."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    more: AsyncIterator[bytes] | None = None

    @classmethod
    def json(cls, value: Any, status: int = 200) -> Answer:
        return cls(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


Respond = Callable[[Request], Awaitable[Answer]]


async def hang(request: Request) -> Answer:
    """Never answers."""
    await asyncio.Event().wait()
    raise AssertionError


class Server:
    """HTTP/1.1 on a free port, a connection for each request.  ``answers`` are by path; else it says 404."""

    def __init__(self, host: str = "127.0.0.1", *, tls: bool = False) -> None:
        self.answers: dict[str, Answer | Respond] = {}
        self.requests: list[Request] = []
        self._host = host
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, port: int = 0) -> None:
        context = None
        if self._tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATE)
        self._server = await asyncio.start_server(self._accept, self._host, port, ssl=context)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def url(self, path: str = "", *, host: str | None = None) -> str:
        return f"http{'s' if self._tls else ''}://{host or self._host}:{self.port}{path}"

    def asked(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._serve(reader, writer)
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        request = Request(method, url.path, query, headers, body)
        self.requests.append(request)
        answer = self.answers.get(url.path, Answer(404))
        if not isinstance(answer, Answer):
            answer = await answer(request)
        given = {"Connection": "close", **answer.headers}
        if answer.more is None:
            given.setdefault("Content-Length", str(len(answer.body)))
        lines = [f"HTTP/1.1 {answer.status} x", *(f"{name}: {value}" for name, value in given.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode() + answer.body)
        await writer.drain()
        if answer.more is not None:
            async for chunk in answer.more:
                writer.write(chunk)
                await writer.drain()


Serve = Callable[..., Awaitable[Server]]


class Ticker:
    """How long the event loop was blocked, at the worst, and how long the whole block took; seconds."""

    worst = 0.0
    took = 0.0

    async def __aenter__(self) -> Ticker:
        self._start = self._last = time.monotonic()
        self._task = asyncio.create_task(self._run())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()
        self._note()
        self.took = time.monotonic() - self._start

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(0.001)
            self._note()

    def _note(self) -> None:
        now = time.monotonic()
        self.worst, self._last = max(self.worst, now - self._last), now


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts servers: ``await serve(host, port=…, tls=…)``."""
    started: list[Server] = []

    async def start(host: str = "127.0.0.1", *, port: int = 0, tls: bool = False) -> Server:
        started.append(Server(host, tls=tls))
        await started[-1].start(port)
        return started[-1]

    yield start
    for server in started:
        await server.stop()


@pytest.fixture
async def server(serve: Serve) -> Server:
    return await serve()


@pytest.fixture
def trusted_certificate(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The server's certificate is one that clients trust."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    net._trusted_context.cache_clear()
    yield
    net._trusted_context.cache_clear()


@pytest.fixture
def only_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.1 and ::1 count as public ones, so that a test can go from a public address to another."""
    monkeypatch.setattr(net, "is_public", lambda address: address in ("127.0.0.1", "::1"))


@pytest.fixture
async def database(migrated_sqlite_url: str) -> AsyncIterator[Database]:
    database = Database(migrated_sqlite_url)
    yield database
    await database.close()


@pytest.fixture
async def either_database(migrated_database_url: str) -> AsyncIterator[Database]:
    """Each of the two databases in turn."""
    async with open_database(migrated_database_url) as database:
        yield database


@pytest.fixture(scope="module")
def pool() -> Iterator[CpuPool]:
    pool = CpuPool(2)
    yield pool
    asyncio.run(pool.close())
