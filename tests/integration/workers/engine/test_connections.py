"""Connections to Redis: how many, and what becomes of who comes late."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from storage.redis import client as connection
from storage.redis.client import MAX_CONNECTIONS, execute, make_client
from tests.support.waiting import eventually


async def _clients_since(redis: Redis, first: int) -> int:
    """Connections that were opened after the one with the id ``first``; older ones may still be closing."""
    return sum(int(client["id"]) > first for client in await redis.client_list())


async def test_a_client_takes_no_more_connections_than_it_may(redis: Redis, redis_url: str) -> None:
    first = await redis.client_id()
    client = make_client(redis_url)
    lists = [f"test:list-{number}" for number in range(5 * MAX_CONNECTIONS)]
    waiting = asyncio.ensure_future(asyncio.gather(*(execute(client, "BLPOP", name, 0) for name in lists)))

    async def all_in_use() -> bool:
        return await _clients_since(redis, first) == MAX_CONNECTIONS

    await eventually(all_in_use)
    for name in lists:
        await redis.rpush(name, "end")
    assert await waiting == [(name.encode(), b"end") for name in lists]
    assert await all_in_use()
    await client.aclose()


async def test_connections_that_were_cancelled_or_broke_are_free_again(redis: Redis, redis_url: str) -> None:
    client = make_client(redis_url)
    for _ in range(3):
        waits = [
            asyncio.create_task(execute(client, "BLPOP", f"test:list-{number}", 0))
            for number in range(3 * MAX_CONNECTIONS)
        ]
        await asyncio.sleep(0.05)
        for wait in waits[::2]:
            wait.cancel()
        await execute(redis, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        for wait in waits[1::2]:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        replies = await asyncio.gather(*(execute(client, "PING") for _ in range(3 * MAX_CONNECTIONS)))
        assert len(replies) == 3 * MAX_CONNECTIONS
    await client.aclose()


async def test_waiting_for_a_connection_in_vain_is_an_error(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client(redis_url)
    monkeypatch.setattr(connection, "REPLY_SECONDS", 0.2)
    waits = [
        asyncio.create_task(execute(client, "BLPOP", f"test:list-{number}", 60))
        for number in range(MAX_CONNECTIONS)
    ]

    async def all_wait() -> bool:
        return int((await redis.info("clients"))["blocked_clients"]) == MAX_CONNECTIONS

    await eventually(all_wait)
    with pytest.raises(RedisConnectionError, match="all 10 connections to Redis are in use"):
        await execute(client, "PING")
    for number in range(MAX_CONNECTIONS):
        await redis.rpush(f"test:list-{number}", "x")
    await asyncio.gather(*waits)
    assert await execute(client, "PING")
    await client.aclose()
