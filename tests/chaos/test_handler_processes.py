"""Handler processes, and the workers that started them, killed under load."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.chaos.conftest import MakeLedger
from tests.support.processes import Journal, Spawner, alive
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

_JOBS = 400  # in CI; in the long form, times the factor
_JOBS_A_SECOND = 10  # a tenth of what the processes do that are left alone
_KILL_SECONDS = 1.0


def children(pid: int) -> list[int]:
    """The handler processes of a worker."""
    found: list[int] = []
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                found += map(int, (thread / "children").read_text().split())
    return found


@pytest.mark.parametrize("handler", ["coroutine", "plain"])
@pytest.mark.timeout(1200)
async def test_handler_processes_and_their_workers_that_are_killed_lose_nothing_and_leave_no_orphans(
    make_ledger: MakeLedger, spawn: Spawner, journal: Journal, factor: float, handler: str
) -> None:
    ledger = await make_ledger(journal, concurrency=12)
    ledger.requeues = True
    jobs = round(_JOBS * factor)
    workers = [await spawn(concurrency=12, handler=handler) for _ in range(2)]
    started: set[int] = set()
    killed = dict.fromkeys(("handler", "worker"), 0)

    async def kill_handler() -> None:
        worker = random.choice(workers)
        for pid in children(worker.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                ledger.died(pid)
                killed["handler"] += 1

    async def kill_worker() -> None:
        number = random.randrange(len(workers))
        own = children(workers[number].pid)
        started.update(own)
        workers[number].kill()
        await workers[number].wait()
        await eventually(lambda: not any(map(alive, own)), what="the handler processes end")
        for pid in own:
            ledger.died(pid)
        killed["worker"] += 1
        workers[number] = await spawn(concurrency=12, handler=handler)

    async def send() -> None:
        for number in range(jobs):
            await ledger.send(seconds=0.1, fail=number % 50 == 0)

    async with ledger.watched():
        sender = asyncio.create_task(send())
        over = time.monotonic() + jobs / _JOBS_A_SECOND + 60
        for kill in itertools.cycle((kill_handler, kill_handler, kill_worker)):
            if sender.done() and await ledger.all_ended():
                break
            assert time.monotonic() < over, "jobs of the killed do not run again"
            await asyncio.sleep(_KILL_SECONDS)
            await kill()
        await sender
        rows = await ledger.balance()
    assert all(killed.values()), killed
    assert len(ledger.acknowledged) == jobs
    assert len(rows) >= jobs // 50
    assert not [pid for pid in started if alive(pid)]
