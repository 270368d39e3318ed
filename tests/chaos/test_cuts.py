"""The connection to Redis is cut at every step of a job's way, and before, in and after each."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from storage.dead_letters.repository import DeadLetterRepository
from storage.redis.client import execute
from tests.chaos.conftest import MakeLedger
from tests.chaos.proxy import Cut, Proxy
from tests.support.servers import ValkeyServer
from tests.support.waiting import eventually
from workers.engine.policy import PollIntervals
from workers.process.worker_process import WorkerProcess

pytestmark = pytest.mark.slow

WAY = (
    "take",
    "settle update",
    "settle complete",
    "settle retry",
    "settle bury",
    "ZRANGE",  # the recorder reads what waits,
    "letters",  # and its text,
    "EXEC",  # and removes what is recorded
    "announce",
    "MGET",  # is a running job to be aborted?
    "ZRANGEBYSCORE",  # has a foreign producer scheduled a job?
    "BLMOVE",
    "SUBSCRIBE",
)
BRISK = PollIntervals(scheduled=0.3, ready_wait=0.5, presence=0.3, aborts=0.1)
"""Every command comes along within a moment."""


@pytest.fixture
async def proxy(valkey: ValkeyServer) -> AsyncIterator[Proxy]:
    proxy = Proxy(valkey.port)
    await proxy.start()
    yield proxy
    await proxy.stop()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("cut", Cut, ids=lambda cut: cut.name.lower())
async def test_e2_e8_a_connection_that_breaks_loses_nothing_and_repeats_nothing(
    cut: Cut, proxy: Proxy, make_ledger: MakeLedger, letters: DeadLetterRepository, factor: float
) -> None:
    ledger = await make_ledger(concurrency=3, retry_delays=(0.02, 0.02, 0.02))
    starts: Counter[str] = Counter()

    async def work(ctx: dict[str, Any], fails: int) -> None:
        starts[ctx["job"].key] += 1
        if ctx["job"].attempts <= fails:
            raise RuntimeError("told to fail")
        await asyncio.sleep(0.15)

    process = WorkerProcess(
        proxy.url,
        policies=[ledger.queue.policy],
        functions={ledger.queue.policy.name: work},
        letters=letters,
        pace=BRISK,
    )
    await process.start()
    async with ledger.watched():
        for number in range(1, 2 if factor <= 1 else 4):
            for step in WAY:
                proxy.arm(step, cut, 1 if step == "SUBSCRIBE" else number)
                if step == "SUBSCRIBE":  # comes only if the one before has ended
                    await execute(ledger.redis, "CLIENT", "KILL", "TYPE", "pubsub")
                await _cut(proxy, ledger)
    rows = await ledger.balance()
    assert len(proxy.cuts) >= len(WAY)
    assert len(rows) == len(ledger.acknowledged) // 3
    assert max(starts.values()) == 4
    assert process.redis_error is None
    process.begin_drain()
    assert await process.wait_drained() == 0
    await process.close()


async def test_e12_a_check_that_fails_once_is_not_a_lasting_outage(
    proxy: Proxy, make_ledger: MakeLedger, letters: DeadLetterRepository
) -> None:
    ledger = await make_ledger()

    async def work(ctx: dict[str, Any]) -> None: ...

    policy = ledger.queue.policy
    process = WorkerProcess(
        proxy.url, policies=[policy], functions={policy.name: work}, letters=letters, pace=BRISK
    )
    await process.start()
    await eventually(lambda: process.dispatchers[policy.name].state == "empty")
    for _ in range(2):
        proxy.arm("ZRANGEBYSCORE", Cut.AFTER)
        await eventually(lambda: not proxy.armed)
        # No job comes that would show that Redis is there.
        await eventually(lambda: process.redis_error is None)
    process.begin_drain()
    assert await process.wait_drained() == 0
    await process.close()


async def _cut(proxy: Proxy, ledger: Any) -> None:
    """A job that completes, one that is retried and one that dies, until the cut has come; then all end."""
    while proxy.armed:
        for fails in (0, 1, 4):
            await ledger.send(fails=fails)
        await eventually(lambda: ledger.all_ended(), within=30, what=f"every job ends ({proxy.cuts})")
