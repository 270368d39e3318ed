"""Requests over one connection: each gets its own replies, in order, whatever happens to the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from storage.redis.client import execute
from storage.redis.pipeline import PipelineConnection

WAIT = [("BLPOP", "list", 0)]


@pytest.fixture
async def line(redis_url: str) -> AsyncIterator[PipelineConnection]:
    line = PipelineConnection(redis_url)
    await line.connect()
    yield line
    await line.close()


async def test_requests_are_under_way_together_and_get_their_own_replies(
    line: PipelineConnection, redis: Redis
) -> None:
    waiting = line.send(WAIT)
    others = [line.send([("ECHO", number), ("INCR", "list-of-none")]) for number in range(20)]
    assert not waiting.done()
    await execute(redis, "RPUSH", "list", "x")
    assert await waiting == [[b"list", b"x"]]
    assert await asyncio.gather(*others) == [[str(number).encode(), number + 1] for number in range(20)]


async def test_an_error_reply_is_that_of_its_command_alone(line: PipelineConnection) -> None:
    wrong, right = line.send([("PING",), ("NONSENSE",), ("PING",)]), line.send([("PING",)])
    first, error, last = await wrong
    assert (first, last, await right) == (b"PONG", b"PONG", [b"PONG"])
    assert isinstance(error, ResponseError)


async def test_the_reply_of_a_caller_that_gave_up_is_not_given_to_the_next(
    line: PipelineConnection, redis: Redis
) -> None:
    waiting = asyncio.create_task(line.round_trip(WAIT))
    await asyncio.sleep(0)
    following = line.send([("ECHO", "mine")])
    waiting.cancel()
    await execute(redis, "RPUSH", "list", "x")
    assert await following == [b"mine"]
    assert await line.round_trip([("ECHO", "again")]) == [b"again"]


async def test_a_reply_that_takes_too_long_breaks_the_connection_for_all(line: PipelineConnection) -> None:
    waiting, behind = line.send(WAIT, 0.1), line.send([("PING",)])
    with pytest.raises(TimeoutError):
        await waiting
    with pytest.raises(TimeoutError):
        await behind
    assert not line.is_open
    assert await line.round_trip([("PING",)]) == [b"PONG"]


async def test_all_requests_fail_if_the_server_closes_the_connection(
    line: PipelineConnection, redis: Redis
) -> None:
    (number,) = await line.round_trip([("CLIENT", "ID")])
    requests = [line.send(WAIT), line.send([("PING",)])]
    await execute(redis, "CLIENT", "KILL", "ID", number)
    results = await asyncio.gather(*requests, return_exceptions=True)
    assert [type(result) for result in results] == [RedisConnectionError] * 2
    assert await line.round_trip([("PING",)]) == [b"PONG"]


async def test_a_reply_of_megabytes_arrives_whole(line: PipelineConnection) -> None:
    body = b"x" * 5_000_000
    _, read = await line.round_trip([("SET", "large", body), ("GET", "large")])
    assert read == body


async def test_close_ends_what_is_under_way(redis_url: str) -> None:
    line = PipelineConnection(redis_url)
    await line.connect()
    waiting = line.send(WAIT)
    await line.close()
    with pytest.raises(RedisConnectionError):
        await waiting


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_a_connection_that_is_closing_refuses_to_send(line: PipelineConnection, how: str) -> None:
    assert line._reader is not None
    getattr(line._reader._transport, how)()  # as when the server has closed it, and nobody has been told yet
    assert not line.is_open
    with pytest.raises(RedisConnectionError):
        line.send([("PING",)])
    assert await line.round_trip([("PING",)]) == [b"PONG"]


async def test_connections_that_the_server_closes_at_any_time_raise_no_other_error(
    line: PipelineConnection, redis: Redis
) -> None:
    async def use() -> int:
        broken = 0
        for _ in range(300):
            try:
                assert await line.round_trip([("PING",)]) == [b"PONG"]
            except RedisConnectionError:
                broken += 1
        return broken

    async def cut() -> None:
        for _ in range(60):
            await execute(redis, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await asyncio.sleep(0.002)

    used, _ = await asyncio.gather(use(), cut())
    assert used < 300
