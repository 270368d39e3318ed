"""Faults of a handler in the whole program: the other jobs complete, and the program drains."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import Headless, Program
from tests.support.waiting import eventually

COLOR = "color-extraction"
ROOT = Path(__file__).parents[2]
INNOCENT = 9
TIMEOUT = "ran longer than the 10 s that color-extraction allows"
ENDS: dict[str, str | None] = {
    "block": TIMEOUT,
    "exit_process": "its process ended with exit code 7",
    "kill_itself": "its process ended with signal SIGKILL",
    "fork_and_terminate": None,
    "fork_and_return": None,
    "leave_a_child_and_exit": "its process ended with exit code 7",
    "threads": None,
    "keyboard_interrupt": "KeyboardInterrupt",
    "system_exit": "3",
    "print_much": None,
    "print_much_past_python": None,
    "close_streams": "its process ended with",
    "change_everything": None,
    "stop_loop": None,
}
"""What the dead letter of each says; None: it completes."""
MAX_LOOP_LAG_SECONDS = 3.0  # a fault in the loop itself would block it for ten
"""Ten times what is promised of a machine that does nothing else; a loop is blocked for seconds."""


def enqueue(program: Program, jobs: list[dict[str, Any]]) -> list[str]:
    lines = "\n".join(map(json.dumps, jobs)).encode()
    done = program.run("enqueue", COLOR, "-", "--json", stdin=lines)
    assert done.code == 0, done.err
    return list(done.json["keys"])


async def ended(program: Program, keys: list[str]) -> dict[str, dict[str, Any]]:
    """Each job once all of them have ended."""
    jobs: dict[str, dict[str, Any]] = {}

    def all_ended() -> bool:
        for key in keys:
            if key not in jobs:
                job = program.run("jobs", "show", COLOR, key, "--json").json
                if job["state"] not in ("done", "failed"):
                    return False
                jobs[key] = job
        return True

    await eventually(all_ended, within=90, what="all jobs end")
    return jobs


async def faults(program: Program, started: Headless) -> float:
    """Run each fault beside innocent jobs; the largest lag of the event loop, in seconds."""
    lag = 0.0
    for what, says in ENDS.items():
        good = [{"what": "good", "seconds": 0.3, "value": number} for number in range(INNOCENT)]
        culprit, *others = enqueue(program, [{"what": what}, *good])
        jobs = await ended(program, [culprit, *others])
        errors = {jobs[key]["error"] for key in others}
        assert [jobs[key]["result"] for key in others] == list(range(INNOCENT)), (what, errors)
        assert jobs[culprit]["state"] == ("done" if says is None else "failed"), (what, jobs[culprit])
        assert says is None or says in str(jobs[culprit]["error"]), (what, jobs[culprit]["error"])
        (worker,) = program.run("workers", "list", "--json").json["items"]
        lag = max(lag, worker["loop_p99"] or 0.0)
        assert worker["ready"], (what, worker)
    assert started.process.poll() is None
    return lag


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("function", ["dispatch_async", "dispatch"])
async def test_each_fault_ends_its_own_job_only_and_the_program_drains(
    program: Program, function: str
) -> None:
    program.environment |= {
        "COUTURECAST_HANDLERS": f"{COLOR}=tests.support.odd_handlers:{function}",
        "COUTURECAST_HANDLERS_PATH": str(ROOT),
        "COUTURECAST_COLOR_EXTRACTION_CONCURRENCY": "10",
        "COUTURECAST_COLOR_EXTRACTION_TIMEOUT": "10",
        "COUTURECAST_COLOR_EXTRACTION_RETRY_DELAYS": "none",
        "COUTURECAST_DRAIN_SECONDS": "1",
    }
    started = await program.start("--queues", COLOR)
    lag = await faults(program, started)
    assert lag < MAX_LOOP_LAG_SECONDS
    enqueue(program, [{"what": "block"}] * 3)
    await eventually(lambda: program.run("status", "--json").json["queues"][2]["in_flight"] == 3)
    began = time.monotonic()
    started.signal(signal.SIGTERM)
    assert await started.ended() == 3
    assert time.monotonic() - began < 10
    assert program.run("status", "--json").json["queues"][2]["depth"] == 3
