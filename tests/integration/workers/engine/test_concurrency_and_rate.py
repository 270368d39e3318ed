"""Processes together keep the concurrency and the rate of a queue."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.integration.workers.engine.conftest import has_total
from tests.support.engine import Bench, MakeBench
from tests.support.waiting import eventually
from workers.engine.policy import RateLimit

pytestmark = pytest.mark.lifecycle


async def test_e3_two_processes_keep_the_concurrency_of_five(make_bench: MakeBench) -> None:
    bench = make_bench(concurrency=5)
    running, most = 0, 0

    async def work(ctx: dict[str, Any], number: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1

    await bench.start(work)
    await bench.start(work)
    await bench.send(100)
    await eventually(lambda: has_total(bench, "completed", 100), within=20)
    assert most == 5
    assert await bench.empty()


async def _taken_at(bench: Bench, ctx: dict[str, Any]) -> int:
    """Server time in ms at which the job was taken; its handler begins later, by more or by less."""
    lease = await bench.redis.hget(bench.queue.keys.leases, ctx["job"].id)
    return int(lease.rpartition(b":")[2])


WINDOWS = pytest.mark.parametrize("window", [0.3, pytest.param(1.0, marks=pytest.mark.slow)])


@WINDOWS
async def test_e4_two_processes_keep_the_rate(make_bench: MakeBench, window: float) -> None:
    bench = make_bench(rate_limit=RateLimit(6, window), concurrency=10)
    starts: list[int] = []

    async def note(ctx: dict[str, Any], number: int) -> None:
        starts.append(await _taken_at(bench, ctx))

    await bench.start(note)
    await bench.start(note)
    keys = await bench.send(20)
    await eventually(lambda: has_total(bench, "completed", 20), within=20)
    starts.sort()
    for first, seventh in zip(starts, starts[6:], strict=False):
        assert seventh - first >= window * 1000
    assert (await bench.lists())["queued"] == 0
    records = [await bench.stock.job(key) for key in keys]
    assert {job.attempts for job in records if job is not None} == {1}, "waiting uses no attempt"


@WINDOWS
async def test_e4_no_window_holds_more_starts_wherever_it_begins(
    make_bench: MakeBench, window: float
) -> None:
    bench = make_bench(rate_limit=RateLimit(6, window), concurrency=20)
    starts: list[int] = []

    async def note(ctx: dict[str, Any], number: int) -> None:
        starts.append(await _taken_at(bench, ctx))

    await bench.start(note)
    await bench.start(note)
    for _ in range(12):  # each arrival makes somebody ask for a start, at any moment of the window
        await bench.send(2)
        await asyncio.sleep(0.17 * window)
    await eventually(lambda: len(starts) == 24, within=20)
    starts.sort()
    for first, seventh in zip(starts, starts[6:], strict=False):
        assert seventh - first >= window * 1000
