"""A failed attempt keeps what its handler logged."""

from __future__ import annotations

import gc
import io
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from app import logs
from storage.dead_letters.filters import ALL_DEAD
from tests.support.engine import Bench, MakeBench
from tests.support.waiting import eventually
from workers.engine.runner import RunningJob


@pytest.fixture(autouse=True)
def configured() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    logs.configure("info", stream=io.StringIO())
    yield
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


async def only_letter(bench: Bench) -> Any:
    await eventually(bench.letters.count)
    (letter,) = (await bench.letters.page(ALL_DEAD, limit=10)).items
    found = await bench.letters.get(letter.id)
    assert found is not None
    return found


async def test_each_attempt_has_its_own_lines_in_the_letter(make_bench: MakeBench) -> None:
    bench = make_bench(retry_delays=(0.0,))

    async def work(ctx: dict[str, Any], number: int) -> None:
        structlog.get_logger("shop").info("reads", attempt_of=ctx["job"].attempts)
        if ctx["job"].attempts == 2:
            logging.getLogger("shop").warning("no picture at %s", "https://x\x00y")
        raise ValueError("told to fail")

    await bench.start(work)
    await bench.send()
    first, second = (attempt["log"] for attempt in (await only_letter(bench)).attempt_errors)
    assert [line.partition(" ")[2] for line in first] == ["info reads attempt_of=1"]
    reads, warns = second  # our own line about the failure is not the handler's
    assert reads.endswith(" info reads attempt_of=2")
    assert " warning no picture at https://x" in warns


async def test_a_job_that_logs_nothing_has_no_log(make_bench: MakeBench) -> None:
    bench = make_bench(retry_delays=())

    async def work(ctx: dict[str, Any], number: int) -> None:
        raise ValueError("told to fail")

    await bench.start(work)
    await bench.send()
    (attempt,) = (await only_letter(bench)).attempt_errors
    assert "log" not in attempt


async def test_jobs_that_run_together_keep_their_lines_apart(make_bench: MakeBench) -> None:
    bench = make_bench(retry_delays=(), concurrency=5)

    async def work(ctx: dict[str, Any], number: int) -> None:
        for step in range(3):
            logging.getLogger("shop").info("job %s step %s", number, step)
            await ctx["job"].update()
        raise ValueError("told to fail")

    await bench.start(work)
    await bench.send(5)

    async def all_dead() -> bool:
        return await bench.letters.count() == 5

    await eventually(all_dead)
    for listed in (await bench.letters.page(ALL_DEAD, limit=10)).items:
        letter = await bench.letters.get(listed.id)
        assert letter is not None
        number = letter.job_data["kwargs"]["number"]
        lines = [line.partition(" info ")[2] for line in letter.attempt_errors[0]["log"]]
        assert lines == [f"job {number} step {step}" for step in range(3)]


async def test_an_ended_attempt_is_freed_without_the_collector(make_bench: MakeBench) -> None:
    bench = make_bench(concurrency=5)

    async def work(ctx: dict[str, Any], number: int) -> None:
        return None

    gc.collect()
    gc.disable()  # its cycles would cost more than a job that does nothing
    try:
        await bench.start(work)
        await bench.send(50)

        async def all_completed() -> bool:
            return await bench.total("completed") == 50

        await eventually(all_completed)  # which Redis knows before the process does
        await eventually(lambda: not [one for one in gc.get_objects() if isinstance(one, RunningJob)])
    finally:
        gc.enable()
