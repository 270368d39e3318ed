"""Processes that die, freeze or block, as real processes against a real server."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.support.engine import Bench, MakeBench
from tests.support.processes import Journal, Spawner
from tests.support.waiting import eventually
from workers.engine.policy import PollIntervals

MAX_RECOVERY_SECONDS = 15.0  # what is promised for the jobs of a killed process
BRISK = {
    "heartbeat_seconds": 0.3,
    "dead_after_seconds": 2.0,
    "max_check_gap_seconds": 1.2,
    "recovery_check_seconds": 0.4,
    "loop_check_seconds": 0.15,
}
"""A quarter of the time, on a machine that may be busy."""
SELDOM = PollIntervals(scheduled=3600, ready_wait=3600, presence=3600, aborts=1)
"""Finds nothing out by itself, but when it is told."""


async def _done(bench: Bench, expected: int) -> bool:
    return await bench.total("completed") == expected


@pytest.mark.parametrize(
    "timings", [BRISK, pytest.param({}, marks=pytest.mark.slow)], ids=["brisk", "the real ones"]
)
async def test_e10_jobs_of_a_killed_process_run_again_within_15_s(
    make_bench: MakeBench, spawn: Spawner, journal: Journal, timings: dict[str, float]
) -> None:
    bench = make_bench()
    victim = await spawn(timings=timings)
    keys = [await _key(bench, seconds=60) for _ in range(5)]
    await eventually(lambda: len(journal.events("start")) == 5)
    await spawn(timings=timings)
    victim.kill()
    killed = time.monotonic()
    await eventually(lambda: len(journal.events("start")) == 10, within=MAX_RECOVERY_SECONDS + 1)
    again = [event for event in journal.events("start") if event["pid"] != victim.pid]
    assert {event["key"] for event in again} == set(keys)
    assert all(event["attempt"] == 2 for event in again)
    assert max(event["at"] for event in again) - killed <= MAX_RECOVERY_SECONDS


@pytest.mark.slow
async def test_e10_a_job_that_kills_its_process_ends_as_a_dead_letter(
    make_bench: MakeBench, spawn: Spawner, journal: Journal
) -> None:
    bench = make_bench()
    key = await _key(bench, exit=True)
    for attempt in range(1, 5):
        process = await spawn()
        await asyncio.wait_for(process.wait(), 30)
        assert len(journal.events("start")) == attempt
    await spawn()
    await eventually(bench.letters.count, within=20)
    (letter,) = (await bench.letters.page()).items
    assert (letter.job_id, letter.attempts) == (key, 4)
    assert "died during the attempt" in letter.error_message
    assert len(letter.attempt_errors) == 4
    assert await bench.empty()


@pytest.mark.slow
async def test_e10_a_process_that_is_alive_keeps_its_jobs_while_its_loop_is_blocked(
    make_bench: MakeBench, spawn: Spawner, journal: Journal
) -> None:
    bench = make_bench()
    await spawn()
    await _key(bench, block=14)
    await eventually(lambda: journal.events("start"))
    await spawn()
    await eventually(lambda: _done(bench, 1), within=30)
    assert len(journal.events("start")) == 1


@pytest.mark.slow
async def test_e10_a_process_that_did_not_see_a_job_arrive_sees_its_holder_die(
    make_bench: MakeBench, spawn: Spawner, journal: Journal
) -> None:
    bench = make_bench()
    again = asyncio.Event()

    async def work(ctx: dict[str, Any], seconds: float) -> None:
        again.set()

    idle = await bench.start(work, pace=SELDOM)
    await eventually(lambda: idle.dispatchers[bench.policy.name].state == "empty")
    victim = await spawn(look=0.3)
    # A foreign producer's scheduled job: whoever looks at its time takes it, and no list ever shows it ready.
    await _key(bench, seconds=60, scheduled=int(time.time()) + 1)
    await eventually(lambda: journal.events("start"))
    assert not again.is_set()
    victim.kill()
    killed = time.monotonic()
    await asyncio.wait_for(again.wait(), MAX_RECOVERY_SECONDS + 5)
    assert time.monotonic() - killed <= MAX_RECOVERY_SECONDS


async def _key(bench: Bench, **arguments: Any) -> str:
    job = await bench.stock.enqueue(bench.policy.function, **arguments)
    assert job is not None
    return str(job.key)
