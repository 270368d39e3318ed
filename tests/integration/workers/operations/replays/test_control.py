"""Starting, pausing, resuming and cancelling a plan."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.integration.workers.operations.conftest import Operate
from tests.support.engine import MakeBench
from tests.support.plans import has_sent, is_idle, write
from tests.support.waiting import eventually
from workers.errors import ConflictError
from workers.operations.operations import ALL_DEAD, ReplayOptions
from workers.operations.replays import ReplayOperations


@pytest.mark.slow
async def test_pause_resume_and_cancel(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(retry_delays=())
    await write(bench.letters, 100)
    operations, other = await operate(bench), await operate(bench)
    plan = await operations.replays.create_plan(ALL_DEAD, ReplayOptions(rate=5))
    await operations.replays.start_plan(plan.id)
    await eventually(lambda: has_sent(operations, plan.id, 1))
    assert (await other.replays.get_plan(plan.id)).active
    with pytest.raises(ConflictError, match="another process"):
        await other.replays.run_plan(plan.id)
    await other.replays.pause_plan(plan.id)
    await eventually(lambda: is_idle(operations, plan.id))
    paused = await other.replays.get_plan(plan.id)
    assert paused.state == "paused"
    await other.replays.start_plan(plan.id)
    await eventually(lambda: has_sent(operations, plan.id, paused.ledger.sent + 1))
    await operations.replays.cancel_plan(plan.id)
    await eventually(lambda: is_idle(other, plan.id))
    cancelled = await operations.replays.get_plan(plan.id)
    assert (cancelled.state, cancelled.active) == ("cancelled", False)
    assert cancelled.ledger.waiting > 50
    assert await bench.redis.llen(bench.queue.keys.queued) == cancelled.ledger.sent
    for verb in (operations.replays.run_plan, operations.replays.cancel_plan, operations.replays.pause_plan):
        with pytest.raises(ConflictError):
            await verb(plan.id)
    assert await operations.dead_letters.count() == cancelled.ledger.waiting, (
        "what was not replayed is dead still"
    )


@pytest.mark.slow
async def test_of_several_that_start_a_plan_one_does(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(retry_delays=())
    await write(bench.letters, 10)
    operations = await operate(bench)
    plan = await operations.replays.create_plan(ALL_DEAD, ReplayOptions(rate=5))
    started = await asyncio.gather(
        *(operations.replays.start_plan(plan.id) for _ in range(4)), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in started) == ["ConflictError"] * 3 + ["Plan"]
    await eventually(lambda: has_sent(operations, plan.id, 10))


async def test_who_starts_a_plan_as_the_process_ends_does_not_wait_in_vain(
    make_bench: MakeBench, operate: Operate, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench()
    await write(bench.letters, 1)
    operations = await operate(bench)
    plan = await operations.replays.create_plan(ALL_DEAD)

    async def for_ever(self: ReplayOperations, *ignored: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(ReplayOperations, "_mark_running", for_ever)
    starting = asyncio.create_task(operations.replays.start_plan(plan.id))
    await eventually(lambda: plan.id in operations.replays._running)
    await operations.close()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(starting, 5)
