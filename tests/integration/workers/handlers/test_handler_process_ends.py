"""How handler processes end: replaced, closed, or with the appliance."""

from __future__ import annotations

import asyncio
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.handler_pools import ODD, ROOT, OpenPool, run
from tests.support.processes import alive
from tests.support.waiting import eventually
from workers.errors import HandlerProcessDiedError
from workers.handlers.processes.recycle import Recycle


async def test_a_pool_that_is_closed_while_a_process_starts_leaves_none(
    open_pool: OpenPool, team: Path
) -> None:
    pool = await open_pool("shop:slow_plainly", team)
    first = asyncio.create_task(run(pool, "first"))  # it has the process that was there
    (team / "shop.py").write_text("import time\ntime.sleep(600)\n")
    second = asyncio.create_task(run(pool, "second"))
    await eventually(lambda: _is(len(pool.processes) == 2 and pool.processes[1].pid is not None))
    for task in (first, second):
        task.cancel()
    await asyncio.wait({first, second})
    await pool.close()
    assert pool.processes == []


async def test_a_process_is_replaced_after_so_many_jobs(open_pool: OpenPool) -> None:
    pool = await open_pool(f"{ODD}:dispatch_async", recycle=Recycle(jobs=2))
    (first,) = pool.processes
    for number in range(3):
        assert await run(pool, f"job-{number}", what="good", value=number) == number
    assert first not in pool.processes or first.running == 0
    await eventually(lambda: _is(pool.processes != [first] and len(pool.processes) == 1))


@pytest.mark.parametrize("ends", ["exit", "recycle"])
async def test_what_a_handler_has_started_ends_with_its_process(
    open_pool: OpenPool, team: Path, ends: str
) -> None:
    pool = await open_pool("shop:starts", team, recycle=Recycle(jobs=1))
    pids = team / "pid"
    if ends == "exit":
        with pytest.raises(HandlerProcessDiedError, match=r"exit code 3: last words$"):
            await run(pool, path=str(pids), code=3)
    else:
        await run(pool, path=str(pids))
    await eventually(lambda: not alive(int(pids.read_text())))


async def _is(value: bool) -> bool:
    return value


@pytest.mark.parametrize("function", ["dispatch", "dispatch_async"])
async def test_no_process_outlives_a_killed_appliance(tmp_path: Path, function: str) -> None:
    program = textwrap.dedent(f"""
        import asyncio, sys
        from types import SimpleNamespace
        from saq import Job
        from workers.handlers.processes.pool import HandlerPool
        from workers.handlers.processes.launch import HandlerSource

        async def main():
            queue = SimpleNamespace(name="q", job_id=str)
            pool = HandlerPool(HandlerSource("q", "{ODD}:{function}", sys.executable), None)
            await pool.start()
            job = Job(function="f", queue=queue)
            running = asyncio.create_task(pool.as_function()({{"job": job}}, what="block"))
            await asyncio.sleep(0.5)
            print(pool.processes[0].pid, flush=True)
            await running

        asyncio.run(main())
    """)
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    await parent.wait()

    await eventually(lambda: not alive(child))
