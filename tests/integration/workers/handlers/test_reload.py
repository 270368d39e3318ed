"""Handler processes are replaced when the code of the team changes."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from storage.asyncio_tools import cancel_and_wait
from tests.support.handler_pools import run
from tests.support.waiting import eventually
from workers.errors import HandlerInterruptedError
from workers.handlers.processes.launch import HandlerSource
from workers.handlers.processes.pool import HandlerPool
from workers.handlers.processes.process import HandlerProcess
from workers.handlers.processes.reload import FileWatch, replace_on_change

ASYNC = """
import asyncio, helper
async def work(ctx, seconds=0):
    await asyncio.sleep(seconds)
    return helper.ANSWER
"""
PLAIN = """
import time, helper
def work(ctx, seconds=0):
    time.sleep(seconds)
    return helper.ANSWER
"""
WatchPool = Callable[[str], Awaitable[HandlerPool]]


def write(file: Path, text: str) -> None:
    """Write a file whose time is another one than before, whatever the file system's clock."""
    before = file.stat().st_mtime_ns if file.exists() else 0
    file.write_text(text)
    if file.stat().st_mtime_ns == before:
        os.utime(file, ns=(before + 1, before + 1))


@pytest.fixture
async def watch(tmp_path: Path) -> AsyncIterator[WatchPool]:
    """Starts a pool whose handler answers what ``helper.py`` says, and has it watched."""
    pools: list[HandlerPool] = []
    tasks: list[asyncio.Task[None]] = []

    async def start(code: str) -> HandlerPool:
        write(tmp_path / "shop.py", code)
        write(tmp_path / "helper.py", "ANSWER = 1\n")
        source = HandlerSource("color-extraction", "shop:work", sys.executable, (str(tmp_path),))
        pools.append(HandlerPool(source, None))  # type: ignore[arg-type]
        await pools[-1].start()
        tasks.append(asyncio.create_task(replace_on_change(pools[-1])))
        return pools[-1]

    yield start
    await cancel_and_wait(tasks)
    await asyncio.gather(*(pool.close() for pool in pools))


async def answers(pool: HandlerPool, expected: Any) -> None:
    async def answer() -> bool:
        try:
            return bool(await run(pool) == expected)
        except HandlerInterruptedError:
            return False

    await eventually(answer, what=f"it answers {expected}")


@pytest.mark.parametrize("code", [ASYNC, pytest.param(PLAIN, marks=pytest.mark.slow)])
async def test_a_changed_module_is_run_from_then_on_and_a_job_in_flight_ends_in_the_old_one(
    watch: WatchPool, tmp_path: Path, code: str
) -> None:
    pool = await watch(code)
    (first,) = pool.processes
    assert str(tmp_path / "helper.py") in await pool.read_files()
    in_flight = asyncio.create_task(run(pool, seconds=3))
    await eventually(lambda: first.running == 1)
    write(tmp_path / "helper.py", "ANSWER = 'new'\n")
    await answers(pool, "new")
    assert await in_flight == 1
    await eventually(lambda: first not in pool.processes)


async def test_a_module_that_cannot_be_imported_stops_its_queue_until_it_is_mended(
    watch: WatchPool, tmp_path: Path
) -> None:
    pool = await watch(ASYNC)
    problems: list[str | None] = []
    pool.on_problem = lambda: problems.append(pool.problem)
    with capture_logs() as lines:
        write(tmp_path / "helper.py", "ANSWER = 'no end\n")
        await eventually(lambda: pool.problem is not None)
    assert "'shop:work' cannot be imported: SyntaxError: unterminated string" in (pool.problem or "")
    (line,) = [line for line in lines if "nothing of the queue runs" in line["event"]]
    assert line["error"].endswith(f"correct line 1 of {tmp_path / 'helper.py'}")
    with pytest.raises(HandlerInterruptedError):
        await run(pool)
    write(tmp_path / "helper.py", "import absent\nANSWER = 'mended'\n")
    await eventually(lambda: "No module named 'absent'" in (pool.problem or ""))
    write(tmp_path / "absent.py", "")  # a file that nobody could watch
    await eventually(lambda: pool.problem is None)
    await answers(pool, "mended")
    assert problems[-1] is None


async def test_an_import_that_does_not_end_is_replaced_once_it_is_mended(
    watch: WatchPool, tmp_path: Path
) -> None:
    pool = await watch(ASYNC)
    begun = tmp_path / "begun"
    write(tmp_path / "helper.py", f"import time\nopen({str(begun)!r}, 'w')\ntime.sleep(600)\n")
    await eventually(begun.exists)
    assert await run(pool) == 1, "the old code runs until the new one has been imported"
    write(tmp_path / "helper.py", "ANSWER = 'mended'\n")
    await answers(pool, "mended")
    await eventually(lambda: len(pool.processes) == 1)


async def test_a_job_whose_process_is_replaced_in_the_moment_in_which_it_gets_it_runs_in_the_new_one(
    watch: WatchPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await watch(ASYNC)
    await pool.replace()
    offer, replaced = pool._offer, []

    def offer_and_replace(process: HandlerProcess) -> None:
        offer(process)
        if not replaced:
            replaced.append(process)
            pool._retire(process)

    monkeypatch.setattr(pool, "_offer", offer_and_replace)
    pool._retire(pool._idle[0])  # so that the job waits for a process
    assert await run(pool) == 1
    await eventually(lambda: replaced[0] not in pool.processes)


def test_a_file_has_changed_by_its_time_its_size_its_end_and_its_return(tmp_path: Path) -> None:
    watch, file = FileWatch(), tmp_path / "a.py"
    name = str(file)
    file.write_text("1")
    found = file.stat()
    files = {name: [found.st_mtime_ns, found.st_size]}
    assert watch.changed_files(files) == []
    assert watch.changed_files({name: [0, 1]}) == []  # it is known already
    write(file, "2")
    assert watch.changed_files(files) == [name]
    file.unlink()
    assert watch.changed_files(files) == [name]
    assert watch.changed_files(files) == []
    file.write_text("2")
    assert watch.changed_files(files) == [name]
    assert FileWatch().changed_files({name: [0, 1]}) == [name]  # it was another one when it was imported
