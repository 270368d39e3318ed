"""Five processes at most hold jobs of one queue; a sixth waits for its turn."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from storage.asyncio_tools import cancel_and_wait
from storage.redis.scripts import run_script
from tests.support.engine import Bench, MakeBench
from tests.support.waiting import eventually
from workers.engine.keys import BEATS, WORKERS
from workers.engine.policy import PollIntervals
from workers.engine.settlement import LeasedJob, Settlement
from workers.process.heartbeat import BEAT_SCRIPT
from workers.process.worker_process import WorkerProcess

FIVE = ["one", "two", "three", "four", "five"]
BRISK = PollIntervals(scheduled=5, ready_wait=30, presence=0.2, aborts=1)


async def test_e3_a_sixth_process_is_shown_as_standby_and_starts_when_a_slot_is_free(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(concurrency=10)
    held, started = await _five_hold(bench), asyncio.Event()
    process = await _sixth(bench, started)
    (job,) = held["three"]
    await bench.queue.settle([Settlement(job.id, job.lease, "complete", job.body)])
    await asyncio.wait_for(started.wait(), 10)
    assert set(await _holders(bench)) == {"one", "two", "four", "five"}
    assert process.dispatchers[bench.policy.name].state != "standby"


@pytest.mark.slow
async def test_e3_e10_a_standby_starts_within_15_s_when_one_of_the_five_is_killed(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(concurrency=10)
    await _five_hold(bench)
    started = asyncio.Event()
    alive = asyncio.create_task(_beat(bench, FIVE[:4]))
    killed = time.monotonic()
    process = await _sixth(bench, started)
    await asyncio.wait_for(started.wait(), 20)
    assert time.monotonic() - killed <= 15
    await cancel_and_wait([alive])
    assert set(await _holders(bench)) - {process.id} == set(FIVE[:4])


async def _five_hold(bench: Bench) -> dict[str, list[LeasedJob]]:
    await bench.send(6)
    held = {}
    for worker in FIVE:
        _, take = await bench.queue.take(worker, 1, [])
        assert len(take.jobs) == 1
        held[worker] = take.jobs
    return held


async def _sixth(bench: Bench, started: asyncio.Event) -> WorkerProcess:
    async def work(ctx: dict[str, Any], number: int) -> None:
        started.set()

    process = await bench.start(work, pace=BRISK)
    await eventually(lambda: process.dispatchers[bench.policy.name].state == "standby")

    async def states() -> list[str]:
        about: list[str] = json.loads(await bench.redis.hget(WORKERS, process.id))["standby"]
        return about

    assert await eventually(states) == [bench.policy.name]
    assert not started.is_set()
    return process


async def _holders(bench: Bench) -> list[str]:
    leases = await bench.redis.hvals(bench.queue.keys.leases)
    return [lease.decode().split(":")[0] for lease in leases]


async def _beat(bench: Bench, workers: list[str]) -> None:
    while True:
        for worker in workers:
            await run_script(bench.redis, BEAT_SCRIPT.call([BEATS], [worker]))
        await asyncio.sleep(1)
