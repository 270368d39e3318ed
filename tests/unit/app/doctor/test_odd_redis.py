"""Redis servers that answer oddly are accepted or named, and hang no check."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.doctor.checks.redis_server import RedisServer, open_redis
from app.doctor.results import Finding

PONG, DENIED = b"+PONG\r\n", b"-ERR unknown command\r\n"


@asynccontextmanager
async def odd_server(answers: dict[bytes, bytes]) -> AsyncIterator[str]:
    """Its URL; a command that is not in ``answers`` it does not know."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            words = []
            for _ in range(int(head[1:])):
                await reader.readline()
                words.append((await reader.readline()).strip().upper())
            writer.write(answers.get(words[0], DENIED))
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        yield f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}/0"


@pytest.mark.parametrize(
    ("answers", "role"),
    [
        ({b"INFO": b":5\r\n"}, ""),
        ({b"HELLO": b"*2\r\n$6\r\nserver\r\n$2\r\n\xff\xfe\r\n"}, ""),
        ({b"HELLO": b":5\r\n"}, ""),
        ({b"HELLO": b"*2\r\n$4\r\nrole\r\n$6\r\nmaster\r\n"}, "master"),
    ],
)
async def test_unusual_answers_are_accepted(answers: dict[bytes, bytes], role: str) -> None:
    async with odd_server({b"PING": PONG} | answers) as url:
        found = await open_redis(url, "REDIS_URL")
        assert isinstance(found, RedisServer)
        assert found.info.role == role
        await found.close()


async def test_an_embedded_server_that_loads_does_not_hang(tmp_path: Path) -> None:
    async with odd_server({b"PING": b"-LOADING Redis is loading the dataset in memory\r\n"}) as url:
        found = await open_redis(url, "REDIS_URL", embedded=tmp_path)
    assert isinstance(found, Finding)
    assert found.text.endswith("loads its data")
    assert found.fix == "wait until it has"


async def test_an_unknown_database_number_is_wrong() -> None:
    async with odd_server({b"PING": PONG, b"SELECT": b"-ERR DB index is out of range\r\n"}) as url:
        found = await open_redis(f"{url}99", "REDIS_URL")
    assert isinstance(found, Finding)
    assert "there is no such database" in found.text
    assert "/0" in found.fix
