"""Every verb of the operators: each leaves one row, and read-only mode stops each that changes something."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import text

from storage.database.engine import Database
from tests.integration.workers.operations.conftest import Operate
from tests.support.engine import Bench, MakeBench
from tests.support.waiting import eventually
from workers.engine.schedules import Schedule
from workers.errors import ConflictError, ReadOnlyError
from workers.operations.audit import acting_as
from workers.operations.dead_letters import DeadLetterOperations
from workers.operations.jobs import JobOperations, JobRef
from workers.operations.operations import ALL_DEAD, LetterFilter, NewJob, Operations
from workers.operations.queues import QueueOperations
from workers.operations.replays import ReplayOperations
from workers.operations.schedules import ScheduleOperations
from workers.operations.workers import WorkerOperations
from workers.process.worker_process import WorkerProcess

QUEUE = "color-extraction"
LOOKS = {
    "recent_actions",
    "check_writes",
    "ping",
    "queues.pause_of",
    "snapshot",
    "queues.loads",
    "stall_reasons",
    "dead_letters.count",
    "dead_letters.count_discarded",
    "dead_letters.export",
    "dead_letters.get",
    "dead_letters.groups",
    "dead_letters.lineage",
    "dead_letters.page",
    "replays.plan_items",
    "replays.get_plan",
    "replays.plans",
    "replays.preview",
    "jobs.counts",
    "jobs.page",
    "jobs.get",
    "jobs.why",
    "jobs.preview",
    "jobs.stack",
    "jobs.findings",
    "jobs.alike",
    "schedules.list",
    "schedules.get",
    "workers.list",
    "workers.log",
    "workers.wait",
}
"""Verbs that change nothing."""
NO_VERBS = {"close", "replays.close"}
MANY = {"workers.drain_all"}
"""Verbs that do another one many times: the tests in drain have them."""


async def _no_jobs() -> dict[str, dict[str, Any]]:
    return {}


TICK = Schedule("tick", "0 0 1 1 *", QUEUE, _no_jobs)
TABLES = ("job_failures", "job_failures_archive", "replay_plans", "replays", "operator_actions")
STEADY = ("couturecast:beats", "couturecast:workers", "saq:")
"""Beginnings of keys that a living process writes by itself."""


async def _consume(stream: AsyncIterator[Any]) -> None:
    async for _ in stream:
        pass


def changes(
    operations: Operations, letters: list[int], plans: list[int]
) -> dict[str, tuple[str, Callable[[], Awaitable[Any]]]]:
    """By method, every verb that changes something: its name in the books, and a call of it."""
    dead_letters, replays, queues = operations.dead_letters, operations.replays, operations.queues
    jobs, schedules, refs = operations.jobs, operations.schedules, [JobRef("by hand")]
    return {
        "queues.enqueue_many": ("enqueue", lambda: queues.enqueue_many(QUEUE, [])),
        "queues.enqueue": ("enqueue", lambda: queues.enqueue(QUEUE, {"number": 1}, key="by hand")),
        "queues.enqueue_stream": ("enqueue", lambda: _consume(queues.enqueue_stream(QUEUE, []))),
        "queues.pause": ("pause", lambda: queues.pause(QUEUE, "model rollout")),
        "queues.resume": ("resume", lambda: queues.resume(QUEUE)),
        "replays.replay": ("replay", lambda: replays.replay(letters[0], reason="mended")),
        "replays.create_plan": ("plan", lambda: replays.create_plan(ALL_DEAD, reason="mended")),
        "replays.run_plan": ("run-plan", lambda: replays.run_plan(plans[0])),
        "replays.start_plan": ("run-plan", lambda: replays.start_plan(plans[1])),
        "replays.pause_plan": ("pause-plan", lambda: replays.pause_plan(plans[2])),
        "replays.cancel_plan": ("cancel-plan", lambda: replays.cancel_plan(plans[2])),
        "dead_letters.discard": ("discard", lambda: dead_letters.discard([letters[1]], "not worth it")),
        "dead_letters.restore": ("restore", lambda: dead_letters.restore([letters[1]])),
        "dead_letters.archive": ("archive", lambda: dead_letters.archive(days=0)),
        "jobs.run_now": ("run-now", lambda: jobs.run_now(QUEUE, refs)),
        "jobs.duplicate": ("duplicate", lambda: jobs.duplicate(QUEUE, refs)),
        "jobs.abort": ("abort", lambda: jobs.abort(QUEUE, refs)),
        "jobs.change": ("remove", lambda: jobs.change("remove", QUEUE, refs)),
        "jobs.remove": ("remove", lambda: jobs.remove(QUEUE, refs)),
        "schedules.disable": ("cron disable", lambda: schedules.disable("tick")),
        "schedules.enable": ("cron enable", lambda: schedules.enable("tick")),
        "schedules.run": ("cron run", lambda: schedules.run("tick")),
        "workers.drain": ("drain", lambda: operations.workers.drain(operations.workers.own_id or "w")),
        "workers.undo_drain": (
            "undo-drain",
            lambda: operations.workers.undo_drain(operations.workers.own_id or "w"),
        ),
        "drain": ("drain", lambda: operations.drain()),
    }


def verbs() -> set[str]:
    """The public coroutines and asynchronous generators of the operations."""
    found = set()
    kinds = {
        "": Operations,
        "queues.": QueueOperations,
        "dead_letters.": DeadLetterOperations,
        "replays.": ReplayOperations,
        "jobs.": JobOperations,
        "schedules.": ScheduleOperations,
        "workers.": WorkerOperations,
    }
    for prefix, kind in kinds.items():
        for name, method in inspect.getmembers(kind, inspect.isfunction):
            awaited = inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)
            if awaited and not name.startswith("_"):
                found.add(prefix + name)
    return found


async def contents(redis: Redis, database: Database) -> dict[str, Any]:
    """All that is kept, but for what a living process writes by itself."""
    found: dict[str, Any] = {}
    for key in await redis.keys():
        name = key.decode()
        if not name.startswith(STEADY) and not name.endswith(":looks"):
            found[name] = await redis.dump(key)
    async with database.connect() as connection:
        for table in TABLES:
            found[table] = (await connection.execute(text(f"SELECT * FROM {table} ORDER BY id"))).all()
    return found


async def prepared(
    bench: Bench, operations: Operations, database: Database
) -> tuple[WorkerProcess, list[int], list[int]]:
    """A process, four letters, and three plans that were not begun."""

    async def fail(ctx: dict[str, Any], number: int) -> None:
        raise RuntimeError("told to fail")

    first = await bench.start(fail)
    await bench.send(4)
    await eventually(lambda: _dead(bench, 4))
    first.begin_drain()
    await first.wait_drained()
    letters = [letter.id for letter in (await bench.letters.page()).items]
    plans = [(await operations.replays.create_plan([letter])).id for letter in letters[2:]]
    plans.append((await operations.replays.create_plan([letters[3]])).id)

    async def work(ctx: dict[str, Any], number: int) -> None: ...

    return await bench.start(work), letters, plans


async def _dead(bench: Bench, number: int) -> bool:
    return await bench.letters.count() == number


async def test_each_verb_is_known_as_one_that_changes_something_or_does_not(
    make_bench: MakeBench, operate: Operate
) -> None:
    changing = changes(await operate(make_bench()), [], [])
    assert verbs() == LOOKS | NO_VERBS | MANY | changing.keys()


async def test_read_only_stops_every_verb_that_changes_something(
    make_bench: MakeBench, operate: Operate, redis: Redis, database: Database
) -> None:
    bench = make_bench(retry_delays=())
    process, letters, plans = await prepared(bench, await operate(bench), database)
    operations = await operate(bench, process=process, read_only=True, schedules=[TICK])
    before = await contents(redis, database)
    for name, (verb, act) in changes(operations, letters, plans).items():
        with pytest.raises(ReadOnlyError, match=verb):
            await act()
        assert await contents(redis, database) == before, name
    with pytest.raises(ReadOnlyError, match="enqueue"):
        await operations.queues.enqueue_many(QUEUE, [NewJob({"number": 1})], audited=False)
    assert await contents(redis, database) == before
    assert not process.draining
    await operations.replays.preview(LetterFilter(queue=QUEUE))
    assert await operations.dead_letters.archive(days=0, dry_run=True) == 4
    assert [piece async for piece in operations.dead_letters.export(ALL_DEAD, "markdown")]
    assert await contents(redis, database) == before


@pytest.mark.slow
async def test_every_verb_leaves_one_row_with_actor_verb_reason_and_outcome(
    make_bench: MakeBench, operate: Operate, database: Database
) -> None:
    bench = make_bench(retry_delays=())
    process, letters, plans = await prepared(bench, await operate(bench), database)
    operations = (await operate(bench, process=process, schedules=[TICK])).as_actor("http:box-3")
    written = len(await operations.recent_actions())
    for name, (verb, act) in changes(operations, letters, plans).items():
        failed = None
        try:
            await act()
        except ConflictError as error:  # a plan that does not run cannot be paused: that is written down, too
            failed = f"ConflictError: {error}"

        async def noted(number: int = written + 1) -> Any:
            acts = await operations.recent_actions()
            return acts if len(acts) == number else None

        newest = (await eventually(noted, what=name))[0]
        written += 1
        assert (newest.verb, newest.actor) == (verb, "http:box-3"), name
        assert failed is None or (newest.outcome, newest.affected) == (failed, 0)
    reasons = {act.verb: act.reason for act in await operations.recent_actions()}
    assert (reasons["pause"], reasons["replay"], reasons["discard"]) == (
        "model rollout",
        "mended",
        "not worth it",
    )


async def test_tasks_that_act_for_others_at_the_same_time_are_recorded_as_these(
    make_bench: MakeBench, operate: Operate
) -> None:
    operations = await operate(make_bench())

    async def pause_as(actor: str) -> None:
        with acting_as(actor):
            await asyncio.sleep(0)
            pause = await operations.queues.pause(QUEUE, f"reason of {actor}")
            assert pause.by == actor

    await asyncio.gather(*(pause_as(f"http:box-{number}") for number in range(5)))
    await operations.queues.resume(QUEUE)
    records = {action.reason: action.actor for action in await operations.recent_actions()}
    assert {reason.removeprefix("reason of "): actor for reason, actor in records.items() if reason} == {
        f"http:box-{number}": f"http:box-{number}" for number in range(5)
    }
    assert records[""] == operations.actor, "outside of the block it is the default again"
