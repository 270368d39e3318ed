"""Acts of operators and the life of plans are events, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from storage.database.engine import Database
from storage.errors import InvalidCursorError
from storage.repositories.events import Event, EventFilter, EventRepository
from tests.support.databases import open_database
from tests.support.engine import Bench, MakeBench
from tests.support.operations import BuiltOperations, build_operations
from tests.support.plans import Numbers, write
from tests.support.waiting import eventually
from workers.errors import ConflictError, UnknownQueueError
from workers.operations.operations import ALL_DEAD, ReplayOptions

ACTOR = "ops@box-2"


@pytest.fixture
async def database(migrated_database_url: str) -> AsyncIterator[Database]:
    async with open_database(migrated_database_url) as database:
        yield database


@pytest.fixture
def events(database: Database) -> EventRepository:
    return EventRepository(database)


@pytest.fixture
def bench(make_bench: MakeBench) -> Bench:
    return make_bench(retry_delays=())


@pytest.fixture
async def operations(bench: Bench, database: Database) -> AsyncIterator[BuiltOperations]:
    operations = build_operations(
        bench.url,
        policies=[bench.policy],
        schemas={},
        database=database,
        letters=bench.letters,
        actor=ACTOR,
    )
    yield operations
    await operations.close()


async def _recorded(events: EventRepository) -> list[Event]:
    """All events but new groups, in the order of their recording."""
    return [event for event in await events.recorded_after(0) if event.kind != "new-group"]


async def test_what_operators_change_is_an_event(
    bench: Bench, operations: BuiltOperations, events: EventRepository
) -> None:
    queue = bench.policy.name
    ids = await write(bench.letters, 3)
    await operations.queues.pause(queue, "new model")
    await operations.queues.resume(queue)
    await operations.queues.resume(queue)  # it was not paused
    await operations.dead_letters.discard(ids[:2], "known")
    await operations.dead_letters.restore(ids)
    await operations.replays.replay(ids[0])
    with pytest.raises(ConflictError):
        await operations.replays.replay(ids[0])
    await operations.cache.evict(["no:such:entry"])
    assert [event.message for event in await _recorded(events)] == [
        f"{ACTOR} paused {queue}: new model",
        f"{ACTOR} resumed {queue}",
        f"{ACTOR} discarded 2 dead letters: known",
        f"{ACTOR} restored 2 dead letters",
        f"{ACTOR} replayed dead letter {ids[0]}",
    ]
    paused = (await _recorded(events))[0]
    assert (paused.queue, paused.actor, paused.kind) == (queue, ACTOR, "queue-paused")


async def test_a_plan_is_created_started_halts_resumes_and_ends(
    bench: Bench, operations: BuiltOperations, events: EventRepository
) -> None:
    await write(bench.letters, 20)
    await Numbers(lambda number: True).start(bench)
    plan = await operations.replays.create_plan(ALL_DEAD, ReplayOptions(canary=3))
    assert (await operations.replays.run_plan(plan.id)).state == "halted"
    assert (await operations.replays.run_plan(plan.id, halt=1.0)).state == "done"

    async def kinds() -> list[str] | None:
        found = [event.kind for event in await _recorded(events)]
        return found if len(found) == 5 else None

    assert sorted(await eventually(kinds)) == [  # those of a start are written in the background
        "plan-created",
        "plan-ended",
        "plan-halted",
        "plan-started",
        "plan-started",
    ]
    found = {event.kind: event for event in await _recorded(events)}
    assert {event.subject for event in found.values()} == {str(plan.id)}
    assert found["plan-created"].message == f"{ACTOR} created plan {plan.id} of 20 dead letters"
    assert found["plan-halted"].message.startswith(f"plan {plan.id} halted by itself: ")
    assert found["plan-started"].message == f"{ACTOR} resumed plan {plan.id}: 17 of 20 dead letters wait"


async def test_a_plan_whose_process_ends_is_interrupted(
    bench: Bench, operations: BuiltOperations, events: EventRepository
) -> None:
    await write(bench.letters, 5)
    plan = await operations.replays.create_plan(ALL_DEAD, ReplayOptions(rate=0.5))
    await operations.replays.start_plan(plan.id)
    await operations.replays.close()
    last = (await _recorded(events))[-1]
    assert (last.kind, last.subject) == ("plan-interrupted", str(plan.id))


async def test_a_plan_that_is_cancelled_is_one_event(
    bench: Bench, operations: BuiltOperations, events: EventRepository
) -> None:
    await write(bench.letters, 5)
    plan = await operations.replays.create_plan(ALL_DEAD, ReplayOptions(rate=0.5))
    await operations.replays.start_plan(plan.id)
    await operations.replays.cancel_plan(plan.id)
    await eventually(lambda: not operations.replays._running)
    await asyncio.sleep(0)
    kinds = [event.kind for event in await _recorded(events)]
    assert sorted(kinds) == ["plan-cancelled", "plan-created", "plan-started"]


async def test_events_are_read_by_page_and_followed(
    bench: Bench, operations: BuiltOperations, events: EventRepository
) -> None:
    queue = bench.policy.name
    follower = operations.events.follow(EventFilter(queue=queue))
    assert await follower.start(10) == []
    await operations.queues.pause(queue)
    assert [event.kind for event in await follower.poll()] == ["queue-paused"]
    await operations.queues.resume(queue)
    assert [event.kind for event in await follower.poll()] == ["queue-resumed"]
    page = await operations.events.page(limit=1)
    assert [event.kind for event in page.items] == ["queue-resumed"]
    rest = await operations.events.page(cursor=page.next)
    assert [event.kind for event in rest.items] == ["queue-paused"]
    with pytest.raises(UnknownQueueError):
        await operations.events.page(EventFilter(queue="colour"))
    with pytest.raises(UnknownQueueError):
        operations.events.follow(EventFilter(queue="colour"))
    with pytest.raises(InvalidCursorError):
        await operations.events.page(cursor="x")
