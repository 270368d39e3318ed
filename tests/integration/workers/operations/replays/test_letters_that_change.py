"""Letters that others replay, edit or archive during a plan are replayed once or skipped with the reason."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from storage.dead_letters.plans import PlanRepository
from tests.integration.workers.operations.conftest import Operate
from tests.support.engine import MakeBench
from tests.support.letters import letter
from tests.support.plans import Numbers, settled_ledger, write
from tests.support.waiting import eventually
from workers.errors import ConflictError, InvalidJobError
from workers.handlers.base import Payload
from workers.operations.operations import ALL_DEAD, LetterFilter, ReplayOptions


async def test_two_plans_of_the_same_letters_enqueue_each(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(retry_delays=())
    await write(bench.letters, 300)
    operations, other = await operate(bench), await operate(bench)
    first, second = await operations.replays.create_plan(ALL_DEAD), await other.replays.create_plan(ALL_DEAD)
    await asyncio.gather(operations.replays.run_plan(first.id), other.replays.run_plan(second.id))
    ledgers = [(await operations.replays.get_plan(plan.id)).ledger for plan in (first, second)]
    assert sum(ledger.sent for ledger in ledgers) == 300
    assert sum(ledger.skipped for ledger in ledgers) == 300
    assert await bench.redis.llen(bench.queue.keys.queued) == 300


async def test_a_plan_skips_letters_that_changed_with_the_reason(
    make_bench: MakeBench, operate: Operate
) -> None:
    bench = make_bench(retry_delays=())
    ids = await write(bench.letters, 6)
    operations = await operate(bench)
    plan = await operations.replays.create_plan(ALL_DEAD)
    await operations.replays.replay(ids[0])
    await operations.dead_letters.discard([ids[1]])
    busy = await bench.letters.get(ids[2])
    assert busy is not None
    await bench.stock.enqueue(bench.policy.function, key=busy.job_id, number=7)
    await bench.letters.record([letter("odd", queue_name="gone-queue")])
    done = await operations.replays.run_plan(plan.id)
    assert (done.ledger.sent, done.ledger.skipped) == (3, 3)
    skipped = {
        item.letter_id: item.note for item in await operations.replays.plan_items(plan.id, state="skipped")
    }
    assert skipped == {
        ids[0]: "it is replayed already",
        ids[1]: "it is discarded already",
        ids[2]: f"a job with the key {busy.job_id} is queued already",
    }


async def test_letters_archived_during_a_plan_are_replayed(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(retry_delays=())
    ids = await write(bench.letters, 5)
    operations = await operate(bench)
    plan = await operations.replays.create_plan(ALL_DEAD)
    assert await operations.dead_letters.archive(days=0) == 5
    assert (await operations.dead_letters.get(ids[0])).archived
    assert (await operations.replays.run_plan(plan.id)).ledger.sent == 5
    assert [
        letter.state
        for letter in (await operations.dead_letters.page(LetterFilter(archived=True, state=None))).items
    ] == ["replayed"] * 5
    with pytest.raises(ConflictError, match="replayed already"):
        await operations.replays.replay(ids[0])


@pytest.mark.slow
async def test_replay_and_archive_at_once_lose_and_double_nothing(
    make_bench: MakeBench, operate: Operate
) -> None:
    bench = make_bench(retry_delays=())
    await write(bench.letters, 900)
    operations, other = await operate(bench), await operate(bench)
    plan = await operations.replays.create_plan(ALL_DEAD, ReplayOptions(rate=900))
    done, moved = await asyncio.gather(
        operations.replays.run_plan(plan.id), other.dead_letters.archive(days=0)
    )
    assert (moved, done.ledger.sent) == (900, 900)
    assert await operations.dead_letters.count(LetterFilter(state="replayed", archived=True)) == 900
    assert await operations.dead_letters.count(LetterFilter(state=None)) == 0
    assert await bench.redis.llen(bench.queue.keys.queued) == 900


async def test_an_edited_payload_is_run_and_the_old_one_kept(make_bench: MakeBench, operate: Operate) -> None:
    class Numbered(Payload):
        number: int

    bench = make_bench(retry_delays=())
    (letter_id,) = await write(bench.letters, 1)
    operations = await operate(bench, schemas={bench.policy.name: Numbered})
    with pytest.raises(InvalidJobError, match="number"):
        await operations.replays.replay(letter_id, {"number": "many"})
    deep: Any = 1
    for _ in range(150):
        deep = [deep]
    any_ = await operate(bench)
    with pytest.raises(InvalidJobError, match="nested deeper"):
        await any_.replays.replay(letter_id, {"number": deep})
    assert (await operations.dead_letters.get(letter_id)).state == "dead"
    await operations.replays.replay(letter_id, {"number": 41})
    numbers = Numbers()
    await numbers.start(bench)
    await eventually(lambda: numbers.ran)
    assert numbers.ran == [41]
    ((kept, (replay,)),) = await operations.dead_letters.lineage(letter_id)
    assert kept.job_data["kwargs"] == {"number": 0}
    assert replay.kwargs == {"number": 41}


async def test_a_plan_has_no_part_in_what_another_replays(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(retry_delays=())
    await write(bench.letters, 5)
    operations = await operate(bench)
    paused, other, single = [await operations.replays.create_plan(ALL_DEAD) for _ in range(3)]
    # As after a crash.
    await operations.replays._plans.transition(paused.id, "running", from_states=["frozen"])
    await Numbers(fails=lambda number: True).start(bench)
    await operations.replays.run_plan(other.id)
    assert (await settled_ledger(operations, other.id)).died == 5
    for plan in (paused, single):
        done = await operations.replays.run_plan(plan.id)
        assert (done.state, done.ledger.skipped, done.ledger.died) == ("done", 5, 0)


async def test_an_edit_after_an_interrupted_replay_does_not_count_as_running(
    make_bench: MakeBench, operate: Operate, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(retry_delays=())
    (letter_id,) = await write(bench.letters, 1)
    operations = await operate(bench)

    async def away(self: PlanRepository, *ignored: Any) -> None:
        raise ConnectionError("the database went away at this moment")

    with monkeypatch.context() as patch:
        patch.setattr(PlanRepository, "mark_enqueued", away)
        with pytest.raises(ConnectionError):
            await operations.replays.replay(letter_id)
    with pytest.raises(ConflictError, match="enqueued by another replay"):
        await operations.replays.replay(letter_id, {"number": 2})
    assert (await operations.dead_letters.get(letter_id)).state == "replayed"
    assert await bench.redis.llen(bench.queue.keys.queued) == 1
