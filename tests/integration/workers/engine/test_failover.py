"""A failover behind one address: new connections reach the new primary, old ones the demoted server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, ResponseError
from saq.queue.redis import RedisQueue

from storage.redis.client import execute, make_client, make_sync_client
from storage.redis.pipeline import PipelineConnection
from storage.redis.scripts import run_script
from tests.chaos.proxy import Proxy
from tests.support.processes import Journal, Spawner
from tests.support.servers import ValkeyServer
from tests.support.waiting import eventually
from workers.engine.keys import BEATS, WAKE_CHANNEL
from workers.process.heartbeat import BEAT_SCRIPT

QUEUE = "color-extraction"


@dataclass
class Pair:
    """Two servers, the first the primary of the second, and one address that leads to the first."""

    first: ValkeyServer
    second: ValkeyServer
    proxy: Proxy

    @property
    def url(self) -> str:
        return self.proxy.url

    async def fail_over(self, address_after: Callable[[], Awaitable[bool]] | None = None) -> None:
        """The second is the primary, with all that the first had; old connections stay open to the first.

        New ones reach it, too, until ``address_after`` is true.
        """
        first, second = make_client(self.first.url), make_client(self.second.url)
        await execute(first, "FAILOVER", "TO", "127.0.0.1", self.second.port)

        async def promoted() -> bool:
            return (await second.info("replication"))["role"] == "master"

        await eventually(promoted, within=30)
        if address_after is not None:
            await eventually(address_after, within=30)
        self.proxy.lead_to(self.second.port)
        await first.aclose()
        await second.aclose()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[ValkeyServer, ValkeyServer]]:
    first = ValkeyServer(tmp_path / "first", "--repl-diskless-sync-delay", "0")
    first.start()
    second = ValkeyServer(tmp_path / "second", "--replicaof", "127.0.0.1", str(first.port))
    second.start()
    yield first, second
    first.kill()
    second.kill()


@pytest.fixture
async def pair(servers: tuple[ValkeyServer, ValkeyServer]) -> AsyncIterator[Pair]:
    made = Pair(*servers, Proxy(servers[0].port))
    replica = make_client(made.second.url)

    async def linked() -> bool:
        return (await replica.info("replication")).get("master_link_status") == "up"

    await eventually(linked, within=30)
    await replica.aclose()
    await made.proxy.start()
    yield made
    await made.proxy.stop()


@pytest.fixture
async def primary(pair: Pair) -> AsyncIterator[Redis]:
    """A client of the second server, which becomes the primary."""
    client = make_client(pair.second.url)
    yield client
    await client.aclose()


async def test_a_connection_to_a_server_that_was_demoted_is_closed(pair: Pair) -> None:
    line, client, thread = PipelineConnection(pair.url), make_client(pair.url), make_sync_client(pair.url)

    async def through_line() -> Any:
        (reply,) = await line.round_trip([("SET", "test:key", "line")])
        if isinstance(reply, Exception):
            raise reply

    async def through_client() -> Any:
        await run_script(client, BEAT_SCRIPT.call([BEATS], ["test"]))

    async def through_thread() -> Any:
        await asyncio.to_thread(thread.set, "test:key", "thread")

    ways = (through_line, through_client, through_thread)
    for way in ways:
        await way()
    await pair.fail_over()
    refused = []
    for way in ways:
        try:
            await way()
        except ReadOnlyError:
            refused.append(way)
            await way()
    assert through_line in refused
    assert through_thread in refused  # of another loop, it is not closed by the line's reply
    await line.close()
    await client.aclose()
    thread.close()


async def test_an_error_inside_a_script_closes_its_connection_too(pair: Pair) -> None:
    client = make_client(pair.url)
    write = "return redis.call('SET', KEYS[1], 'x')"
    await execute(client, "EVAL", write, 1, "test:key")
    await pair.fail_over()
    with pytest.raises(ResponseError):
        await execute(client, "EVAL", write, 1, "test:key")
    await execute(client, "EVAL", write, 1, "test:key")
    await client.aclose()


async def test_what_waits_at_a_server_that_was_demoted_is_closed_with_the_rest(
    pair: Pair, primary: Redis
) -> None:
    """A subscription gets no error there, and would hear nothing for ever."""
    subscriber, writer = make_client(pair.url, reply_timeout=None), make_client(pair.url)
    channel = subscriber.pubsub()
    await channel.subscribe("test:channel")
    await channel.get_message(timeout=5)
    await execute(writer, "SET", "test:key", "x")
    await pair.fail_over()
    with pytest.raises(ReadOnlyError):
        await execute(writer, "SET", "test:key", "x")
    with pytest.raises(RedisConnectionError):
        await channel.get_message(timeout=5)
    await channel.aclose()
    await subscriber.aclose()
    await writer.aclose()


async def test_a_server_that_stays_read_only_closes_what_waits_there_once(pair: Pair) -> None:
    """Else no subscription lasts, and by them it is known which processes live."""
    subscriber, writer = make_client(pair.second.url, reply_timeout=None), make_client(pair.second.url)
    await execute(writer, "EXISTS", "test:key")
    for number in range(3):
        channel = subscriber.pubsub()
        await channel.subscribe("test:channel")
        await channel.get_message(timeout=5)
        with pytest.raises(ReadOnlyError):
            await execute(writer, "SET", "test:key", "x")
        with pytest.raises(ReadOnlyError):
            await execute(writer, "SET", "test:key", "x")  # over a connection that is newer
        if number:
            await channel.ping()
            assert (await channel.get_message(timeout=5))["type"] == "pong"
        await channel.aclose()
    await subscriber.aclose()
    await writer.aclose()


@pytest.mark.slow
async def test_e14_a_worker_goes_on_at_the_new_primary(
    pair: Pair, primary: Redis, sqlite_url: str, tmp_path: Path
) -> None:
    journal = Journal(tmp_path / "journal")
    spawner = Spawner(redis=pair.url, database=sqlite_url, journal=str(journal.path), concurrency=3)
    await spawner()
    before = RedisQueue.from_url(pair.first.url, name=QUEUE)
    # Some run while the servers change places, some wait.
    keys = [(await before.enqueue("extract_colors", seconds=2.0)).key for _ in range(9)]  # type: ignore[union-attr]
    await eventually(lambda: len(journal.events("start")) == 3)
    await pair.fail_over()
    after = RedisQueue.from_url(pair.second.url, name=QUEUE)
    keys += [(await after.enqueue("extract_colors")).key for _ in range(5)]  # type: ignore[union-attr]
    await eventually(lambda: len(journal.events("end")) >= len(keys), within=45)
    assert sorted(line["key"] for line in journal.events("end")) == sorted(keys)
    assert len(journal.events("start")) == len(keys)

    async def idle() -> bool:
        names = [f"saq:{QUEUE}:{kind}" for kind in ("queued", "active", "incomplete")]
        return not await primary.exists(*names, f"couturecast:{QUEUE}:leases")

    await eventually(idle)
    await spawner.end()
    await before.disconnect()
    await after.disconnect()


@pytest.mark.slow
async def test_e14_an_idle_worker_leaves_the_server_that_was_demoted(
    pair: Pair, primary: Redis, sqlite_url: str, tmp_path: Path
) -> None:
    journal = Journal(tmp_path / "journal")
    spawner = Spawner(redis=pair.url, database=sqlite_url, journal=str(journal.path))
    await spawner()
    assert dict(await primary.pubsub_numsub(WAKE_CHANNEL)) == {WAKE_CHANNEL.encode(): 0}
    await pair.fail_over()

    async def moved() -> bool:
        return dict(await primary.pubsub_numsub(WAKE_CHANNEL)) == {WAKE_CHANNEL.encode(): 1}

    await eventually(moved, within=45)
    after = RedisQueue.from_url(pair.second.url, name=QUEUE)
    await after.enqueue("extract_colors")
    await eventually(lambda: journal.events("end"), within=15)
    await spawner.end()
    await after.disconnect()


@pytest.mark.slow
async def test_e14_an_address_that_changes_late_leaves_no_client_at_the_old_server(
    pair: Pair, primary: Redis, sqlite_url: str, tmp_path: Path
) -> None:
    """The server is demoted, and what is opened again at once reaches it once more."""
    journal = Journal(tmp_path / "journal")
    spawner = Spawner(redis=pair.url, database=sqlite_url, journal=str(journal.path))
    await spawner()
    old = make_client(pair.first.url)
    number = (await old.info("stats"))["total_connections_received"]
    await pair.fail_over(address_after=lambda: _received(old, number + 3))

    async def moved() -> bool:
        subscribed = [
            dict(await server.pubsub_numsub(WAKE_CHANNEL))[WAKE_CHANNEL.encode()] for server in (old, primary)
        ]
        return subscribed == [0, 1]

    await eventually(moved, within=45)
    await spawner.end()
    await old.aclose()


async def _received(server: Redis, number: int) -> bool:
    """Whether so many connections have come."""
    return bool((await server.info("stats"))["total_connections_received"] >= number)
