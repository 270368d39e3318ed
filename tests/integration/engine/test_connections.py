"""Connections to Redis: how many, and what becomes of who comes late."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from workers import connection
from workers.connection import MOST_CONNECTIONS, command, connect


async def _clients(redis: Redis) -> int:
    return len(await redis.client_list()) - 1


async def test_a_client_takes_no_more_connections_than_it_may(redis: Redis, redis_url: str) -> None:
    await command(redis, "PING")
    before = await _clients(redis)
    client = connect(redis_url)
    waits = [command(client, "BLPOP", f"test:list-{number}", 0.2) for number in range(5 * MOST_CONNECTIONS)]
    waiting = asyncio.ensure_future(asyncio.gather(*waits))
    await asyncio.sleep(0.1)
    assert await _clients(redis) - before == MOST_CONNECTIONS
    assert await waiting == [None] * len(waits)
    assert await _clients(redis) - before == MOST_CONNECTIONS
    await client.aclose()


async def test_connections_that_were_cancelled_or_broke_are_free_again(redis: Redis, redis_url: str) -> None:
    client = connect(redis_url)
    for _ in range(3):
        waits = [
            asyncio.create_task(command(client, "BLPOP", f"test:list-{number}", 0))
            for number in range(3 * MOST_CONNECTIONS)
        ]
        await asyncio.sleep(0.05)
        for wait in waits[::2]:
            wait.cancel()
        await command(redis, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        for wait in waits[1::2]:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        replies = await asyncio.gather(*(command(client, "PING") for _ in range(3 * MOST_CONNECTIONS)))
        assert len(replies) == 3 * MOST_CONNECTIONS
    await client.aclose()


async def test_who_waits_for_a_connection_in_vain_is_told(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(redis_url)
    monkeypatch.setattr(connection, "_REPLY_TIMEOUT", 0.2)
    waits = [
        asyncio.create_task(command(client, "BLPOP", f"test:list-{number}", 1))
        for number in range(MOST_CONNECTIONS)
    ]
    await asyncio.sleep(0.05)
    with pytest.raises(RedisConnectionError, match="all 10 connections to Redis are in use"):
        await command(client, "PING")
    await asyncio.gather(*waits)
    assert await command(client, "PING")
    await client.aclose()
