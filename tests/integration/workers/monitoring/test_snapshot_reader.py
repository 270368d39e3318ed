"""Snapshots of real servers, some of which hang or hold what others wrote."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from storage.database.engine import Database
from storage.dead_letters.repository import DeadLetterRepository
from storage.errors import DatabaseUnavailableError
from tests.support.waiting import eventually
from workers.engine.keys import BEATS, LETTERS, WORKERS, QueueKeys
from workers.engine.policy import COLOR, DEFAULT_POLICIES
from workers.monitoring import background_value as look
from workers.monitoring import snapshot_reader as observer
from workers.monitoring.alert_rules import Thresholds
from workers.monitoring.snapshot import QueueSnapshot, Snapshot
from workers.monitoring.snapshot_reader import SnapshotReader

KEYS = QueueKeys.of(COLOR)


class Table:
    """Counts its letters, or hangs, as a database does whose machine stands still."""

    def __init__(self) -> None:
        self.hangs = False
        self.calls = 0

    async def count(self) -> int:
        self.calls += 1
        if self.hangs:
            await asyncio.Event().wait()
        return 7


@dataclass
class Seen:
    """An observer of one queue, and the table whose letters it counts."""

    observer: SnapshotReader
    table: Table = field(default_factory=Table)

    async def now(self) -> Snapshot:
        return await self.observer.snapshot(loop_lag=None, drain_deadline_in=None)

    async def queue(self) -> QueueSnapshot:
        (found,) = (await self.now()).queues
        return found


@pytest.fixture
async def seen(redis: Redis, redis_url: str, database: Database) -> AsyncIterator[Seen]:
    table = Table()
    made = SnapshotReader(
        redis,
        redis_url,
        [DEFAULT_POLICIES[COLOR]],
        database,
        cast(DeadLetterRepository, table),
        environment="test",
        weather_provider="offline",
    )
    yield Seen(made, table)
    await made.close()


async def test_the_limits_in_force_are_those_of_the_settings(
    redis: Redis, redis_url: str, database: Database
) -> None:
    limits = {("backlog", COLOR): 20.0, ("failing", None): 0.1, ("stalled", None): 30.0}
    made = SnapshotReader(
        redis,
        redis_url,
        [DEFAULT_POLICIES[COLOR]],
        database,
        cast(DeadLetterRepository, Table()),
        environment="test",
        weather_provider="offline",
        thresholds=Thresholds({**limits, ("redis_memory", None): 0.9}),
    )
    snapshot = await made.snapshot(loop_lag=None, drain_deadline_in=None)
    (queue,) = snapshot.queues
    assert (queue.depth_limit, queue.failure_limit, queue.stalled_limit) == (20, 0.1, 30)
    assert snapshot.redis.nearly_full == 0.9
    await made.close()


async def test_the_first_snapshot_is_complete(seen: Seen) -> None:
    first = await seen.now()
    assert first.dead_letters == 7
    assert first.redis.version
    assert first.redis.memory_used
    assert (first.redis.error, first.database.error) == (None, None)


async def test_a_snapshot_with_alerts_is_a_reason_to_check_them_for_half_a_minute(
    seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not seen.observer.saw_alerts
    assert [alert.name for alert in (await seen.now()).alerts] == ["no_worker"]
    assert seen.observer.saw_alerts
    monkeypatch.setattr(seen.observer, "_last_at", time.monotonic() - 31)
    assert not seen.observer.saw_alerts


async def test_a_backlog_that_ends_and_returns_at_once_is_new_to_every_process_and_to_a_single_snapshot(
    seen: Seen, redis: Redis, redis_url: str, database: Database
) -> None:
    """The history has a point each ten seconds: it shows none of that."""
    table = cast(DeadLetterRepository, Table())

    def make() -> SnapshotReader:
        policies = [DEFAULT_POLICIES[COLOR]]
        return SnapshotReader(
            redis, redis_url, policies, database, table, environment="test", weather_provider="offline"
        )

    async def backlogs(reader: SnapshotReader) -> list[tuple[str, float | None]]:
        alerts = (await reader.take()).alerts
        return [(alert.state, alert.since) for alert in alerts if alert.name == "backlog"]

    seconds, _ = await redis.time()
    for at_ms in ((seconds - 90) * 1000, (seconds - 10) * 1000):
        await redis.zadd(f"{KEYS.history}10", {json.dumps([at_ms, 120, 0]): at_ms})
    jobs = [f"saq:job:{COLOR}:{number}" for number in range(120)]
    await redis.rpush(KEYS.queued, *jobs)
    other, single = make(), make()
    try:
        for reader in (seen.observer, other):
            assert [state for state, _ in await backlogs(reader)] == ["firing"]
        await redis.ltrim(KEYS.queued, 0, 79)
        assert await backlogs(seen.observer) == []
        for depth, states in ((90, []), (120, ["pending"])):
            await redis.rpush(KEYS.queued, *jobs[await redis.llen(KEYS.queued) : depth])
            found = [await backlogs(reader) for reader in (seen.observer, other, single)]
            assert [state for state, _ in found[0]] == states
            assert found == [found[0]] * 3
    finally:
        await other.close()
        await single.close()


@pytest.mark.slow
async def test_a_hanging_database_is_unavailable_and_delays_no_snapshot(
    seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "TIMEOUT_SECONDS", 2.0)
    monkeypatch.setattr(look, "REFRESH_SECONDS", 0.0)
    await seen.now()
    seen.table.hangs = True
    began = time.monotonic()
    for _ in range(5):
        last = await seen.now()
    assert time.monotonic() - began < 2.0
    assert seen.table.calls == 2  # one at a time

    async def away() -> Snapshot | None:
        last = await seen.now()
        return last if last.database.error else None

    last = await eventually(away)
    assert last.database.error == "no answer for 2 s"
    assert last.dead_letters is None
    assert ("database", "the database does not answer: no answer for 2 s") in [
        (alert.name, alert.message) for alert in last.alerts
    ]
    seen.table.hangs = False
    seen.observer.invalidate_dead_letters()

    async def back() -> bool:
        last = await seen.now()
        return last.database.error is None and last.dead_letters == 7

    await eventually(back)


async def test_a_database_that_answers_and_refuses_writes_is_an_alert_until_it_takes_them(
    redis: Redis, redis_url: str, migrated_sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "REFRESH_SECONDS", 0.0)
    database = Database(migrated_sqlite_url, busy_seconds=0.1)
    made = SnapshotReader(
        redis,
        redis_url,
        [DEFAULT_POLICIES[COLOR]],
        database,
        DeadLetterRepository(database),
        environment="test",
        weather_provider="offline",
    )
    async with database.begin():  # as a program that keeps the lock of SQLite
        snapshot = await made.snapshot(loop_lag=None, drain_deadline_in=None)
        assert (snapshot.database.error, snapshot.dead_letters) == (None, 0)
        assert ("database", "the database refuses writes: database is locked") in [
            (alert.name, alert.message) for alert in snapshot.alerts
        ]

    async def takes_writes() -> bool:
        last = await made.snapshot(loop_lag=None, drain_deadline_in=None)
        return last.database.problem is None

    await eventually(takes_writes)
    await made.close()
    await database.close()


async def test_a_hanging_first_query_delays_the_first_snapshot_for_its_timeout_only(
    seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "TIMEOUT_SECONDS", 0.2)
    seen.table.hangs = True
    async with asyncio.timeout(10):
        assert (await seen.now()).database.error == "no answer for 0.2 s"


async def test_a_query_that_cannot_be_cancelled_counts_as_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(look, "TIMEOUT_SECONDS", 0.1)
    release = asyncio.Event()

    async def stubborn() -> int:
        try:
            await asyncio.Event().wait()
        finally:
            await release.wait()
        return 0

    looked = look.BackgroundValue(stubborn)
    looked.refresh_if_due()
    async with asyncio.timeout(10):
        await looked.ready.wait()
    assert looked.error == "no answer for 0.1 s"
    release.set()
    await looked.close()


async def test_close_ends_refreshes_in_the_background(seen: Seen) -> None:
    await seen.now()
    seen.table.hangs = True
    seen.observer.invalidate_dead_letters()
    before = asyncio.all_tasks()
    await seen.now()
    await seen.observer.close()
    assert asyncio.all_tasks() == before
    seen.table.hangs = False
    await seen.now()
    assert asyncio.all_tasks() == before


async def test_whatever_a_driver_raises_is_an_error_in_the_snapshot_and_no_defect(
    seen: Seen, database: Database
) -> None:
    async def refuse() -> int:
        raise KeyError("no such\ntable")

    seen.observer._dead_letters = look.BackgroundValue(refuse)
    assert (await seen.now()).database.error == "'no such\\ntable'"


async def test_the_error_of_a_database_that_is_marked_unavailable_has_its_url_only_once(
    seen: Seen, database: Database
) -> None:
    error = DatabaseUnavailableError(
        f"{database.safe_url} does not answer: refused", fix="start it", cause="refused"
    )
    database.mark_unavailable(error)
    seen.observer._dead_letters = look.BackgroundValue(
        DeadLetterRepository(database).count, observer._describe_database_error
    )
    snapshot = await seen.now()
    assert (snapshot.database.url, snapshot.database.error) == (database.safe_url, "refused: start it")
    with pytest.raises(DatabaseUnavailableError, match=r" does not answer: refused: start it$"):
        await database.ping()


async def test_workers_and_queues_keep_their_last_state_while_redis_is_down(
    seen: Seen, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds, _ = await redis.time()
    await redis.hset(WORKERS, "w1", _about(pid=7))
    await redis.zadd(BEATS, {"w1": seconds * 1000})
    before = await seen.now()
    assert [worker.pid for worker in before.workers] == [7]

    async def away(**_: Any) -> Any:
        raise ConnectionError("refused")

    monkeypatch.setattr(seen.observer._views[0].reader, "read", away)
    after = await seen.now()
    assert after.redis.error == "ConnectionError: refused"
    assert (after.workers, after.queues) == (before.workers, before.queues)
    assert seen.observer._views[0]._failed_at > 0
    assert [alert.name for alert in after.alerts] == ["redis"]


@pytest.mark.parametrize(
    ("error", "refusal", "timed_out"),
    [
        (ConnectionError("refused"), None, False),
        (TimeoutError(), None, True),
        (RedisTimeoutError("Timeout reading from 10.0.0.7:6379"), None, True),
        (ResponseError("OOM command not allowed"), "is full", False),
    ],
)
async def test_a_snapshot_has_the_parts_of_the_error_of_redis(
    seen: Seen, monkeypatch: pytest.MonkeyPatch, error: Exception, refusal: str | None, timed_out: bool
) -> None:
    async def fail(**_: Any) -> Any:
        raise error

    monkeypatch.setattr(seen.observer._views[0].reader, "read", fail)
    redis = (await seen.now()).redis
    assert (redis.refusal, redis.timed_out) == (refusal, timed_out)


@pytest.mark.parametrize(
    "record",
    [
        b'{"queued": 1' + b"0" * 400 + b"}",
        b'{"queued": NaN}',
        b'{"queued": 1e999}',
        b'{"queued": "soon"}',
        b'{"queued": null, "scheduled": []}',
        b'{"queued": -1}',
        b"{}",
        b"[1]",
        b"\xff",
        b"[" * 100_000,
    ],
)
async def test_a_job_whose_record_has_no_time_has_no_age(seen: Seen, redis: Redis, record: bytes) -> None:
    await redis.set(f"saq:job:{COLOR}:odd", record)
    await redis.rpush(KEYS.queued, f"saq:job:{COLOR}:odd")
    queue = await seen.queue()
    assert (queue.depth, queue.oldest_age) == (1, None)


async def test_a_record_with_one_odd_field_still_has_the_age_of_its_job(seen: Seen, redis: Redis) -> None:
    seconds, _ = await redis.time()
    record = f'{{"queued": {(seconds - 30) * 1000}, "touched": 1{"0" * 400}, "scheduled": NaN}}'
    await redis.set(f"saq:job:{COLOR}:odd", record)
    await redis.rpush(KEYS.queued, f"saq:job:{COLOR}:odd")
    age = (await seen.queue()).oldest_age
    assert age is not None
    assert 29 < age < 60


async def test_odd_figures_count_as_unknown(seen: Seen, redis: Redis) -> None:
    seconds, _ = await redis.time()
    odd = {
        "completed": "many",
        "failed": "1e999",
        "depth": "nan",
        "w²": 1,
        "": 1,
        "w999": 1,
        "rx": 1,
        "w3": 2,
    }
    await redis.hset(KEYS.totals, mapping=odd)
    await redis.hset(KEYS.totals, b"\xff", b"\xff")
    odd_points = [
        b"",
        b"\xff",
        b"[]",
        b"[1]",
        b"{}",
        b"7",
        b'[1, 2, 3, "completed"]',
        b'[1, -2, 3, "failed", 1e9]',
    ]
    await redis.zadd(f"{KEYS.history}10", dict.fromkeys(odd_points, (seconds - 5) * 1000))
    await redis.zadd(
        f"{KEYS.history}10", {f'[{(seconds - 9) * 1000}, 0, 0, "w999", 1, "w3", 1]': (seconds - 9) * 1000}
    )
    await redis.hset(KEYS.pause, mapping={"by": b"\xff", "since": "yesterday"})
    await redis.zadd(LETTERS, {"letter": "-inf"})
    last = await seen.now()
    (queue,) = last.queues
    assert (queue.completed, queue.failed, queue.failure_rate) == (0, 0, None)
    assert queue.wait.p50 is not None
    assert queue.run.p50 is None
    assert queue.paused is not None
    assert queue.paused.since is None
    assert (last.letters_waiting, last.letters_oldest_age) == (1, None)


@pytest.mark.parametrize(
    "about",
    [b"", b"\xff", b"[]", b"7", b"{}", json.dumps({"forget": "late"}).encode(), b"[" * 100_000],
)
async def test_a_worker_whose_record_cannot_be_read_is_left_out(
    seen: Seen, redis: Redis, about: bytes
) -> None:
    seconds, _ = await redis.time()
    await redis.hset(WORKERS, mapping={"odd": about, "good": _about(pid=3), "at:odd": "inf", "at:good": "x"})
    await redis.zadd(BEATS, {"odd": seconds * 1000, "good": seconds * 1000})
    assert [worker.pid for worker in (await seen.now()).workers] == [3]


@pytest.mark.parametrize("off_by", [-3600, -180, 60, 3600])
async def test_a_wrong_clock_neither_hides_the_last_minutes_nor_remembers_the_present_one(
    seen: Seen, redis: Redis, monkeypatch: pytest.MonkeyPatch, off_by: int
) -> None:
    real = time.time
    monkeypatch.setattr(observer.time, "time", lambda: real() + off_by)
    seconds, _ = await redis.time()
    while seconds % 60 > 50:  # the minute must not end meanwhile
        await asyncio.sleep(1)
        seconds, _ = await redis.time()
    minute = seconds // 60
    for ago, completed in ((3, 0), (2, 13), (1, 25), (0, 36)):
        at = (minute - ago) * 60_000
        await redis.zadd(f"{KEYS.history}60", {f'[{at}, 5, 0, "completed", {completed}]': at})
    await redis.hset(KEYS.totals, "completed", 46)
    assert (await seen.queue()).throughput_history[-4:] == (13, 12, 11, 10)
    await redis.hset(KEYS.totals, "completed", 86)
    assert (await seen.queue()).throughput_history[-4:] == (13, 12, 11, 50)


def _about(**fields: Any) -> bytes:
    base = {"host": "box", "pid": 1, "version": "1", "queues": [COLOR], "in_flight": 0, "draining": False}
    return json.dumps(base | {"forget": 60} | fields).encode()
