"""Several worker processes that one process starts, watches, restarts and drains."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from tests.support.processes import alive
from tests.support.program import Program
from tests.support.waiting import eventually

COLOR = "color-extraction"
SLOW = "import asyncio\n\nasync def slow(ctx, **arguments):\n    await asyncio.sleep(600)\n"


async def _workers(program: Program) -> dict[int, str]:
    """The state of each worker process, by its id in the system."""
    status = await program.status()
    return {worker["pid"]: worker["state"] for worker in status["workers"]}


async def _running(program: Program, count: int) -> dict[int, str]:
    async def all_run() -> dict[int, str] | None:
        workers = {pid: state for pid, state in (await _workers(program)).items() if state == "running"}
        return workers if len(workers) == count else None

    found: dict[int, str] = await eventually(all_run, within=30)
    return found


@pytest.mark.slow
async def test_a_process_that_dies_is_replaced_and_a_stop_signal_drains_all(program: Program) -> None:
    group = await program.start("--processes", "2", "--queues", COLOR)
    pids = set(await _running(program, 2))
    assert group.process.pid not in pids
    victim = min(pids)
    os.kill(victim, signal.SIGKILL)

    async def replaced() -> set[int]:
        now = {pid for pid, state in (await _workers(program)).items() if state == "running"}
        return now if len(now) == 2 and victim not in now else set()

    after = await eventually(replaced, within=30)
    assert pids - {victim} <= after
    assert any(line["event"].startswith("a worker process ended") for line in group.logged)
    assert await group.stop() == 0
    await eventually(lambda: not any(map(alive, pids | after)))


@pytest.mark.slow
async def test_jobs_that_go_back_give_the_exit_code_of_the_group(program: Program) -> None:
    (program.directory / "slow.py").write_text(SLOW)
    program.environment |= {
        "COUTURECAST_HANDLERS": f"{COLOR}=slow:slow",
        "COUTURECAST_COLOR_EXTRACTION_RUN": "inline",
        "COUTURECAST_DRAIN_SECONDS": "0.5",
        "PYTHONPATH": str(program.directory),
    }
    group = await program.start("--processes", "2", "--queues", COLOR)
    for _ in range(4):
        assert program.run("enqueue", COLOR, "--data", "{}").code == 0

    async def in_flight() -> bool:
        status = await program.status()
        return bool(status["queues"][2]["in_flight"] == 4)

    await eventually(in_flight)
    assert await group.stop() == 3
    assert (await program.status())["queues"][2]["depth"] == 4


@pytest.mark.slow
async def test_the_processes_drain_if_the_one_that_started_them_is_killed(program: Program) -> None:
    group = await program.start("--processes", "2", "--queues", COLOR)
    pids = await _running(program, 2)
    group.process.kill()
    group.process.wait()
    await eventually(lambda: not any(map(alive, pids)), within=20)


@pytest.mark.slow
async def test_settings_that_no_process_can_start_with_end_the_group(program: Program) -> None:
    program.environment["COUTURECAST_HANDLERS"] = f"{COLOR}=no_such_module:f"
    program.environment["COUTURECAST_COLOR_EXTRACTION_RUN"] = "inline"
    done = program.run("--no-ui", "--processes", "2")
    assert done.code != 0
    assert "no_such_module" in done.err


@pytest.mark.parametrize("other", ["--no-workers", "--demo"])
def test_what_does_not_go_with_processes_is_refused(program: Program, other: str) -> None:
    done = program.run("--processes", "2", other, *(["--no-ui"] if other == "--demo" else []))
    assert done.code == 2
    assert done.errors == ["error: --processes starts workers: drop it, or --no-workers and --demo"]


@pytest.mark.slow
async def test_the_group_is_ready_while_all_of_its_processes_are(program: Program) -> None:
    del program.environment["COUTURECAST_HTTP"]
    await program.start("--processes", "2", "--queues", COLOR, "--http", "127.0.0.1:0")
    pids = await _running(program, 2)
    assert program.run("probe", "ready").code == 0
    for pid in pids:
        os.kill(pid, signal.SIGKILL)

    def unready() -> Any:
        probed = program.run("probe", "ready")
        return probed if probed.code == 1 else None

    probed = await eventually(unready)
    assert "worker processes do not run" in probed.out + probed.err
