"""CPU-bound work in processes that are killed and replaced, and of which none is left behind."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.workers.handlers import calls
from tests.support.processes import alive, pid_in
from tests.support.waiting import eventually
from workers.handlers import process_pool
from workers.handlers.process_pool import CpuPool, PoolProcessDiedError


@pytest.fixture
async def own_pool() -> AsyncIterator[CpuPool]:
    pool = CpuPool(2)
    yield pool
    await pool.close()


def children() -> set[int]:
    return {child.pid for child in multiprocessing.active_children() if child.pid is not None}


async def test_a_call_runs_in_another_process(pool: CpuPool) -> None:
    assert await pool.run(os.getpid) != os.getpid()
    assert await pool.run(calls.length, b"\x00" * 20_000_000) == 20_000_000


async def test_what_a_call_raises_is_raised_here(pool: CpuPool) -> None:
    with pytest.raises(LookupError, match="no such colour"):
        await pool.run(calls.refuse, "no such colour")


@pytest.mark.slow
async def test_a_stuck_call_is_killed_when_cancelled_and_the_pool_goes_on(
    own_pool: CpuPool, tmp_path: Path
) -> None:
    stuck = [asyncio.create_task(own_pool.run(calls.spin, str(tmp_path / f"spin{n}"))) for n in range(2)]
    pids = [await pid_in(tmp_path / f"spin{n}") for n in range(2)]
    for task in stuck:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(task, 0.01)
    await eventually(lambda: not any(alive(pid) for pid in pids), what="both stuck processes are gone")
    assert await asyncio.wait_for(own_pool.run(os.getpid), 20) not in pids


@pytest.mark.slow
async def test_a_neighbours_call_is_not_harmed_by_a_kill(own_pool: CpuPool, tmp_path: Path) -> None:
    neighbour = asyncio.create_task(own_pool.run(calls.nap, str(tmp_path / "nap"), 3.0))
    pid = await pid_in(tmp_path / "nap")
    stuck = asyncio.create_task(own_pool.run(calls.spin, str(tmp_path / "spin")))
    killed = await pid_in(tmp_path / "spin")
    stuck.cancel()
    await eventually(lambda: not alive(killed))
    assert not neighbour.done()
    assert await neighbour == pid


async def test_a_process_that_dies_fails_only_its_own_call(own_pool: CpuPool, tmp_path: Path) -> None:
    neighbour = asyncio.create_task(own_pool.run(calls.nap, str(tmp_path / "nap"), 1.0))
    pid = await pid_in(tmp_path / "nap")
    with pytest.raises(PoolProcessDiedError, match=f"exit code -{signal.SIGKILL:d}"):
        await own_pool.run(calls.die, signal.SIGKILL)
    assert await neighbour == pid
    assert await own_pool.run(calls.length, b"four") == 4


async def test_idle_processes_that_die_are_replaced(own_pool: CpuPool) -> None:
    others = children()
    await own_pool.run(os.getpid)
    pids = children() - others
    assert len(pids) == 2
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert await own_pool.run(os.getpid) not in pids  # at once, before it was noticed that they died
    assert not any(alive(pid) for pid in pids)


@pytest.mark.slow
async def test_e14_a_call_that_the_pool_loses_is_made_again(
    own_pool: CpuPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_pool, "_LOST_SECONDS", 5.0)
    running = asyncio.create_task(own_pool.run(calls.nap, str(tmp_path / "nap"), 8.0))
    pid = await pid_in(tmp_path / "nap")
    assert own_pool._pool is not None
    lossy = own_pool._pool._pool_manager.worker_manager
    monkeypatch.setattr(lossy, "dispatch", lambda task: None)
    assert await own_pool.run(os.getpid) != pid
    assert await running == pid, "what runs in the pool that lost the call goes on"
    await eventually(lambda: not alive(pid))
    assert len(own_pool._calls) == 1


async def test_signals_to_the_process_group_do_not_reach_a_call(own_pool: CpuPool, tmp_path: Path) -> None:
    call = asyncio.create_task(own_pool.run(calls.nap, str(tmp_path / "nap"), 0.5))
    pid = await pid_in(tmp_path / "nap")
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGTERM)
    assert await call == pid


async def test_close_leaves_no_child_process(tmp_path: Path) -> None:
    others, pool = children(), CpuPool(2)
    tasks = [asyncio.create_task(pool.run(calls.spin, str(tmp_path / "spin")))]
    await pid_in(tmp_path / "spin")
    pids = children() - others
    assert len(pids) == 2
    tasks += [asyncio.create_task(pool.run(calls.length, b"\x00" * 3_000_000)) for _ in range(5)]
    await asyncio.wait_for(pool.close(), 10)
    assert [pid for pid in pids if alive(pid)] == []
    assert children() <= others
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    with pytest.raises(RuntimeError, match="closed"):
        await pool.run(os.getpid)


async def test_a_parent_that_is_killed_leaves_no_child(tmp_path: Path) -> None:
    program = (
        "import asyncio, multiprocessing, sys\n"
        "from pathlib import Path\n"
        "from tests.integration.workers.handlers import calls\n"
        "from workers.handlers.process_pool import CpuPool\n"
        "async def main():\n"
        "    pool = CpuPool(2)\n"
        "    stuck = asyncio.create_task(pool.run(calls.spin, sys.argv[1]))\n"
        "    while not Path(sys.argv[1]).exists():\n"
        "        await asyncio.sleep(0.01)\n"
        "    print(*(child.pid for child in multiprocessing.active_children()), flush=True)\n"
        "    await stuck\n"
        "asyncio.run(main())"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path / "spin"), stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in (await parent.stdout.readline()).split()]
    assert len(pids) == 2
    assert all(alive(pid) for pid in pids)
    parent.kill()
    await parent.wait()
    await eventually(lambda: not any(alive(pid) for pid in pids), what="the children are gone")
