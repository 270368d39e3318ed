"""Worker processes write what happens to them, once however many see it, on both databases."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from storage.database.engine import Database
from storage.database.events import NewEvent
from storage.dead_letters.repository import DeadLetterRepository
from storage.errors import DatabaseUnavailableError
from storage.repositories.events import Event, EventFilter, EventRepository
from tests.support.databases import open_database
from tests.support.engine import Bench, MakeBench
from tests.support.letters import letter
from tests.support.processes import Journal, Spawner
from tests.support.waiting import eventually
from workers.dead_letters.retention import Expiring, Retention
from workers.engine.queue import JobQueue
from workers.process import event_log
from workers.process.event_log import EventLog

EVENT = NewEvent("queue-paused", "paused")


@pytest.fixture
async def database(migrated_database_url: str) -> AsyncIterator[Database]:
    async with open_database(migrated_database_url) as database:
        yield database


@pytest.fixture
def events(database: Database) -> EventRepository:
    return EventRepository(database)


@pytest.fixture
async def spawn(redis_url: str, migrated_database_url: str, journal: Journal) -> AsyncIterator[Spawner]:
    spawner = Spawner(
        redis=redis_url,
        database=migrated_database_url,
        journal=str(journal.path),
        release="v7",
        retry_delays=[],
    )
    yield spawner
    await spawner.end()


async def _kinds(events: EventRepository) -> Counter[str]:
    return Counter(event.kind for event in (await events.page(limit=1_000)).items)


async def _one(events: EventRepository, kind: str) -> Event:
    (event,) = (await events.page(EventFilter.from_options(kind=kind))).items
    return event


async def _dead(bench: Bench, number: int) -> bool:
    return await bench.letters.count() == number


@pytest.mark.slow
async def test_a_killed_worker_a_new_group_and_a_release_are_one_event_each(
    make_bench: MakeBench,
    spawn: Spawner,
    journal: Journal,
    events: EventRepository,
    capfd: pytest.CaptureFixture[str],
) -> None:
    bench = make_bench(retry_delays=())
    victim = await spawn()
    jobs = [await bench.stock.enqueue(bench.policy.function, seconds=60) for _ in range(2)]
    assert all(jobs)
    await eventually(lambda: len(journal.events("start")) == 2)
    others = [await spawn(), await spawn()]
    victim.kill()  # its jobs have no attempt left, so they are dead letters
    await eventually(lambda: _dead(bench, 2), within=30)
    for _ in range(20):
        await bench.stock.enqueue(bench.policy.function, fail=True)
    await eventually(lambda: _dead(bench, 22), within=30)
    for process in others:
        process.terminate()
        await process.wait()
    kinds = await _kinds(events)
    # If the database takes longer than a process that ends waits, the event is in its log instead.
    logged = capfd.readouterr().err.count("kind=worker-drained")
    assert kinds.pop("worker-drained", 0) + logged == 2
    assert kinds == {"new-release": 1, "worker-started": 3, "worker-lost": 1, "new-group": 2}
    assert (await _one(events, "new-release")).subject == "v7"
    lost = await _one(events, "worker-lost")
    assert "died with jobs of color-extraction" in lost.message
    assert lost.detail["release"] == "v7"
    releases = {item.release for item in (await bench.letters.page()).items}
    assert releases == {"v7"}
    (group, _) = await bench.letters.groups()
    assert group.releases == ("v7",)


@pytest.mark.slow
async def test_a_frozen_process_that_runs_again_is_an_event(
    make_bench: MakeBench, spawn: Spawner, journal: Journal, events: EventRepository
) -> None:
    bench = make_bench()
    frozen = await spawn()
    await bench.stock.enqueue("extract_colors", timeout=0, seconds=60)
    await eventually(lambda: journal.events("start"))
    await spawn()
    frozen.send_signal(signal.SIGSTOP)

    async def has(kind: str) -> bool:
        return (await _kinds(events))[kind] == 1

    await eventually(lambda: has("worker-lost"), within=40)
    assert not await has("worker-returned")
    frozen.send_signal(signal.SIGCONT)
    await eventually(lambda: has("worker-returned"), within=20)
    lost, returned = await _one(events, "worker-lost"), await _one(events, "worker-returned")
    assert returned.subject == lost.subject
    assert f"pid {frozen.pid}) is back" in returned.message


async def test_the_same_new_group_in_three_processes_is_one_event(
    database: Database, events: EventRepository
) -> None:
    first = [letter(f"a{number}", fingerprint=f"{number % 3:016x}") for number in range(60)]
    stores = [DeadLetterRepository(database) for _ in range(3)]
    await asyncio.gather(*(stores[n].record(first[n::3]) for n in range(3)))
    assert await _kinds(events) == {"new-group": 3}
    await stores[0].record([letter("b", fingerprint="0" * 16)])
    await stores[0].archive(datetime(2030, 1, 1, tzinfo=UTC))
    await stores[0].record([letter("c", fingerprint="0" * 16)])  # others of it are in the archive
    assert await _kinds(events) == {"new-group": 3}


async def test_a_new_group_of_a_refused_batch_is_one_event(
    database: Database, events: EventRepository
) -> None:
    store = DeadLetterRepository(database)
    whole = letter("good")
    odd = letter("odd", fingerprint="e" * 16, attempts="many", job_data={"x": object()})  # type: ignore[arg-type]
    assert await store.record([whole, odd]) == 2
    assert await store.record([whole, odd]) == 0
    found = (await events.page()).items
    assert {event.subject for event in found} == {"f" * 16, "e" * 16}
    assert len(found) == 2
    assert "new group: ingest_weather: RuntimeError: 503" in found[0].message


class _Unavailable(EventRepository):
    """Refuses at once, or never answers."""

    def __init__(self, *, hangs: bool) -> None:
        self._hangs = hangs

    async def record(self, events: Sequence[NewEvent]) -> int:
        if self._hangs:
            await asyncio.sleep(3600)
        raise DatabaseUnavailableError("postgresql://host does not answer")


@pytest.mark.parametrize("hangs", [False, True])
async def test_an_event_that_cannot_be_written_is_logged(
    monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    monkeypatch.setattr(event_log, "_WRITE_SECONDS", 0.05)
    writer = EventLog(_Unavailable(hangs=hangs))
    with capture_logs() as logged:
        writer.emit(EVENT)
        writer.emit(EVENT)
        await writer.close()
    lines = [line for line in logged if line["event"] == "an event is recorded in this log only"]
    assert [line["message"] for line in lines] == ["paused", "paused"]
    assert "answer" in lines[0]["error"]


async def test_events_are_written_in_the_order_in_which_they_happened(events: EventRepository) -> None:
    writer = EventLog(events)
    for number in range(250):
        writer.emit(NewEvent("queue-paused", f"e{number}"))
    await writer.close()
    recorded = await events.recorded_after(0)
    assert [event.message for event in recorded] == [f"e{number}" for number in range(250)]


async def test_old_events_are_deleted_by_the_daily_run(
    redis: Redis, database: Database, events: EventRepository
) -> None:
    now = datetime.now(UTC)
    await events.record(
        [NewEvent("queue-paused", f"{days}", at=now - timedelta(days=days)) for days in (31, 40, 29, 0)]
    )
    expiring = [Expiring(events.delete, days=30)]
    await Retention(redis, DeadLetterRepository(database), expiring).run_if_due()
    assert [event.message for event in (await events.page()).items] == ["0", "29"]


async def test_repairs_are_one_event_a_minute(
    make_bench: MakeBench, database: Database, events: EventRepository
) -> None:
    bench = make_bench()
    writer = EventLog(events)
    queue = JobQueue(bench.redis, bench.policy, emit=writer.emit)
    for _ in range(3):
        await bench.redis.delete(bench.queue.keys.queued)
        await bench.redis.set(bench.queue.keys.queued, "a string")
        repairs = await queue.reconciler.reconcile(now=True)
        assert repairs == {"type": 1}
    await writer.close()
    found = [event for event in (await events.page()).items if event.kind == "keys-repaired"]
    assert 1 <= len(found) <= 2  # the minute may have changed
    assert (found[-1].queue, found[-1].detail) == (bench.policy.name, {"type": 1})
    assert found[-1].message.endswith("were repaired: 1 type")
