"""The letters that a plan replays, and how the end of each job is counted in its ledger."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from storage.dead_letters.plans import PlanRepository
from tests.integration.workers.operations.conftest import Operate
from tests.support.engine import MakeBench
from tests.support.letters import letter
from tests.support.plans import NOW, Numbers, has_letters, settled_ledger, write
from tests.support.waiting import eventually
from workers.operations.operations import ALL_DEAD, LetterFilter


async def test_a_plan_replays_what_was_dead_when_it_was_frozen_and_nothing_later(
    make_bench: MakeBench, operate: Operate
) -> None:
    bench = make_bench(retry_delays=())
    await write(bench.letters, 20)
    operations = await operate(bench)
    plan = await operations.replays.create_plan(LetterFilter(queue="color-extraction"), reason="mended")
    assert (plan.total, plan.state, plan.actor, plan.reason) == (20, "frozen", "ops@box-2", "mended")
    late = {"queue_name": "color-extraction", "job_data": {"kwargs": {"number": 99}}}
    await bench.letters.record([letter("late", failed_at=NOW - timedelta(hours=1), **late)])
    done = await operations.replays.run_plan(plan.id)
    assert (done.state, done.ledger.sent) == ("done", 20)
    numbers = Numbers()
    await numbers.start(bench)
    ledger = await settled_ledger(operations, plan.id)
    assert (ledger.completed, ledger.died, ledger.skipped) == (20, 0, 0)
    assert numbers.ran == list(range(20)), "the oldest first, each once"
    assert [letter.uid for letter in (await operations.dead_letters.page()).items] == ["late"]


async def test_a_ledger_counts_the_same_error_and_others_apart(
    make_bench: MakeBench, operate: Operate
) -> None:
    bench = make_bench(retry_delays=())

    async def fail(ctx: dict[str, Any], number: int) -> None:
        raise RuntimeError(f"no {number}") if ctx["job"].meta == {} or number % 2 else LookupError("gone")

    process = await bench.start(fail)
    await bench.send(4)
    await eventually(lambda: has_letters(bench.letters, 4))
    operations = await operate(bench)
    plan = await operations.replays.create_plan(ALL_DEAD)
    await operations.replays.run_plan(plan.id)
    ledger = await settled_ledger(operations, plan.id)
    assert (ledger.same, ledger.other, ledger.completed) == (2, 2, 0)
    process.begin_drain()
    items = await operations.replays.plan_items(plan.id, state="same")
    lineage = await operations.dead_letters.lineage(items[0].letter_id)
    assert [(letter.state, letter.deaths, [r.state for r in replays]) for letter, replays in lineage] == [
        ("replayed", 1, ["same"]),
        ("dead", 2, []),
    ]
    first, second = (member for member, _ in lineage)
    assert (second.replay_of, second.root_id) == (first.id, first.id)
    assert await operations.dead_letters.lineage(second.id) == lineage


async def test_an_aborted_replay_is_in_the_ledger(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(retry_delays=())
    (letter_id,) = await write(bench.letters, 1)

    async def wait(ctx: dict[str, Any], number: int) -> None:
        await asyncio.sleep(60)

    await bench.start(wait)
    operations = await operate(bench)
    key = (await operations.replays.replay(letter_id)).job_id
    job = await eventually(lambda: bench.stock.job(key))
    await eventually(lambda: bench.redis.llen(bench.queue.keys.active))
    await bench.stock.abort(job, "changed my mind")

    async def aborted() -> bool:
        ((_, replays),) = await operations.dead_letters.lineage(letter_id)
        return replays[0].state == "aborted"

    await eventually(aborted)


async def test_the_archive_is_replayed_from(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(retry_delays=())
    ids = await write(bench.letters, 3)
    operations = await operate(bench)
    await operations.dead_letters.archive(days=0)
    preview = await operations.replays.preview(LetterFilter(archived=True))
    assert preview.total == 3
    plan = await operations.replays.create_plan(preview.selection)
    assert (await operations.replays.run_plan(plan.id)).ledger.sent == 3
    await Numbers(fails=lambda number: True).start(bench)
    await eventually(lambda: has_letters(bench.letters, 3))
    again = (await operations.dead_letters.page()).items
    assert sorted(letter.replay_of or 0 for letter in again) == ids
    assert await settled_ledger(operations, plan.id)


async def test_a_plan_goes_on_when_the_database_comes_back(
    make_bench: MakeBench, operate: Operate, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(retry_delays=())
    await write(bench.letters, 40)
    operations = await operate(bench)
    plan = await operations.replays.create_plan(ALL_DEAD)
    real, failures = PlanRepository.mark_enqueued, iter([True, True, False])

    async def shaky(self: PlanRepository, *args: Any) -> Any:
        if next(failures, False):
            raise ConnectionError("the database went away at this moment")
        return await real(self, *args)

    monkeypatch.setattr(PlanRepository, "mark_enqueued", shaky)
    done = await operations.replays.run_plan(plan.id)
    assert (done.state, done.ledger.sent, done.ledger.skipped) == ("done", 40, 0)
    assert await bench.redis.llen(bench.queue.keys.queued) == 40


async def test_the_job_may_end_before_its_letter_is_marked(
    make_bench: MakeBench, operate: Operate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that replayed it ended between the two steps: the end of the job suffices."""
    bench = make_bench(retry_delays=())
    ids = await write(bench.letters, 2)
    operations = await operate(bench)
    plan, other = (
        await operations.replays.create_plan(ALL_DEAD),
        await operations.replays.create_plan(ALL_DEAD),
    )
    await operations.replays.cancel_plan(other.id)
    await operations.replays._plans.transition(plan.id, "running", from_states=["frozen"])
    batch = await operations.replays._plans.next_items(plan.id, limit=2)
    await operations.replays._replayer._enqueuer.enqueue(batch)
    await Numbers(fails=lambda number: number == 0).start(bench)

    async def ended() -> bool:
        ledger = (await operations.replays.get_plan(plan.id)).ledger
        return (ledger.completed, ledger.died) == (1, 1)

    await eventually(ended)
    assert [(await operations.dead_letters.get(letter_id)).state for letter_id in ids] == ["replayed"] * 2
    assert (await operations.replays.run_plan(plan.id)).ledger.sent == 2
    assert (await operations.replays.get_plan(other.id)).ledger.waiting == 2, "it had no part in that"
    assert await bench.redis.llen(bench.queue.keys.queued) == 0


async def test_a_false_origin_in_a_foreign_job_stops_no_outcome(
    make_bench: MakeBench, operate: Operate
) -> None:
    bench = make_bench(retry_delays=())
    (letter_id,) = await write(bench.letters, 1)
    await Numbers().start(bench)
    for origin in (10**30, -1, "1", True, {"a": 1}):
        await bench.stock.enqueue(
            bench.policy.function, number=7, meta={"couturecast": {"replay_of": origin, "replay": origin}}
        )
    await eventually(lambda: bench.total("completed"))
    operations = await operate(bench)
    await operations.replays.replay(letter_id)

    async def completed() -> bool:
        ((_, (replay,)),) = await operations.dead_letters.lineage(letter_id)
        return replay.state == "completed"

    await eventually(completed)


@pytest.mark.slow
async def test_large_payloads_are_replayed_a_few_at_a_time(
    make_bench: MakeBench, operate: Operate, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench()
    large = {"queue_name": "color-extraction", "function": "extract_colors"}
    for start in range(0, 120, 20):
        await bench.letters.record(
            [
                letter(f"u{number}", failed_at=NOW, job_data={"kwargs": {"text": "x" * 500_000}}, **large)
                for number in range(start, start + 20)
            ]
        )
    read: list[int] = []
    batch = PlanRepository.next_items

    async def counted(self: PlanRepository, *args: Any, **options: Any) -> Any:
        found = await batch(self, *args, **options)
        read.append(len(found))
        return found

    monkeypatch.setattr(PlanRepository, "next_items", counted)
    operations = await operate(bench)
    plan = await operations.replays.create_plan(LetterFilter(queue="color-extraction"))
    done = await operations.replays.run_plan(plan.id)
    assert (done.state, done.ledger.sent) == ("done", 120)
    assert read[0] == 100
    assert max(read[1:]) <= 32
