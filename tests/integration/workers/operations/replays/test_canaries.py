"""A canary and a limit of failures halt a plan; the rest follows a canary that succeeds."""

from __future__ import annotations

import asyncio

import pytest

from tests.integration.workers.operations.conftest import Operate
from tests.support.engine import MakeBench
from tests.support.plans import Numbers, has_sent, settled_ledger, write
from tests.support.waiting import eventually
from workers.errors import ConflictError
from workers.operations.operations import ALL_DEAD, ReplayOptions


async def test_a_canary_that_fails_halts_the_plan_by_itself(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(retry_delays=())
    await write(bench.letters, 50)
    await Numbers(fails=lambda number: True).start(bench)
    operations = await operate(bench)
    plan = await operations.replays.create_plan(ALL_DEAD, ReplayOptions(canary=5))
    halted = await operations.replays.run_plan(plan.id)
    assert (halted.state, halted.ledger.waiting) == ("halted", 45)
    assert "died again, limit 20 %" in halted.note
    with pytest.raises(ConflictError, match="higher limit"):
        await operations.replays.run_plan(plan.id)
    done = await operations.replays.run_plan(plan.id, halt=1.0)
    assert (done.state, done.halt) == ("done", 1.0)
    ledger = await settled_ledger(operations, plan.id)
    assert (ledger.died, ledger.waiting) == (50, 0)


@pytest.mark.slow
async def test_the_rest_follows_a_canary_that_succeeds(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(retry_delays=())
    await write(bench.letters, 30)
    numbers = Numbers()
    operations = await operate(bench)
    plan = await operations.replays.create_plan(ALL_DEAD, ReplayOptions(canary=3))
    running = asyncio.create_task(operations.replays.run_plan(plan.id))
    await eventually(lambda: has_sent(operations, plan.id, 3))
    await asyncio.sleep(1.2)
    assert await has_sent(operations, plan.id, 3), "it waits for the canary"
    await numbers.start(bench)
    assert (await running).state == "done"
    assert (await settled_ledger(operations, plan.id)).completed == 30


@pytest.mark.slow
async def test_a_plan_that_dies_on_the_way_halts_on_the_way(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(retry_delays=())
    await write(bench.letters, 400)
    await Numbers(fails=lambda number: number >= 20).start(bench)
    operations = await operate(bench)
    plan = await operations.replays.create_plan(ALL_DEAD, ReplayOptions(rate=50))
    halted = await operations.replays.run_plan(plan.id)
    assert halted.state == "halted"
    assert halted.ledger.waiting > 250


@pytest.mark.slow
async def test_a_large_canary_is_one_too(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(retry_delays=())
    await write(bench.letters, 2_600)
    operations = await operate(bench)
    plan = await operations.replays.create_plan(ALL_DEAD, ReplayOptions(canary=1_200))
    await operations.replays.start_plan(plan.id)
    await eventually(lambda: has_sent(operations, plan.id, 1_200))
    await asyncio.sleep(1.2)
    await operations.replays.pause_plan(plan.id)
    assert (await operations.replays.get_plan(plan.id)).ledger.sent == 1_200


async def test_a_canary_that_is_aborted_in_its_queue_is_not_waited_for_in_vain(
    make_bench: MakeBench, operate: Operate
) -> None:
    bench = make_bench(retry_delays=())
    await write(bench.letters, 3)
    operations = await operate(bench)
    plan = await operations.replays.create_plan(ALL_DEAD, ReplayOptions(canary=1))
    running = asyncio.create_task(operations.replays.run_plan(plan.id))
    (key,) = await eventually(lambda: bench.redis.lrange(bench.queue.keys.queued, 0, -1))
    job = await bench.stock.job(bench.stock.job_key_from_id(key.decode()))
    assert job is not None
    await bench.stock.abort(job, "not this one")
    done = await asyncio.wait_for(running, 20)
    assert (done.state, done.ledger.aborted, done.ledger.enqueued) == ("done", 1, 2)
