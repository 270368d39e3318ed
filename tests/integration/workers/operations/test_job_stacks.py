"""Where a running job stands, asked of the process that holds it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.integration.workers.conftest import MakeBench, eventually
from tests.integration.workers.operations.conftest import Operate
from workers.engine.attempt_log import MemoryHandler
from workers.engine.keys import PROCESS
from workers.errors import ConflictError, NotFoundError
from workers.operations.jobs import JobOperations

QUEUE = "color-extraction"


async def _numbers(release: asyncio.Event) -> AsyncIterator[int]:
    yield 1
    await release.wait()


async def _download(release: asyncio.Event) -> None:
    async for _ in _numbers(release):
        pass


async def running(jobs: JobOperations) -> bool:
    return (await jobs.counts())[QUEUE].running == 1


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

    await bench.start(extract)
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


async def test_a_job_that_nobody_runs_has_no_stack(
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

    process = await bench.start(extract)
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
