"""Plans on real servers: what is replayed, how often, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event

from storage.database.engine import Database
from storage.dead_letters.plans import PlanRepository
from storage.dead_letters.repository import DeadLetterRepository
from storage.errors import InvalidFilterError
from tests.integration.storage.dead_letters.test_repository import letter
from tests.integration.workers.conftest import Bench, MakeBench, eventually
from tests.support.operations import build_operations
from workers.errors import ConflictError, InvalidJobError, NotFoundError, UnknownQueueError
from workers.handlers.base import Payload
from workers.operations.operations import ALL_DEAD, LetterFilter, Operations, ReplayOptions
from workers.operations.replays import ReplayOperations
from workers.process.worker_process import WorkerProcess

NOW = datetime.now(UTC)
Operate = Callable[..., Awaitable[Operations]]


@pytest.fixture
async def database(migrated_database_url: str) -> AsyncIterator[Database]:
    database = Database(migrated_database_url)
    await database.start()
    yield database
    await database.close()


@pytest.fixture
async def operate(database: Database) -> AsyncIterator[Operate]:
    made: list[Operations] = []

    async def make(bench: Bench, **options: Any) -> Operations:
        options = {"schemas": {}, "actor": "ops@box-2"} | options
        operations = build_operations(
            bench.url, policies=[bench.policy], database=database, letters=bench.letters, **options
        )
        made.append(operations)
        return operations

    yield make
    for each in made:
        await each.close()


class Numbers:
    """A handler that notes what it ran, and fails for some numbers."""

    def __init__(self, fails: Callable[[int], bool] = lambda number: False) -> None:
        self.ran: list[int] = []
        self._fails = fails

    async def __call__(self, ctx: dict[str, Any], number: int) -> None:
        self.ran.append(number)
        if self._fails(number):
            raise RuntimeError("told to fail")

    async def start(self, bench: Bench) -> WorkerProcess:
        async def handler(ctx: dict[str, Any], number: int) -> None:
            await self(ctx, number)

        return await bench.start(handler)


async def write(letters: DeadLetterRepository, count: int, **fields: Any) -> list[int]:
    """Letters 0, 1, … of the queue under test, the first died first; their ids."""
    options = {"queue_name": "color-extraction", "function": "extract_colors"} | fields
    await letters.record(
        [
            letter(
                f"u{number}",
                failed_at=NOW - timedelta(seconds=count - number),
                job_data={"kwargs": {"number": number}},
                **options,
            )
            for number in range(count)
        ]
    )
    found = [each.id for each in (await letters.page(ALL_DEAD, limit=1_000)).items]
    return list(reversed(found))


async def _settled(operations: Operations, plan_id: int) -> Any:
    """The ledger once no job of the plan runs any more."""

    async def ended() -> Any:
        plan = await operations.replays.get_plan(plan_id)
        return plan if plan.ledger.enqueued == 0 else None

    return (await eventually(ended, what="all jobs have ended")).ledger


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
    ledger = await _settled(operations, plan.id)
    assert (ledger.completed, ledger.died, ledger.skipped) == (20, 0, 0)
    assert numbers.ran == list(range(20)), "the oldest first, each once"
    assert [each.uid for each in (await operations.dead_letters.page()).items] == ["late"]


async def test_a_ledger_counts_the_same_error_and_others_apart(
    make_bench: MakeBench, operate: Operate
) -> None:
    bench = make_bench(retry_delays=())

    async def fail(ctx: dict[str, Any], number: int) -> None:
        raise RuntimeError(f"no {number}") if ctx["job"].meta == {} or number % 2 else LookupError("gone")

    process = await bench.start(fail)
    await bench.send(4)
    await eventually(lambda: _count(bench.letters, 4))
    operations = await operate(bench)
    plan = await operations.replays.create_plan(ALL_DEAD)
    await operations.replays.run_plan(plan.id)
    ledger = await _settled(operations, plan.id)
    assert (ledger.same, ledger.other, ledger.completed) == (2, 2, 0)
    process.begin_drain()
    items = await operations.replays.plan_items(plan.id, state="same")
    lineage = await operations.dead_letters.lineage(items[0].letter_id)
    assert [(each.state, each.deaths, [r.state for r in replays]) for each, replays in lineage] == [
        ("replayed", 1, ["same"]),
        ("dead", 2, []),
    ]
    first, second = (each for each, _ in lineage)
    assert (second.replay_of, second.root_id) == (first.id, first.id)
    assert await operations.dead_letters.lineage(second.id) == lineage


async def test_an_aborted_replay_is_in_the_ledger(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(retry_delays=())
    (letter_id,) = await write(bench.letters, 1)

    async def wait(ctx: dict[str, Any], number: int) -> None:
        await asyncio.sleep(60)

    await bench.start(wait)
    operations = await operate(bench)
    key = await operations.replays.replay(letter_id)
    job = await eventually(lambda: bench.stock.job(key))
    await eventually(lambda: bench.redis.llen(bench.queue.keys.active))
    await bench.stock.abort(job, "changed my mind")

    async def aborted() -> bool:
        ((_, replays),) = await operations.dead_letters.lineage(letter_id)
        return replays[0].state == "aborted"

    await eventually(aborted)


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
    ledger = await _settled(operations, plan.id)
    assert (ledger.died, ledger.waiting) == (50, 0)


async def test_the_rest_follows_a_canary_that_succeeds(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(retry_delays=())
    await write(bench.letters, 30)
    numbers = Numbers()
    operations = await operate(bench)
    plan = await operations.replays.create_plan(ALL_DEAD, ReplayOptions(canary=3))
    running = asyncio.create_task(operations.replays.run_plan(plan.id))
    await eventually(lambda: _sent(operations, plan.id, 3))
    await asyncio.sleep(1.2)
    assert await _sent(operations, plan.id, 3), "it waits for the canary"
    await numbers.start(bench)
    assert (await running).state == "done"
    assert (await _settled(operations, plan.id)).completed == 30


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
async def test_pause_resume_and_cancel(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(retry_delays=())
    await write(bench.letters, 100)
    operations, other = await operate(bench), await operate(bench)
    plan = await operations.replays.create_plan(ALL_DEAD, ReplayOptions(rate=5))
    await operations.replays.start_plan(plan.id)
    await eventually(lambda: _sent(operations, plan.id, 1))
    assert (await other.replays.get_plan(plan.id)).active
    with pytest.raises(ConflictError, match="another process"):
        await other.replays.run_plan(plan.id)
    await other.replays.pause_plan(plan.id)
    await eventually(lambda: _idle(operations, plan.id))
    paused = await other.replays.get_plan(plan.id)
    assert paused.state == "paused"
    await other.replays.start_plan(plan.id)
    await eventually(lambda: _sent(operations, plan.id, paused.ledger.sent + 1))
    await operations.replays.cancel_plan(plan.id)
    await eventually(lambda: _idle(other, plan.id))
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


async def test_two_plans_of_the_same_letters_enqueue_each(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(retry_delays=())
    await write(bench.letters, 300)
    operations, other = await operate(bench), await operate(bench)
    first, second = await operations.replays.create_plan(ALL_DEAD), await other.replays.create_plan(ALL_DEAD)
    await asyncio.gather(operations.replays.run_plan(first.id), other.replays.run_plan(second.id))
    ledgers = [(await operations.replays.get_plan(each.id)).ledger for each in (first, second)]
    assert sum(each.sent for each in ledgers) == 300
    assert sum(each.skipped for each in ledgers) == 300
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
        each.letter_id: each.note for each in await operations.replays.plan_items(plan.id, state="skipped")
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
        each.state
        for each in (await operations.dead_letters.page(LetterFilter(archived=True, state=None))).items
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
    await eventually(lambda: _count(bench.letters, 3))
    again = (await operations.dead_letters.page()).items
    assert sorted(each.replay_of or 0 for each in again) == ids
    assert await _settled(operations, plan.id)


async def test_a_letter_that_died_three_times_of_one_error_is_poison(
    make_bench: MakeBench, operate: Operate
) -> None:
    bench = make_bench(retry_delays=())
    process = await Numbers(fails=lambda number: True).start(bench)
    await bench.send(2)
    await eventually(lambda: _count(bench.letters, 2))
    operations = await operate(bench)
    for _ in range(2):
        plan = await operations.replays.create_plan(LetterFilter(args={"number": "0"}))
        await operations.replays.run_plan(plan.id)
        await _settled(operations, plan.id)
    process.begin_drain()
    await process.drained()
    preview = await operations.replays.preview(ALL_DEAD, ReplayOptions())
    assert (preview.total, preview.poison_excluded) == (1, 1)
    (poison,) = (await operations.dead_letters.page(LetterFilter(poison=True))).items
    assert poison.deaths == 3
    plan = await operations.replays.create_plan(ALL_DEAD)
    assert plan.total == 1, "left out"
    await operations.replays.cancel_plan(plan.id)
    assert (await operations.replays.create_plan(ALL_DEAD, ReplayOptions(poison=True))).total == 2, (
        "asked for"
    )
    assert await operations.replays.replay(poison.id), "one that an operator points at is meant"
    assert [each.deaths for each, _ in await operations.dead_letters.lineage(poison.id)] == [1, 2, 3]


async def test_another_error_restarts_the_count_of_deaths(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(retry_delays=())
    runs: list[int] = []

    async def fail(ctx: dict[str, Any], number: int) -> None:
        runs.append(number)
        raise RuntimeError("first") if len(runs) < 3 else LookupError("second")

    await bench.start(fail)
    await bench.send()
    operations = await operate(bench)
    for deaths in (1, 2, 1):

        async def died(deaths: int = deaths, run: int = len(runs)) -> Any:
            found = (await operations.dead_letters.page()).items
            return found and found[0].deaths == deaths and found[0]

        dead = await eventually(died)
        if len(runs) < 3:
            await operations.replays.replay(dead.id)


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


async def test_discard_hides_and_restore_brings_back(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench()
    ids = await write(bench.letters, 10)
    operations = await operate(bench)
    preview = await operations.replays.preview(LetterFilter(since=NOW - timedelta(seconds=4)))
    late = {"queue_name": "color-extraction", "failed_at": NOW}
    await bench.letters.record([letter("late", **late)])
    assert await operations.dead_letters.discard(preview.selection) == preview.total == 4, (
        "and not what came in since"
    )
    assert await operations.dead_letters.discard(preview.selection) == 0
    assert await operations.dead_letters.count() == 7
    assert await operations.dead_letters.restore([*ids[6:8], ids[0]]) == 2
    assert await operations.dead_letters.restore(LetterFilter(queue="color-extraction")) == 2
    assert await operations.dead_letters.count() == 11


async def test_a_restore_is_counted_by_one_query(
    make_bench: MakeBench, operate: Operate, database: Database
) -> None:
    bench = make_bench()
    ids = await write(bench.letters, 10)
    operations = await operate(bench)
    await operations.dead_letters.discard(ids[:6])
    count, statements = operations.dead_letters.count_discarded, list[str]()

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        statements.append(statement)

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    assert await count([ids[7], ids[0], *ids[:6], ids[9]]) == (6, (ids[7], ids[9]))
    event.remove(database.engine.sync_engine, "before_cursor_execute", note)
    assert len([statement for statement in statements if "SELECT" in statement]) == 1
    assert await count(ALL_DEAD) == (6, ())
    assert await operations.dead_letters.restore(ids) == 6
    with pytest.raises(NotFoundError, match="999"):
        await count([ids[0], 999])


async def test_invalid_selections_are_refused(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench()
    ids = await write(bench.letters, 2)
    operations = await operate(bench)
    with pytest.raises(NotFoundError, match="999"):
        await operations.replays.create_plan([ids[0], 999])
    with pytest.raises(NotFoundError, match="999"):
        await operations.dead_letters.discard([999])
    with pytest.raises(UnknownQueueError):
        await operations.replays.create_plan(LetterFilter(queue="nowhere"))
    with pytest.raises(ConflictError, match="nothing to replay"):
        await operations.replays.create_plan(LetterFilter(error="never seen"))
    for verb in (operations.replays.create_plan, operations.replays.preview, operations.dead_letters.discard):
        with pytest.raises(InvalidFilterError, match="restore"):
            await verb(LetterFilter(state="discarded"))
    for missing in (0, -1, 77, 2**63, 2**70):
        with pytest.raises(NotFoundError):
            await operations.replays.get_plan(missing)
        with pytest.raises(NotFoundError):
            await operations.dead_letters.get(missing)
        with pytest.raises(NotFoundError):
            await operations.replays.run_plan(missing)
    with pytest.raises(InvalidFilterError, match="use a filter"):
        await operations.dead_letters.discard(list(range(10_001)))
    assert await operations.dead_letters.count() == 2
    assert await operations.replays.plans() == []


async def test_ids_that_are_named_twice_count_once(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench()
    ids = await write(bench.letters, 2)
    operations = await operate(bench)
    assert (await operations.replays.preview([ids[0], ids[0], ids[1]])).total == 2
    plan = await operations.replays.create_plan([ids[0], ids[0], ids[1]])
    assert plan.total == 2
    assert (await operations.replays.run_plan(plan.id)).ledger.sent == 2


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
    """Whoever replayed it was ended between the two steps: the end of the job says it all."""
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
    assert [(await operations.dead_letters.get(each)).state for each in ids] == ["replayed"] * 2
    assert (await operations.replays.run_plan(plan.id)).ledger.sent == 2
    assert (await operations.replays.get_plan(other.id)).ledger.waiting == 2, "it had no part in that"
    assert await bench.redis.llen(bench.queue.keys.queued) == 0


async def test_retention_runs_once_a_day_by_one_process(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench()
    old = {"queue_name": "color-extraction"}
    await bench.letters.record(
        [letter(f"old{n}", failed_at=NOW - timedelta(days=31, seconds=n), **old) for n in range(1_200)]
    )
    await bench.letters.record([letter("new", failed_at=NOW - timedelta(days=29), **old)])
    runs = [(await operate(bench)).dead_letters._retention for _ in range(3)]
    assert sorted(await asyncio.gather(*(retention.run_if_due() for retention in runs))) == [0, 0, 1_200]
    assert [each.uid for each in (await bench.letters.page()).items] == ["new"]
    assert await bench.letters.count(LetterFilter(archived=True)) == 1_200
    await bench.letters.record([letter("older", failed_at=NOW - timedelta(days=40), **old)])
    assert await runs[0].run_if_due() == 0, "until tomorrow"


async def test_an_id_that_was_archived_is_never_given_again(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench()
    ids = await write(bench.letters, 3)
    operations = await operate(bench)
    await operations.dead_letters.archive(days=0)
    await bench.letters.record([letter("next", queue_name="color-extraction")])
    (found,) = (await operations.dead_letters.page()).items
    assert found.id > max(ids)


async def _count(letters: DeadLetterRepository, number: int) -> bool:
    return await letters.count() == number


async def _sent(operations: Operations, plan_id: int, number: int) -> bool:
    return (await operations.replays.get_plan(plan_id)).ledger.sent >= number


async def _idle(operations: Operations, plan_id: int) -> bool:
    return not await operations.replays._replayer.active_ids([plan_id])


@pytest.mark.slow
async def test_a_large_canary_is_one_too(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(retry_delays=())
    await write(bench.letters, 2_600)
    operations = await operate(bench)
    plan = await operations.replays.create_plan(ALL_DEAD, ReplayOptions(canary=1_200))
    await operations.replays.start_plan(plan.id)
    await eventually(lambda: _sent(operations, plan.id, 1_200))
    await asyncio.sleep(1.2)
    await operations.replays.pause_plan(plan.id)
    assert (await operations.replays.get_plan(plan.id)).ledger.sent == 1_200


async def test_a_filter_that_asks_for_poison_means_poison(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(retry_delays=())
    first, second = await write(bench.letters, 2)
    again = {"queue_name": "color-extraction", "function": "extract_colors", "fingerprint": "f" * 16}
    await bench.letters.record([letter("again", replay_of=first, **again)])
    for _ in range(2):
        (newest, *_) = (await bench.letters.page()).items
        await bench.letters.record([letter(f"again{newest.id}", replay_of=newest.id, **again)])
    operations = await operate(bench)
    (poison, *_) = [each.id for each in (await operations.dead_letters.page(LetterFilter(poison=True))).items]
    for options in (ReplayOptions(), ReplayOptions(poison=True)):
        preview = await operations.replays.preview(LetterFilter(poison=True), options)
        assert preview.total == await operations.dead_letters.count(LetterFilter(poison=True))
        plan = await operations.replays.create_plan(preview.selection, options)
        assert poison in [item.letter_id for item in await operations.replays.plan_items(plan.id)]
        assert second not in [item.letter_id for item in await operations.replays.plan_items(plan.id)]
        await operations.replays.cancel_plan(plan.id)


async def test_a_plan_has_no_part_in_what_another_replays(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(retry_delays=())
    await write(bench.letters, 5)
    operations = await operate(bench)
    paused, other, single = [await operations.replays.create_plan(ALL_DEAD) for _ in range(3)]
    # As after a crash.
    await operations.replays._plans.transition(paused.id, "running", from_states=["frozen"])
    await Numbers(fails=lambda number: True).start(bench)
    await operations.replays.run_plan(other.id)
    assert (await _settled(operations, other.id)).died == 5
    for plan in (paused, single):
        done = await operations.replays.run_plan(plan.id)
        assert (done.state, done.ledger.skipped, done.ledger.died) == ("done", 5, 0)


async def test_of_several_that_start_a_plan_one_does(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(retry_delays=())
    await write(bench.letters, 10)
    operations = await operate(bench)
    plan = await operations.replays.create_plan(ALL_DEAD, ReplayOptions(rate=5))
    started = await asyncio.gather(
        *(operations.replays.start_plan(plan.id) for _ in range(4)), return_exceptions=True
    )
    assert sorted(type(each).__name__ for each in started) == ["ConflictError"] * 3 + ["Plan"]
    await eventually(lambda: _sent(operations, plan.id, 10))


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
    with pytest.raises(ConflictError, match="enqueued by another act"):
        await operations.replays.replay(letter_id, {"number": 2})
    assert (await operations.dead_letters.get(letter_id)).state == "replayed"
    assert await bench.redis.llen(bench.queue.keys.queued) == 1


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


async def test_a_preview_counts_the_letters_of_more_groups_than_it_shows(
    make_bench: MakeBench, operate: Operate
) -> None:
    bench = make_bench()
    own = {"queue_name": "color-extraction"}
    await bench.letters.record([letter(f"u{n}", fingerprint=f"{n:016x}", **own) for n in range(1_100)])
    operations = await operate(bench)
    for wanted in (ALL_DEAD, LetterFilter(queue="color-extraction")):
        preview = await operations.replays.preview(wanted)
        assert (preview.total, preview.queues) == (1_100, {"color-extraction": 1_100})


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
