"""Turns of one dispatcher that overlap: nothing of what is under way is lost, run twice or run too often."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from saq import Job

from storage.redis.client import execute
from storage.redis.pipeline import Replies
from tests.support.engine import QUICK, Bench, MakeBench
from tests.support.waiting import eventually
from workers.engine.dispatcher import Dispatcher

CONCURRENCY = 8
HeldReply = tuple[Replies, Replies, Callable[[], None]]
"""A reply that has arrived or will, what the dispatcher gets in its place, and what to call then."""


class Handler:
    """Notes what runs."""

    def __init__(self) -> None:
        self.runs: Counter[int] = Counter()
        self.running = self.most = 0

    async def __call__(self, _ctx: dict[str, Any], number: int) -> None:
        self.runs[number] += 1
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.001 * (number % 3))
        self.running -= 1


async def _enqueue(bench: Bench, numbers: range) -> None:
    jobs = [Job(bench.policy.function, kwargs={"number": number}) for number in numbers]
    assert all(await bench.queue.enqueue_many(jobs))


def _watch(dispatcher: Dispatcher, under_way: list[int], slots: list[int]) -> None:
    """Note at each turn how many are under way, and how many slots are filled or asked for."""
    begin = dispatcher._begin_turn

    def watched() -> None:
        begin()
        under_way.append(len(dispatcher._turns))
        slots.append(len(dispatcher.runner.running) + sum(turn.slots for turn in dispatcher._turns))

    dispatcher._begin_turn = watched  # type: ignore[method-assign]


async def test_e3_turns_overlap_and_stay_within_the_concurrency(make_bench: MakeBench) -> None:
    bench, handler = make_bench(concurrency=CONCURRENCY), Handler()
    process = await bench.start(handler)
    under_way, slots = list[int](), list[int]()
    _watch(process.dispatchers[bench.policy.name], under_way, slots)
    await _enqueue(bench, range(600))
    await eventually(bench.empty)
    assert handler.runs == Counter(range(600))
    assert handler.most <= CONCURRENCY
    assert max(slots) == CONCURRENCY
    assert max(under_way) >= 2


async def test_e2_connections_that_break_with_turns_under_way_lose_no_job_and_repeat_none(
    make_bench: MakeBench, redis: Redis
) -> None:
    bench, handler = make_bench(concurrency=CONCURRENCY), Handler()
    process = await bench.start(handler)
    (own,) = [client["id"] for client in await redis.client_list() if client["cmd"] == "client|list"]
    for start in range(0, 2_000, 200):
        await _enqueue(bench, range(start, start + 200))
        await eventually(lambda start=start: len(handler.runs) > start + 20)
        for client in await redis.client_list():
            if client["id"] != own and client["cmd"] == "evalsha":
                await execute(redis, "CLIENT", "KILL", "ID", client["id"])
    await eventually(bench.empty)
    assert handler.runs == Counter(range(2_000))
    assert handler.most <= CONCURRENCY
    assert await bench.total("completed") == 2_000
    assert process.redis_error is None


async def test_a_broken_connection_costs_one_pause_however_many_turns_were_under_way(
    make_bench: MakeBench, redis: Redis
) -> None:
    bench, handler = make_bench(concurrency=CONCURRENCY), Handler()
    process = await bench.start(handler)
    dispatcher = process.dispatchers[bench.policy.name]
    errors: list[Exception] = []
    on_result = dispatcher._on_result

    def note(error: Exception | None) -> None:
        if error is not None:
            errors.append(error)
        on_result(error)

    dispatcher._on_result = note
    await eventually(lambda: dispatcher.state == "empty")
    await execute(redis, "CLIENT", "PAUSE", 300, "WRITE")  # the turns wait in the server
    for _ in range(4):
        dispatcher._begin_turn()
    assert len(dispatcher._turns) >= 4
    assert dispatcher._pipeline._reader is not None
    dispatcher._pipeline._reader._transport.abort()
    await _enqueue(bench, range(20))
    await eventually(bench.empty)
    assert len(errors) == 1
    assert handler.runs == Counter(range(20))


async def test_a_wake_up_that_begins_no_turn_does_not_put_off_the_next_one(make_bench: MakeBench) -> None:
    bench, handler = make_bench(concurrency=CONCURRENCY), Handler()
    await _enqueue(bench, range(1))
    await bench.queue.take("dead", 1, [])
    process = await bench.start(handler, timings=QUICK)
    dispatcher = process.dispatchers[bench.policy.name]

    async def ran() -> bool:
        dispatcher.request_lease_check()
        return bool(handler.runs)

    await eventually(ran)


async def test_e9_jobs_of_a_turn_that_was_under_way_when_the_drain_began_do_not_start(
    make_bench: MakeBench, redis: Redis
) -> None:
    bench, handler = make_bench(concurrency=CONCURRENCY), Handler()
    process = await bench.start(handler)
    dispatcher = process.dispatchers[bench.policy.name]
    await eventually(lambda: dispatcher.state == "empty")
    await execute(redis, "CLIENT", "PAUSE", 300, "WRITE")
    sending = asyncio.create_task(_enqueue(bench, range(20)))
    await asyncio.sleep(0.05)
    dispatcher._begin_turn()  # after the jobs, in the server's order
    process.begin_drain()
    await sending
    await process.wait_drained()
    assert not handler.runs
    assert (await bench.lists())["queued"] == 20
    assert (await bench.lists())["leases"] == 0


async def test_e2_leases_are_not_checked_while_a_turn_is_under_way(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, handler = make_bench(concurrency=CONCURRENCY), Handler()
    process = await bench.start(handler)
    dispatcher = process.dispatchers[bench.policy.name]
    await eventually(lambda: dispatcher.state == "empty")
    send, held = dispatcher._pipeline.send, list[HeldReply]()

    def hold(commands: Any, *, on_done: Callable[[], None]) -> Replies:
        """The reply stays on its way until the test releases it."""
        late: Replies = asyncio.get_running_loop().create_future()
        held.append((send(commands), late, on_done))
        return late

    async def release(replies: list[HeldReply]) -> None:
        for reply in replies:
            arrived, late, on_done = reply
            held.remove(reply)
            late.set_result(await arrived)
            on_done()

    async def both_taken() -> bool:
        arrived = [reply for reply in held if reply[0].done()]
        leases = (await bench.lists())["leases"]
        if not leases:
            await release(arrived)  # of turns that came before the jobs
        return bool(leases == 2)

    with monkeypatch.context() as patched:
        patched.setattr(dispatcher._pipeline, "send", hold)
        await _enqueue(bench, range(2))
        await eventually(both_taken)
    dispatcher.request_lease_check()
    await asyncio.sleep(0.2)  # time in which it would return the jobs
    assert (await bench.lists())["leases"] == 2
    await release([*held])
    await eventually(bench.empty)
    assert handler.runs == Counter(range(2))
