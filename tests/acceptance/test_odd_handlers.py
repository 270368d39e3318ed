"""Handlers that fork, leave threads behind, or raise what ends programs: the appliance goes on, and ends."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.program import Headless, Program, client, total
from tests.support.waiting import eventually
from workers.engine.keys import QueueKeys

COLOR = "color-extraction"
HANDLERS = """
import asyncio
import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
import time

FORK = multiprocessing.get_context("fork")
keep = []


PARENT = os.getpid()


def sleep(seconds=600):
    until = time.monotonic() + seconds
    while time.monotonic() < until and PARENT in (os.getpid(), os.getppid()):
        time.sleep(0.1)


def ended_by(pid):
    _, status = os.waitpid(pid, 0)
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


async def process(ctx):
    child = FORK.Process(target=sleep)
    child.start()
    child.terminate()
    child.join()
    return child.exitcode


async def process_in_a_thread(ctx):
    return await asyncio.to_thread(asyncio.run, process(ctx))


async def pool(ctx):
    with contextlib.suppress(ZeroDivisionError), FORK.Pool(2) as pool:
        pool.map_async(sleep, [600, 600])
        1 / 0
    return -signal.SIGTERM


async def fork(ctx, number):
    child = os.fork()
    if child == 0:
        sleep()
    os.kill(child, number)
    return ended_by(child)


async def child_that_returns(ctx):
    child = os.fork()
    if child == 0:
        return "in the child"
    return ended_by(child)


async def thread(ctx):
    threading.Thread(target=sleep, name="left-behind").start()


async def executor(ctx):
    keep.append(concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="left-behind"))
    keep[-1].submit(sleep)


async def idle_executor(ctx):
    keep.append(concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="left-behind"))
    keep[-1].submit(int).result()


def error(kind):
    return {
        "KeyboardInterrupt": KeyboardInterrupt,
        "SystemExit": SystemExit,
        "GeneratorExit": GeneratorExit,
        "CancelledError": asyncio.CancelledError,
        "BaseException": BaseException,
    }[kind]("by the handler")


def fail(kind):
    raise error(kind)


async def fail_soon(kind):
    await asyncio.sleep(0.01)
    fail(kind)


async def raises(ctx, kind, where):
    if where == "coroutine":
        fail(kind)
    elif where == "later":
        await fail_soon(kind)
    elif where == "task":
        await asyncio.create_task(fail_soon(kind))
    elif where == "group":
        async with asyncio.TaskGroup() as group:
            group.create_task(fail_soon(kind))
    elif where == "thread":
        await asyncio.to_thread(fail, kind)
    elif where == "forgotten task":
        keep.append(asyncio.create_task(fail_soon(kind)))
    elif where == "callback":
        asyncio.get_running_loop().call_soon(fail, kind)
"""
KINDS = ["KeyboardInterrupt", "SystemExit", "GeneratorExit", "CancelledError", "BaseException"]

Start = Callable[..., Any]


@pytest.fixture
def odd(program: Program, tmp_path: Path) -> Start:
    """Starts workers whose colour jobs a function of the module above handles, each once."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "odd.py").write_text(HANDLERS)

    async def start(function: str, **environment: str) -> Headless:
        program.environment |= {
            "PYTHONPATH": str(tmp_path / "modules"),
            "COUTURECAST_HANDLERS": f"{COLOR}=odd:{function}",
            "COUTURECAST_COLOR_EXTRACTION_RETRY_DELAYS": "none",
            "COUTURECAST_COLOR_EXTRACTION_RUN": "inline",
            **environment,
        }
        return await program.start("--queues", COLOR)

    return start


def enqueue(program: Program, *jobs: dict[str, Any]) -> None:
    lines = "\n".join(map(json.dumps, jobs)).encode()
    done = program.run("enqueue", COLOR, "-", stdin=lines)
    assert done.code == 0, done.err


def results(program: Program) -> list[Any]:
    """Return the results of the completed jobs."""
    keys = QueueKeys.of(COLOR)
    with client(program.data_dir) as valkey:
        bodies = [valkey.get(job) for job in valkey.zrange(keys.completed, 0, -1)]  # type: ignore[union-attr]
    return [json.loads(body)["result"] for body in bodies if body]  # type: ignore[arg-type]


def letters(program: Program) -> list[tuple[str, str]]:
    database = sqlite3.connect(program.data_dir / "couturecast.db")
    try:
        return database.execute("SELECT error_type, error_message FROM job_failures").fetchall()
    finally:
        database.close()


async def goes_on(program: Program, started: Headless) -> None:
    """Check that the program does not drain yet, and drains when it is asked."""
    assert "draining" not in started.err
    assert started.process.poll() is None
    assert await started.stop() == 0
    assert any(line["event"] == "drained" for line in started.logged)


@pytest.mark.parametrize(
    ("function", "jobs", "ends"),
    [
        ("process", [{}, {}], [-signal.SIGTERM] * 2),
        ("process_in_a_thread", [{}], [-signal.SIGTERM]),
        ("pool", [{}], [-signal.SIGTERM]),
        ("child_that_returns", [{}], [1]),
        (
            "fork",
            [{"number": number} for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)],
            [-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP],
        ),
    ],
)
async def test_a_signal_to_a_forked_child_ends_the_child_alone(
    program: Program, odd: Start, function: str, jobs: list[dict[str, Any]], ends: list[int]
) -> None:
    started = await odd(function, COUTURECAST_COLOR_EXTRACTION_TIMEOUT="20")
    enqueue(program, *jobs)
    await eventually(lambda: total(program.data_dir, COLOR, "completed") == len(jobs), what="the jobs end")
    assert sorted(results(program)) == sorted(ends)
    assert letters(program) == []
    await goes_on(program, started)


@pytest.mark.slow
@pytest.mark.parametrize("function", ["thread", "executor"])
async def test_a_thread_that_is_left_behind_does_not_keep_the_process(
    program: Program, odd: Start, function: str
) -> None:
    started = await odd(function)
    enqueue(program, {})
    await eventually(lambda: total(program.data_dir, COLOR, "completed") == 1)
    assert await started.stop() == 0
    (line,) = [logged for logged in started.logged if "threads were left behind" in logged["event"]]
    (name,) = line["threads"]
    assert name.startswith("left-behind")
    assert "odd.py:" in name


@pytest.mark.slow
async def test_an_executor_without_work_is_no_thread_that_is_left_behind(
    program: Program, odd: Start
) -> None:
    started = await odd("idle_executor")
    enqueue(program, {})
    await eventually(lambda: total(program.data_dir, COLOR, "completed") == 1)
    assert await started.stop() == 0
    assert "left behind" not in started.err


@pytest.mark.slow
async def test_whatever_a_handler_raises_is_a_failed_attempt(program: Program, odd: Start) -> None:
    started = await odd("raises")
    places = ["coroutine", "later", "task", "group", "thread"]
    jobs = [{"kind": kind, "where": where} for kind in KINDS for where in places]
    jobs.remove({"kind": "CancelledError", "where": "group"})  # to a group that is no error
    enqueue(program, *jobs)

    await eventually(lambda: len(letters(program)) == len(jobs), within=30, what="all jobs are dead letters")
    found = letters(program)
    for kind in KINDS:
        own = [message for error, message in found if error.rpartition(".")[2] == kind]
        assert len(own) >= len(places) - 1, (kind, found)  # a group wraps what is no base error
    await goes_on(program, started)


@pytest.mark.parametrize("where", ["forgotten task", "callback"])
async def test_an_exit_raised_in_a_task_that_is_not_awaited_ends_no_process(
    program: Program, odd: Start, where: str
) -> None:
    started = await odd("raises")
    enqueue(program, *({"kind": kind, "where": where} for kind in KINDS))
    await eventually(lambda: total(program.data_dir, COLOR, "completed") == len(KINDS))
    await eventually(lambda: "raised what ends programs: ignored" in started.err)
    (line, *_) = [logged for logged in started.logged if "raised what ends programs" in logged["event"]]
    assert "odd.py" in line["exception"]
    enqueue(program, *({"kind": kind, "where": where} for kind in KINDS))
    await eventually(lambda: total(program.data_dir, COLOR, "completed") == 2 * len(KINDS))
    await goes_on(program, started)


async def test_ctrl_c_still_drains_after_a_handler_has_raised_it(program: Program, odd: Start) -> None:
    started = await odd("raises")
    enqueue(program, {"kind": "KeyboardInterrupt", "where": "callback"})
    await eventually(lambda: "raised what ends programs: ignored" in started.err)
    started.signal(signal.SIGINT)
    assert await started.ended() == 0
