"""A server, or a proxy before it, closes connections that are idle: that is normal, and nobody notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis
from saq.queue.redis import RedisQueue
from structlog.testing import capture_logs

from storage.backoff import ReconnectBackoff
from storage.dead_letters.repository import DeadLetterRepository
from storage.redis.client import execute, make_client, make_sync_client
from storage.redis.pipeline import PipelineConnection
from tests.chaos.proxy import Proxy
from tests.support.servers import ValkeyServer
from tests.support.waiting import eventually
from workers.engine.policy import QueuePolicy, Timings
from workers.process import wake_listener
from workers.process.worker_process import WorkerProcess

POLICY = QueuePolicy(name="color-extraction", function="extract_colors", concurrency=5, timeout=60)


@pytest.fixture
async def proxy(valkey: ValkeyServer) -> AsyncIterator[Proxy]:
    proxy = Proxy(valkey.port)
    await proxy.start()
    yield proxy
    await proxy.stop()


@pytest.fixture
async def direct(valkey: ValkeyServer) -> AsyncIterator[Redis]:
    client = make_client(valkey.url)
    yield client
    await client.aclose()


Close = Callable[[ValkeyServer, Proxy, Redis], Awaitable[Any]]


async def _by_the_server(valkey: ValkeyServer, proxy: Proxy, direct: Redis) -> None:
    await execute(direct, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


async def _by_a_proxy(valkey: ValkeyServer, proxy: Proxy, direct: Redis) -> None:
    proxy.close_links()


async def _by_a_restart(valkey: ValkeyServer, proxy: Proxy, direct: Redis) -> None:
    await asyncio.to_thread(valkey.stop)
    await asyncio.to_thread(valkey.start)


async def _by_its_timeout(valkey: ValkeyServer, proxy: Proxy, direct: Redis) -> None:
    await execute(direct, "CONFIG", "SET", "timeout", 1)

    async def alone() -> bool:
        return len(await direct.client_list()) == 1

    await eventually(alone, within=30)


@pytest.mark.parametrize(
    "close",
    [_by_the_server, _by_a_proxy, _by_a_restart, pytest.param(_by_its_timeout, marks=pytest.mark.slow)],
    ids=["server", "proxy", "restart", "timeout"],
)
async def test_a_connection_that_was_closed_while_it_was_idle_is_replaced_in_silence(
    close: Close, valkey: ValkeyServer, proxy: Proxy, direct: Redis
) -> None:
    line, client, thread = PipelineConnection(proxy.url), make_client(proxy.url), make_sync_client(proxy.url)
    for _ in range(2):
        assert await line.round_trip([("PING",), ("PING",)]) == [b"PONG", b"PONG"]
        assert await execute(client, "PING")
        assert await asyncio.to_thread(thread.ping)
        await close(valkey, proxy, direct)
        await asyncio.sleep(0.05)  # the news is on its way
    await line.close()
    await client.aclose()
    thread.close()


async def test_the_last_message_of_a_closing_server_is_not_a_reply(direct: Redis) -> None:
    """As proxies do that tell why."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            for _ in range(int(head[1:])):
                await reader.readline()
                await reader.readline()
            writer.write(b"+PONG\r\n")
            await writer.drain()
            if not farewell:
                farewell.append(writer)

    farewell: list[asyncio.StreamWriter] = []
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        line = PipelineConnection(f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}/0")
        assert await line.round_trip([("PING",)]) == [b"PONG"]
        farewell[0].write(b"-ERR idle for too long\r\n")
        farewell[0].close()
        await asyncio.sleep(0.05)
        assert await line.round_trip([("PING",)]) == [b"PONG"]
        await line.close()


@asynccontextmanager
async def _worker(
    url: str, letters: DeadLetterRepository, ended: list[int], **options: Any
) -> AsyncIterator[WorkerProcess]:
    async def work(ctx: dict[str, Any], number: int) -> None:
        ended.append(number)

    process = WorkerProcess(url, policies=[POLICY], functions={POLICY.name: work}, letters=letters, **options)
    await process.start()
    yield process
    process.begin_drain()
    await process.wait_drained()
    await process.close()


@pytest.mark.slow
async def test_quiet_spells_with_a_server_that_closes_idle_connections_cost_nothing(
    valkey: ValkeyServer, direct: Redis, letters: DeadLetterRepository
) -> None:
    producer, ended = RedisQueue.from_url(valkey.url, name=POLICY.name), list[int]()
    await execute(direct, "CONFIG", "SET", "timeout", 1)
    errors: list[Exception | None] = []
    with capture_logs() as logged:
        async with _worker(valkey.url, letters, ended) as process:
            (dispatcher,) = process.dispatchers.values()
            replied = dispatcher._on_result

            def watch(error: Exception | None) -> None:
                errors.append(error)
                replied(error)

            dispatcher._on_result = watch
            for number in range(3):
                job = await producer.enqueue(POLICY.function, number=number)
                assert job is not None
                await eventually(lambda number=number: number in ended)
                await asyncio.sleep(3)
    await producer.disconnect()
    assert set(errors) == {None}
    assert ended == [0, 1, 2]
    assert [line for line in logged if line["log_level"] in ("warning", "error")] == []


async def test_waits_that_a_proxy_breaks_off_begin_again_at_once(
    valkey: ValkeyServer,
    proxy: Proxy,
    direct: Redis,
    letters: DeadLetterRepository,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wake_listener, "_RECONNECT_SECONDS", (60.0, 60.0))
    timings, ended = Timings(retry_seconds=(60.0, 60.0)), list[int]()

    async def waits(*, but: frozenset[str] = frozenset()) -> frozenset[str]:
        """The connections that wait, once both kinds do."""
        waiting = [peer for peer in await direct.client_list() if peer["cmd"] in ("blmove", "subscribe")]
        new = frozenset(peer["id"] for peer in waiting) - but
        return new if len(new) == 2 else frozenset()

    with capture_logs() as logged:
        async with _worker(proxy.url, letters, ended, timings=timings) as process:
            before = await eventually(waits)
            for waiting in before:  # and none in which a command may be under way, whose end is not silent
                await execute(direct, "CLIENT", "KILL", "ID", waiting)
            await eventually(lambda: waits(but=before), within=30)
            assert process.redis_error is None
    assert [line for line in logged if line["log_level"] in ("warning", "error")] == []


def test_the_first_retry_is_at_once_and_later_pauses_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("storage.backoff.time.monotonic", lambda: now)
    backoff = ReconnectBackoff(0.1, 5.0)
    pauses = []
    for _ in range(9):
        backoff.begin()
        pauses.append(backoff.failure_delay())
    assert pauses == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    backoff.begin()
    now += 60  # it was a wait that a proxy broke off
    assert backoff.failure_delay() == 0.0
    backoff.begin()
    assert backoff.failure_delay() == 0.1
    backoff.record_success()
    assert backoff.failure_delay() == 0.0
