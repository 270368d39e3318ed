"""The stack of a running job, asked of the process that holds it."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.integration.workers.handlers import calls
from tests.integration.workers.operations.conftest import Operate
from tests.support.engine import Bench, MakeBench
from tests.support.waiting import eventually
from workers.engine.attempt_log import MemoryHandler
from workers.engine.keys import PROCESS
from workers.engine.runner import SaqFunction
from workers.errors import ConflictError, NotFoundError
from workers.handlers.process_pool import CpuPool
from workers.handlers.processes.pool import HandlerPool
from workers.handlers.processes.process import HandlerSource
from workers.operations.jobs import JobOperations
from workers.process.worker_process import WorkerProcess

QUEUE = "color-extraction"


async def _numbers(release: asyncio.Event) -> AsyncIterator[int]:
    yield 1
    await release.wait()


async def _download(release: asyncio.Event) -> None:
    async for _ in _numbers(release):
        pass


async def running(jobs: JobOperations, count: int = 1) -> bool:
    return (await jobs.counts())[QUEUE].running == count


async def start(bench: Bench, function: SaqFunction, **options: Any) -> WorkerProcess:
    """A process that can be asked: it takes jobs before it is subscribed."""
    process = await bench.start(function, **options)
    await eventually(lambda: process.links[0].listener.counted)
    return process


@pytest.mark.parametrize("wait_for", [asyncio.create_task, asyncio.gather])
async def test_the_stack_leads_from_the_handler_to_the_line_where_it_waits(
    make_bench: MakeBench, operate: Operate, wait_for: Any
) -> None:
    logging.getLogger().addHandler(handler := MemoryHandler())
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    release = asyncio.Event()

    async def extract(ctx: dict[str, Any], number: int) -> None:
        logging.getLogger("shop").warning("downloads")
        await wait_for(_download(release))

    await start(bench, extract)
    (key,) = await bench.send()
    await eventually(lambda: running(jobs))
    stack = await jobs.stack(QUEUE, key)
    frames = stack.frames
    assert [line.partition("Z ")[2] for line in stack.log] == ["warning downloads"]
    functions = [frame.function.rpartition(".")[2] for frame in frames]
    assert functions == ["extract", "_download", "_numbers", "wait"]
    assert frames[1].file.endswith("tests/integration/workers/operations/test_job_stacks.py")
    assert not frames[1].file.startswith("/")
    assert frames[3].file == "asyncio/locks.py"
    assert all(frame.line > 0 for frame in frames)
    release.set()
    await eventually(bench.empty)
    logging.getLogger().removeHandler(handler)
    with pytest.raises(ConflictError, match="does not run, it is done"):
        await jobs.stack(QUEUE, key)


async def test_the_stack_of_a_handler_in_a_process_of_its_own(
    make_bench: MakeBench, operate: Operate, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(
        "import asyncio\nasync def extract(ctx, number):\n    await download()\n"
        "async def download():\n    await asyncio.sleep(600)\n"
    )
    pool = HandlerPool(HandlerSource(QUEUE, "shop:extract", sys.executable, (str(tmp_path),)), _refuse)
    await pool.start()
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    process = await start(bench, pool.as_function())
    (key,) = await bench.send()
    await eventually(lambda: running(jobs))

    async def waits_in_download() -> bool:
        stack = await jobs.stack(QUEUE, key)
        assert stack.place == f"handler process {pool.processes[0].pid}"
        return [frame.function for frame in stack.frames][:2] == ["extract", "download"]

    await eventually(waits_in_download)
    process.drain_now()
    assert await process.wait_drained() == 1
    await pool.close()


async def test_handlers_of_a_process_that_wait_in_a_library_stand_at_their_own_lines(
    make_bench: MakeBench, operate: Operate, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(
        "import asyncio\nasync def extract(ctx, number):\n"
        "    if number < 2:\n        await download()\n    await asyncio.sleep(600)\n"
        "async def download():\n    await asyncio.sleep(600)\n"
    )
    pool = HandlerPool(HandlerSource(QUEUE, "shop:extract", sys.executable, (str(tmp_path),)), _refuse)
    await pool.start()
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    process = await start(bench, pool.as_function())
    keys = await bench.send(3)

    async def lines() -> list[tuple[str, int]]:
        if (await jobs.counts())[QUEUE].running < 3:
            return []
        stacks = [await jobs.stack(QUEUE, key) for key in keys]
        return [(Path(stack.line.file).name, stack.line.line) for stack in stacks if stack.line is not None]

    await eventually(lambda: _is_equal(lines, [("shop.py", 7), ("shop.py", 7), ("shop.py", 5)]))
    (finding,) = await jobs.findings()
    assert {job.key for job in finding.jobs} == set(keys[:2])
    assert (finding.frame.function, finding.frame.own) == ("download", True)
    process.drain_now()
    assert await process.wait_drained() == 3
    await pool.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("blocks", "problem"),
    [
        ("time.sleep(3)", "job {} blocks its process, at shop.py:5 in crunch"),
        (
            "ctypes.PyDLL(None).usleep(3_000_000)",
            "job {} blocks its process, which does not answer: it may be in C code",
        ),
    ],
    ids=["python", "c"],
)
async def test_a_job_beside_one_that_blocks_their_process_names_it(
    make_bench: MakeBench, operate: Operate, tmp_path: Path, blocks: str, problem: str
) -> None:
    (tmp_path / "shop.py").write_text(
        f"import ctypes, time\nasync def extract(ctx, number):\n    crunch()\ndef crunch():\n    {blocks}\n"
    )
    pool = HandlerPool(HandlerSource(QUEUE, "shop:extract", sys.executable, (str(tmp_path),)), _refuse)
    await pool.start()
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    process = await start(bench, pool.as_function())
    (first,) = await bench.send()
    await eventually(lambda: running(jobs))
    await asyncio.sleep(0.2)
    (second,) = await bench.send()

    async def is_told() -> bool:
        if (await jobs.counts())[QUEUE].running < 2:
            return False
        stack = await jobs.stack(QUEUE, second)
        return not stack.frames and stack.problem.replace(f"{tmp_path}/", "") == problem.format(first)

    await eventually(is_told, within=2.8)
    process.drain_now()
    assert await process.wait_drained() == 2
    await pool.close()


async def _is_equal(read: Callable[[], Awaitable[Any]], value: object) -> bool:
    return bool(await read() == value)


async def _refuse(*_: object) -> None:
    raise AssertionError("nobody enqueues")


@pytest.mark.slow
async def test_a_job_that_does_not_run_has_no_stack(
    make_bench: MakeBench, operate: Operate, redis: Redis
) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    with pytest.raises(NotFoundError):
        await jobs.stack(QUEUE, "nothing")
    (key,) = await bench.send()
    with pytest.raises(ConflictError, match="does not run, it is ready"):
        await jobs.stack(QUEUE, key)
    await redis.hset(bench.queue.keys.leases, f"saq:job:{QUEUE}:{key}", "ghost:1:1")
    with pytest.raises(ConflictError, match="the process ghost is not connected"):
        await jobs.stack(QUEUE, key)
    async with redis.pubsub() as channel:  # a process whose event loop does not move
        await channel.subscribe(f"{PROCESS}ghost")
        with pytest.raises(ConflictError, match="does not answer within 2 s: its event loop may be blocked"):
            await jobs.stack(QUEUE, key)


async def test_what_others_send_to_a_process_is_ignored(
    make_bench: MakeBench, operate: Operate, redis: Redis
) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    release = asyncio.Event()

    async def extract(ctx: dict[str, Any], number: int) -> None:
        await release.wait()

    process = await start(bench, extract)
    (key,) = await bench.send()
    await eventually(lambda: running(jobs))
    async with redis.pubsub() as channel:
        await channel.subscribe("somebody:channel")
        odd = [b"", b"\xff", b"[]", b"{}", b"7", b'{"queue": "x", "key": "y", "reply": "somebody:channel"}']
        for message in odd:
            assert await redis.publish(f"{PROCESS}{process.id}", message) == 1
        assert (await jobs.stack(QUEUE, key)).frames
        assert await channel.get_message(ignore_subscribe_messages=True, timeout=0.2) is None
    release.set()


async def names_of(jobs: JobOperations, key: str) -> list[str]:
    """The functions on the stack of a job, the outermost first."""
    return [frame.function.rpartition(".")[2] for frame in (await jobs.stack(QUEUE, key)).frames]


@pytest.mark.parametrize("is_own_pool", [False, True])
async def test_a_job_that_works_in_a_thread_stands_at_the_line_of_that_thread(
    make_bench: MakeBench, operate: Operate, is_own_pool: bool
) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    release = threading.Event()
    pool = ThreadPoolExecutor(1, thread_name_prefix="shop")

    def wait_in_thread() -> None:
        release.wait(60)

    async def extract(ctx: dict[str, Any], number: int) -> None:
        if is_own_pool:
            await asyncio.get_running_loop().run_in_executor(pool, wait_in_thread)
        else:
            await asyncio.to_thread(wait_in_thread)

    await start(bench, extract)
    first, second = await bench.send(2)
    await eventually(lambda: running(jobs, 2))
    try:

        async def stands_in_thread() -> bool:
            return "wait_in_thread" in await names_of(jobs, first)

        await eventually(stands_in_thread)
        stack = await jobs.stack(QUEUE, first)
        assert stack.frames[0].function.endswith("extract")
        assert stack.place.startswith("thread shop" if is_own_pool else "thread asyncio")
        assert stack.line is not None
        assert stack.line.function.endswith("wait_in_thread")
        if is_own_pool:  # its only thread works for the first job
            waits = await jobs.stack(QUEUE, second)
            assert (waits.place, waits.problem) == (
                "executor",
                "it waits for a free thread: all of them work",
            )
    finally:
        release.set()


async def test_a_job_that_works_in_a_pool_process_stands_at_the_line_of_that_process(
    make_bench: MakeBench, operate: Operate, tmp_path: Path
) -> None:
    bench = make_bench()
    jobs = (await operate(bench)).jobs
    pool = CpuPool(2)
    work = [(calls.nap, str(tmp_path / "began"), 30.0), (calls.hold_the_lock, str(tmp_path / "held"), 20)]

    async def extract(ctx: dict[str, Any], number: int) -> None:
        await pool.run(*work[number])

    process = await start(bench, extract)
    napping, holding = await bench.send(2)
    try:
        await eventually((tmp_path / "began").exists)
        stack = await jobs.stack(QUEUE, napping)
        names = [frame.function.rpartition(".")[2] for frame in stack.frames]
        assert names[:2] == ["extract", "run"]
        assert names[-1] == "nap"
        assert stack.place == f"pool process {(tmp_path / 'began').read_text()}"
        assert stack.problem == ""
        assert stack.line is not None
        assert stack.line.function.endswith("extract"), "the handler's line, whatever its process does"
        await eventually((tmp_path / "held").exists)
        stack = await jobs.stack(QUEUE, holding)
        assert stack.place == f"pool process {(tmp_path / 'held').read_text()}"
        assert stack.problem.startswith("it does not answer: it may be in C code")
        both = await asyncio.gather(*(jobs.stack(QUEUE, napping) for _ in range(5)))
        assert {found.frames[-1].function for found in both} == {"nap"}
    finally:
        process.drain_now()
        await process.wait_drained()
        await pool.close()


async def test_jobs_that_stand_at_the_same_line_are_one_finding(
    make_bench: MakeBench, operate: Operate
) -> None:
    bench = make_bench(concurrency=6)
    jobs = (await operate(bench)).jobs
    release = asyncio.Event()

    async def download() -> None:
        await release.wait()

    async def extract(ctx: dict[str, Any], number: int) -> None:
        if number == 5:
            await release.wait()
        await download()

    for _ in range(2):
        await start(bench, extract, release="7f3c2a1")
    keys = await bench.send(6)
    await eventually(lambda: running(jobs, 6))
    (finding,) = await jobs.findings()
    assert {job.key for job in finding.jobs} == set(keys[:5])
    assert finding.frame.function.endswith("download")
    assert finding.frame.own
    assert set(finding.workers) <= {f"{socket.gethostname()}:{os.getpid()}"}
    assert finding.releases == ("7f3c2a1",)
    assert finding.since == min(job.started_at for job in finding.jobs if job.started_at)
    assert finding.release_age is not None
    assert [(slots.queue, slots.taken, slots.concurrency) for slots in finding.slots] == [(QUEUE, 5, 6)]
    assert (await jobs.alike(QUEUE, keys[0])) is not None
    assert (await jobs.alike(QUEUE, keys[5])) is None
    release.set()


async def test_the_newest_lines_of_any_process_can_be_read(make_bench: MakeBench, operate: Operate) -> None:
    logging.getLogger().addHandler(handler := MemoryHandler())
    bench = make_bench()
    workers = (await operate(bench)).workers
    release = asyncio.Event()

    async def extract(ctx: dict[str, Any], number: int) -> None:
        logging.getLogger("shop").warning("downloads picture %d, token=verysecretvalue", number)
        await release.wait()

    process = await start(bench, extract)
    (key,) = await bench.send()

    async def lines() -> bool:
        return any(line.job == key and "picture 0" in line.text for line in await workers.log(process.id))

    await eventually(lines)
    line = next(line for line in await workers.log(process.id) if line.job == key)
    own = await (await operate(bench, process=process)).workers.log(process.id, job=key)
    assert "verysecretvalue" not in f"{line} {own}"
    assert "token=***" in own[0].text
    assert (line.queue, line.job, line.level, line.worker) == (QUEUE, key, "warning", process.id)
    assert await workers.log(process.id, job="another") == []
    with pytest.raises(NotFoundError):
        await workers.log("nobody")
    release.set()
    logging.getLogger().removeHandler(handler)
