"""Worker processes that are killed under load."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.chaos.conftest import MakeLedger
from tests.support.processes import Journal, Spawner

pytestmark = pytest.mark.slow

_JOBS, _MANY_JOBS = 500, 1_000  # in CI; in the long form, times the factor
_JOBS_A_SECOND = 20  # a tenth of what the processes do that are left alone
_KILL_SECONDS = 2.0


@pytest.mark.timeout(1200)
async def test_e2_e3_e8_a_process_killed_every_two_seconds_loses_nothing(
    make_ledger: MakeLedger, spawn: Spawner, journal: Journal, factor: float
) -> None:
    ledger = await make_ledger(journal, concurrency=20)
    jobs = _JOBS if factor <= 1 else round(_MANY_JOBS * factor)
    processes = list(await asyncio.gather(*(spawn(concurrency=20) for _ in range(3))))

    async def kill() -> None:
        """The one that is at work: one of them may have all the slots."""
        pids = [process.pid for process in processes]
        started = [line["pid"] for line in journal.events("start") if line["pid"] in pids]
        victim = pids.index(started[-1]) if started else 0
        processes[victim].kill()
        await processes[victim].wait()
        ledger.died(processes[victim].pid)
        processes[victim] = await spawn(concurrency=20)

    async def send() -> None:
        for number in range(jobs):
            await ledger.send(seconds=0.1, fail=number % 50 == 0)

    async with ledger.watched():
        sender = asyncio.create_task(send())
        # Killed they are until the last job has ended: recovery has no quiet hour to wait for.
        over = time.monotonic() + jobs / _JOBS_A_SECOND + 60
        while not (sender.done() and await ledger.all_ended()):
            assert time.monotonic() < over, "jobs of the killed do not run again"
            await asyncio.sleep(_KILL_SECONDS)
            await kill()
        await sender
        rows = await ledger.balance()
    assert ledger.gone
    assert len(ledger.acknowledged) == jobs
    assert len(rows) >= jobs // 50
