"""The operator's verbs on real servers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from storage.dead_letters.plans import PlanRepository
from storage.errors import DatabaseUnavailableError
from storage.repositories.operator_actions import OperatorActionRepository
from tests.integration.workers.operations.conftest import Operate
from tests.support.engine import Bench, MakeBench
from tests.support.waiting import eventually
from workers.errors import (
    ConflictError,
    InvalidJobError,
    NotFoundError,
    UnknownQueueError,
)
from workers.operations.operations import NewJob


async def _dead(bench: Bench) -> int:
    """The id of a letter that a real job left."""

    async def fail(ctx: dict[str, Any], number: int) -> None:
        raise RuntimeError("told to fail")

    process = await bench.start(fail)
    await bench.send()
    await eventually(bench.letters.count)
    process.begin_drain()
    await process.wait_drained()
    (letter,) = (await bench.letters.page()).items
    return letter.id


async def test_a_replayed_letter_is_one_job_with_all_its_attempts(
    make_bench: MakeBench, operate: Operate
) -> None:
    bench = make_bench(retry_delays=(0.05,))
    letter_id = await _dead(bench)
    operations = await operate(bench)
    key, plan_id = await operations.replays.replay(letter_id)
    assert (await bench.lists())["queued"] == 1
    seen: list[tuple[int, int]] = []

    async def succeed(ctx: dict[str, Any], number: int) -> str:
        seen.append((number, ctx["job"].attempts))
        return "mended"

    await bench.start(succeed)
    await eventually(lambda: bench.total("completed"))
    assert seen == [(0, 1)]
    job = await bench.stock.job(key)
    assert job is not None
    assert job.result == "mended"
    assert (await operations.replays.get_plan(plan_id)).ledger.sent == 1
    with pytest.raises(ConflictError, match="replayed already"):
        await operations.replays.replay(letter_id)
    with pytest.raises(NotFoundError):
        await operations.replays.replay(letter_id + 1)


async def test_a_replay_that_was_broken_off_enqueues_no_second_job(
    make_bench: MakeBench, operate: Operate, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench(retry_delays=())
    letter_id = await _dead(bench)
    operations = await operate(bench)

    async def away(self: PlanRepository, *ignored: Any) -> None:
        raise DatabaseUnavailableError("the database went away at this moment")

    with monkeypatch.context() as patch:
        patch.setattr(PlanRepository, "mark_enqueued", away)
        with pytest.raises(DatabaseUnavailableError):
            await operations.replays.replay(letter_id)
    ran: list[int] = []

    async def succeed(ctx: dict[str, Any], number: int) -> None:
        ran.append(number)

    assert await bench.letters.count() == 1, "the letter is dead still, so nothing looks replayed that is not"
    with pytest.raises(ConflictError, match="enqueued by another replay"):
        await operations.replays.replay(letter_id)
    assert await bench.letters.count() == 0
    await bench.start(succeed)
    await eventually(lambda: bench.total("completed"))
    assert await bench.empty()
    assert ran == [0]


async def test_of_two_operators_one_replays(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(retry_delays=())
    letter_id = await _dead(bench)
    first, second = await operate(bench), await operate(bench)
    done = await asyncio.gather(
        first.replays.replay(letter_id), second.replays.replay(letter_id), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in done) == ["ConflictError", "LetterReplay"]
    assert (await bench.lists())["queued"] == 1


async def test_a_letter_whose_key_is_queued_again_waits(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(retry_delays=())
    letter_id = await _dead(bench)
    letter = await bench.letters.get(letter_id)
    assert letter is not None
    await bench.stock.enqueue(bench.policy.function, key=letter.job_id, number=7)
    operations = await operate(bench)
    with pytest.raises(ConflictError, match="queued already"):
        await operations.replays.replay(letter_id)
    assert await bench.letters.count() == 1


async def test_e11_a_paused_queue_starts_nothing_and_shows_who_why_and_since_when(
    make_bench: MakeBench, operate: Operate
) -> None:
    bench = make_bench()
    ran: list[int] = []

    async def work(ctx: dict[str, Any], number: int) -> None:
        ran.append(number)

    await bench.start(work)
    other = await bench.start(work)
    operations = await operate(bench)
    await operations.queues.pause(bench.policy.name, "model rollout")
    await bench.send(3)
    await eventually(lambda: other.dispatchers[bench.policy.name].state == "paused")
    (queue,) = (await operations.snapshot()).queues
    assert queue.paused is not None
    assert (queue.paused.by, queue.paused.reason) == ("ops@box-2", "model rollout")
    seconds, _ = await bench.redis.time()
    assert seconds - 60 < queue.paused.since <= seconds + 1
    assert (ran, queue.depth) == ([], 3)
    assert await operations.queues.resume(bench.policy.name)
    await eventually(lambda: len(ran) == 3)
    assert not await operations.queues.resume(bench.policy.name)


async def test_an_action_is_done_while_the_database_is_down(
    make_bench: MakeBench, operate: Operate, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench()
    operations = await operate(bench)

    async def away(self: OperatorActionRepository, *ignored: Any) -> None:
        raise DatabaseUnavailableError("the database went away")

    monkeypatch.setattr(OperatorActionRepository, "record", away)
    await operations.queues.pause(bench.policy.name, "at three in the morning")
    assert await operations.queues.pause_of(bench.policy.name) is not None


async def test_what_is_not_valid_is_refused_and_nothing_is_enqueued(
    make_bench: MakeBench, operate: Operate
) -> None:
    bench = make_bench()
    operations = await operate(bench)
    name = bench.policy.name
    with pytest.raises(UnknownQueueError, match="color-extraction"):
        await operations.queues.enqueue("colour", {})
    for wrong in ({"a": "nul \0"}, {"a": "x" * 1_000_001}):
        with pytest.raises(InvalidJobError, match="line 2"):
            await operations.queues.enqueue_many(name, [NewJob({"a": 1}), NewJob(wrong, source="line 2")])
    with pytest.raises(InvalidJobError, match="a year"):
        await operations.queues.enqueue(name, {}, delay=-1)
    assert await bench.empty()
    assert await operations.queues.enqueue(name, {"a": 1}, key="one") == "one"
    assert await operations.queues.enqueue(name, {"a": 2}, key="one") is None
