"""CPU-bound work past its timeout, and what an idle process costs."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from storage.dead_letters.repository import DeadLetterRepository
from tests.integration.workers.handlers import calls
from tests.support.engine import MakeBench
from tests.support.processes import alive
from tests.support.servers import ValkeyServer
from tests.support.waiting import eventually
from workers.engine.policy import DEFAULT_POLICIES, ECONOMICAL, NORMAL, PollIntervals
from workers.handlers.process_pool import CpuPool
from workers.process.worker_process import WorkerProcess

_QUICK_SECONDS = 2.0
_LONG_SECONDS = 20.0 * max(1.0, float(os.environ.get("COUTURECAST_TEST_CHAOS", "1")))
_PRESENCE_COMMANDS = (
    3 + 4 * 2 + 3
)  # of a process that publishes its presence, for four queues, and some to spare
_FASTER = 30
"""A pace that is so many times faster shows in seconds what each period costs."""


@pytest.fixture
async def pool() -> AsyncIterator[CpuPool]:
    pool = CpuPool(2)
    yield pool
    await pool.close()


async def test_e6_work_that_is_stuck_on_the_cpu_does_not_stop_its_queue(
    make_bench: MakeBench, pool: CpuPool, tmp_path: Path
) -> None:
    bench = make_bench(concurrency=2, timeout=3, retry_delays=())

    async def work(ctx: dict[str, Any], number: int, stuck: bool) -> int:
        if stuck:
            await pool.run(calls.spin, str(tmp_path / f"pid{number}"))
        return await pool.run(calls.length, b"1234")

    await bench.start(work)
    await bench.send(3, stuck=True)
    await bench.send(2, stuck=False)
    await eventually(lambda: bench.total("completed"), within=40)
    await eventually(bench.empty, within=40)
    # On a busy machine a new process may take longer to start than the timeout.
    died = 5 - await bench.total("completed")

    async def recorded() -> bool:
        return await bench.letters.count() == died

    await eventually(recorded)
    letters = (await bench.letters.page()).items
    assert sum(letter.job_data["kwargs"]["stuck"] for letter in letters) == 3
    assert all("longer than the 3 s" in letter.error_message for letter in letters)
    await eventually(lambda: not _alive(tmp_path))


def _alive(directory: Path) -> list[int]:
    """Which of the calls that wrote their process id there still run."""
    return [pid for pid in (int(path.read_text()) for path in directory.glob("pid*")) if alive(pid)]


@pytest.mark.parametrize(
    "seconds", [_QUICK_SECONDS, pytest.param(_LONG_SECONDS, marks=pytest.mark.slow)], ids=["quick", "long"]
)
async def test_e13_an_idle_process_with_four_queues_keeps_to_its_budget_of_commands(
    letters: DeadLetterRepository, tmp_path: Path, seconds: float
) -> None:
    quick = PollIntervals(
        *(pause / _FASTER for pause in (ECONOMICAL.scheduled, ECONOMICAL.ready_wait, ECONOMICAL.presence)),
        aborts=4,
    )
    normal, economical, periods = await asyncio.gather(
        _commands(NORMAL, seconds, letters, tmp_path / "normal"),
        _commands(ECONOMICAL, seconds, letters, tmp_path / "economical"),
        _commands(quick, seconds, letters, tmp_path / "quick"),
    )
    minutes = seconds / 60
    assert normal <= 100 * minutes + _PRESENCE_COMMANDS
    assert economical <= 11 * minutes + _PRESENCE_COMMANDS
    assert periods <= 11 * minutes * _FASTER + _PRESENCE_COMMANDS


async def _commands(
    pace: PollIntervals, seconds: float, letters: DeadLetterRepository, directory: Path
) -> int:
    """Return the commands of an idle process in so many seconds, by the server's own count."""
    server = ValkeyServer(directory)
    await asyncio.to_thread(server.start)

    async def work(ctx: dict[str, Any]) -> None: ...

    client: Redis = Redis.from_url(server.url)
    process = WorkerProcess(
        server.url,
        policies=list(DEFAULT_POLICIES.values()),
        functions=dict.fromkeys(DEFAULT_POLICIES, work),
        letters=letters,
        pace=pace,
    )
    await process.start()
    try:
        await eventually(lambda: {one.state for one in process.dispatchers.values()} == {"empty"})

        async def count() -> int:
            return int((await client.info("stats"))["total_commands_processed"])

        async def subscribed() -> bool:
            return bool((await client.pubsub_numsub("couturecast:nudge"))[0][1])

        await eventually(subscribed)
        await asyncio.sleep(1)  # what it does once, when it starts
        began, before = time.monotonic(), await count()
        await asyncio.sleep(seconds)
        spent = await count() - before - 1
        return round(spent * seconds / (time.monotonic() - began))
    finally:
        process.begin_drain()
        await process.wait_drained()
        await process.close()
        await client.aclose()
        server.stop()
