"""Moments of a cluster, made up, for screens that must always look the same."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from tests.support.fake_jobs import CannedJobs, CannedSchedules, job
from tests.support.fake_signals import CannedAlerts, CannedEvents, CannedHistory
from tests.support.fake_workers import CannedWorkers
from workers.engine.attempt_log import LogLine
from workers.engine.histogram import Percentiles
from workers.engine.policy import DEFAULT_POLICIES, QueuePolicy
from workers.errors import NotFoundError, ReadOnlyError, UnknownQueueError
from workers.monitoring.snapshot import (
    Alert,
    DatabaseSnapshot,
    Pause,
    QueueSnapshot,
    RedisSnapshot,
    Snapshot,
    WorkerSnapshot,
)
from workers.operations.cache import owner_of
from workers.operations.operations import (
    ALL_DEAD,
    NEWEST_FIRST,
    POISON_DEATHS,
    CacheEntry,
    CacheOverview,
    CachePage,
    CacheStats,
    DeadLetter,
    FailureGroup,
    Ledger,
    LetterFilter,
    LetterOrder,
    Page,
    Plan,
    PlanItem,
    Preview,
    ReplayOptions,
    Selection,
)

T = TypeVar("T")
NOW = datetime(2026, 3, 1, 14, 32, 7, tzinfo=UTC).timestamp()
RISE = tuple([None] * 20 + [n * n // 12 for n in range(40)])
NASTY = "[red]not markup[/] \x1b[31mnot red\x1b[0m \x07 ‮ tab\there"


def queue(name: str, **fields: Any) -> QueueSnapshot:
    policy = DEFAULT_POLICIES[name]
    base = QueueSnapshot(
        name=name,
        function=policy.function,
        depth=0,
        recent_attempts=200,
        scheduled=0,
        oldest_age=None,
        in_flight=2,
        concurrency=policy.concurrency,
        rate_limit=policy.rate_limit,
        rate_used=12 if policy.rate_limit else 0,
        next_start_in=None,
        wait=Percentiles(0.004, 0.011, 0.02),
        run=Percentiles(0.084, 0.31, 0.9),
        failure_rate=0.004,
        throughput=4.4,
        completed=1200,
        failed=5,
        retried=4,
        dead_lettered=1,
        depth_history=RISE,
        throughput_history=RISE,
        paused=None,
        workers=1,
    )
    return replace(base, **fields)


def worker(number: int) -> WorkerSnapshot:
    return WorkerSnapshot(
        f"w{number}", "box-2", 4000 + number, "0.1.0", tuple(DEFAULT_POLICIES), 3, 1.2, False
    )


HEALTHY = Snapshot(
    taken_at=NOW,
    environment="prod",
    queues=tuple(queue(name) for name in DEFAULT_POLICIES),
    workers=(worker(1), worker(2), worker(3)),
    redis=RedisSnapshot("redis://box-1:6379/0", None, "7.4.1", 212 * 2**20, 2**30),
    database=DatabaseSnapshot("postgresql://box-1/couturecast", None),
    dead_letters=2,
    letters_waiting=0,
    letters_oldest_age=None,
    loop_lag=0.002,
    weather_provider="openweather",
)
IDLE = replace(
    HEALTHY,
    environment="local",
    weather_provider="offline",
    dead_letters=0,
    queues=tuple(
        queue(
            name,
            in_flight=0,
            wait=Percentiles(),
            run=Percentiles(),
            failure_rate=None,
            throughput=0.0,
            depth_history=(None,) * 59 + (0,),
            throughput_history=(None,) * 60,
        )
        for name in DEFAULT_POLICIES
    ),
)
BREACHED = replace(
    HEALTHY,
    queues=(
        queue(
            "weather-ingestion", depth=132, oldest_age=118.0, in_flight=10, rate_used=60, next_start_in=3.0
        ),
        queue("alert-fanout", failure_rate=0.0),
        queue("color-extraction", depth=12, oldest_age=3.1, in_flight=5),
        queue(
            "moderation-review",
            depth=7,
            oldest_age=720.0,
            in_flight=0,
            failure_rate=0.071,
            paused=Pause("ops@box-2", "model rollout [bold]\x1b[31m", NOW - 720),
        ),
    ),
    alerts=(
        Alert("moderation-review", "failing", "7.1 % of attempts failed, limit 5 %"),
        Alert("weather-ingestion", "backlog", "132 queued, limit 100"),
    ),
)
AWAY = replace(
    HEALTHY,
    redis=RedisSnapshot("redis://box-1:6379/0", "ConnectionError: connection refused"),
    database=DatabaseSnapshot("postgresql://box-1/couturecast", "connection refused"),
    dead_letters=None,
    alerts=(
        Alert(None, "redis", "Redis does not answer: ConnectionError: connection refused"),
        Alert(None, "database", "the database does not answer: connection refused"),
    ),
)
DRAINING = replace(HEALTHY, drain_deadline_in=22.0)


def letter(number: int, **fields: Any) -> DeadLetter:
    at = NOW - 60 * number
    attempts: list[Mapping[str, Any]] = [
        {
            "attempt": attempt,
            "at": at - 30 + attempt,
            "worker": "w1",
            "error_type": "WeatherUnavailableError",
            "message": "503 from the weather service",
            "traceback": 'Traceback (most recent call last):\n  File "weather.py", line 7, in fetch\n'
            f"WeatherUnavailableError: 503 {NASTY}",
            "run_seconds": 0.31,
        }
        for attempt in (1, 2, 3, 4)
    ]
    base: dict[str, Any] = {
        "id": number,
        "uid": f"u{number}",
        "queue_name": "weather-ingestion",
        "job_id": f"wx-lisboa-{number}",
        "function": "ingest_weather",
        "job_data": {"kwargs": {"location_id": "lisboa", "note": NASTY}},
        "error_type": "workers.handlers.weather.WeatherUnavailableError",
        "error_message": f"503 from the weather service {NASTY}",
        "traceback": None,
        "fingerprint": "f" * 16,
        "attempts": 4,
        "attempt_errors": attempts,
        "worker": "w1",
        "enqueued_at": datetime.fromtimestamp(at - 40, UTC),
        "failed_at": datetime.fromtimestamp(at, UTC),
        "replay_of": None,
        "state": "dead",
        "replay_count": 0,
        "replayed_at": None,
        "root_id": None,
        "deaths": 1,
    }
    return DeadLetter(**(base | fields))


class CannedOperations:
    """Answers with one snapshot and some letters, and keeps what it was asked to do."""

    def __init__(self, snapshot: Snapshot, letters: int = 2) -> None:
        self.now = snapshot
        self.done: list[tuple[Any, ...]] = []
        self.letters = CannedLetters(self, [letter(number) for number in range(1, letters + 1)])
        self.dead_letters = self.replays = self.letters
        self.cache = CannedCache(self)
        self.alerts = CannedAlerts(self.done)
        self.events = CannedEvents()
        self.workers = CannedWorkers(self.done)
        self.history = CannedHistory(self)
        self.jobs = CannedJobs(self.done)
        self.schedules = CannedSchedules(self.done)
        self.notification_counts: dict[str, int] = {}
        self.has_workers = True
        self.read_only = False
        self.draining = False
        self.in_flight = 2
        self.error: Exception | None = None
        self.snapshots = 0

    async def snapshot(self) -> Snapshot:
        self.snapshots += 1
        if self.error is not None:
            raise self.error
        return self.now

    def policy(self, queue: str) -> QueuePolicy:
        if queue not in DEFAULT_POLICIES:
            raise UnknownQueueError(queue, tuple(DEFAULT_POLICIES))
        return DEFAULT_POLICIES[queue]

    async def enqueue(
        self, queue: str, data: Mapping[str, Any], *, key: str | None = None, delay: float = 0.0
    ) -> str | None:
        if self.error is not None:
            raise self.error
        if any((one.queue, one.key) == (queue, key) for one in self.jobs.kept):
            return None
        self.done.append(("enqueue", queue, dict(data), key, delay))
        self.jobs.kept.append(job(key or "new-1", "ready", queue, position=0))
        return key or "new-1"

    async def pause(self, queue: str, reason: str = "") -> Pause:
        self.done.append(("pause", queue, reason))
        return Pause("me", reason, NOW)

    async def resume(self, queue: str) -> bool:
        self.done.append(("resume", queue))
        return True

    def logs(self, worker: str, *, limit: int = 200, **selection: Any) -> list[LogLine]:
        if worker != self.workers.own_id:
            raise NotFoundError(f"worker {worker!r} is not this process")
        return [LogLine(NOW - 5, "warning", f"slow: 2 s {NASTY}", "color-extraction", "dress-17", 1, worker)]

    async def drain(self, *, now: bool = False) -> None:
        self.done.append(("drain", now))
        self.draining = True


class CannedLetters:
    """Plays the operations on dead letters: knows filters by state, fingerprint and bound, and plans."""

    def __init__(self, operations: CannedOperations, kept: list[DeadLetter]) -> None:
        self._operations = operations
        self.kept = kept
        self.read: list[str | None] = []
        """The cursors of the pages that were asked for."""
        self.asked: list[tuple[str, Any]] = []
        """What was counted, grouped or previewed."""
        self.door = asyncio.Event()
        """While it is not set, no page arrives."""
        self.door.set()
        self.slow = asyncio.Event()
        """While it is not set, no count, no groups and no preview arrive."""
        self.slow.set()
        self.kept_plans: list[Plan] = []
        self.items: list[PlanItem] = []
        self.replays: dict[int, list[PlanItem]] = {}
        self.releases: tuple[str, ...] = ()
        """Those of each group."""

    @property
    def done(self) -> list[tuple[Any, ...]]:
        return self._operations.done

    def _fails(self) -> None:
        if self._operations.error is not None:
            raise self._operations.error

    def _meant(self, wanted: Selection, state: str | None = None) -> list[DeadLetter]:
        if not isinstance(wanted, LetterFilter):
            return [letter for letter in self.kept if letter.id in wanted and state in (None, letter.state)]
        if wanted.queue == "nowhere":
            raise UnknownQueueError("nowhere", tuple(DEFAULT_POLICIES))
        state = state or wanted.state
        return [
            letter
            for letter in self.kept
            if state in (None, letter.state) and wanted.fingerprint in (None, letter.fingerprint)
        ]

    def _move(self, wanted: Selection, state: str, to: str) -> int:
        ids = {letter.id for letter in self._meant(wanted, state)}
        self.kept = [replace(letter, state=to) if letter.id in ids else letter for letter in self.kept]
        dead = sum(letter.state == "dead" for letter in self.kept)
        self._operations.now = replace(self._operations.now, dead_letters=dead)
        return len(ids)

    async def page(
        self,
        wanted: LetterFilter = ALL_DEAD,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: LetterOrder = NEWEST_FIRST,
    ) -> Page[DeadLetter]:
        self.read.append(cursor)
        await self.door.wait()
        self._fails()
        start = int(cursor or 0)
        found = self._meant(wanted)
        if order != NEWEST_FIRST:
            found.sort(
                key=lambda letter: (getattr(letter, order.column), letter.id), reverse=order.descending
            )
        more = start + limit < len(found)
        return Page(found[start : start + limit], str(start + limit) if more else None)

    async def get(self, letter_id: int) -> DeadLetter:
        self._fails()
        return _find(self.kept, letter_id)

    async def count(self, wanted: LetterFilter = ALL_DEAD, *, most: int | None = None) -> int:
        self.asked.append(("count", wanted))
        await self.slow.wait()
        self._fails()
        return min(len(self._meant(wanted)), most + 1 if most is not None else 2**63)

    async def groups(self, wanted: LetterFilter = ALL_DEAD, *, limit: int = 50) -> list[FailureGroup]:
        self.asked.append(("groups", wanted))
        await self.slow.wait()
        self._fails()
        found = Counter(letter.fingerprint for letter in self._meant(wanted))
        return [self._group(wanted, *group) for group in found.most_common(limit)]

    def _group(self, wanted: LetterFilter, fingerprint: str, number: int) -> FailureGroup:
        of_it = [letter for letter in self._meant(wanted) if letter.fingerprint == fingerprint]
        trend = tuple((hour * 7 + len(of_it)) % 9 for hour in range(24))
        return FailureGroup(
            fingerprint,
            number,
            min(letter.failed_at for letter in of_it),
            max(letter.failed_at for letter in of_it),
            trend,
            of_it[0],
            self.releases,
        )

    async def lineage(self, letter_id: int) -> list[tuple[DeadLetter, list[PlanItem]]]:
        self._fails()
        this = await self.get(letter_id)
        root = this.root_id or this.id
        lineage = [letter for letter in self.kept if root in (letter.id, letter.root_id)]
        return [(letter, self.replays.get(letter.id, [])) for letter in lineage]

    async def export(self, wanted: Selection, form: str) -> AsyncIterator[str]:
        self._fails()
        for letter in self._meant(wanted):
            yield f"{form} {letter.id}\n"

    async def preview(self, wanted: Selection, options: ReplayOptions | None = None) -> Preview:
        self.asked.append(("preview", wanted))
        await self.slow.wait()
        self._fails()
        dead = self._meant(wanted, "dead")
        chosen = [
            letter for letter in dead if options is None or options.poison or letter.deaths < POISON_DEATHS
        ]
        bound: Selection = tuple(letter.id for letter in chosen)
        if isinstance(wanted, LetterFilter):
            bound = wanted.model_copy(update={"state": "dead", "up_to": 999})
        queues = Counter(letter.queue_name for letter in chosen)
        return Preview(
            bound,
            len(chosen),
            len(dead) - len(chosen),
            0 if isinstance(wanted, LetterFilter) else len(self._meant(wanted)) - len(dead),
            queues,
            (await self.groups(wanted))[:10] if isinstance(wanted, LetterFilter) else (),
            float(queues["weather-ingestion"]),
        )

    async def create_plan(self, wanted: Selection, options: ReplayOptions) -> Plan:
        self._fails()
        self.done.append(("plan", wanted, options))
        total = sum(options.poison or letter.deaths < POISON_DEATHS for letter in self._meant(wanted, "dead"))
        made = plan(
            len(self.kept_plans) + 1,
            total=total,
            state="frozen",
            canary=options.canary,
            rate=options.rate,
            halt=options.halt,
            ledger=Ledger(waiting=total),
            active=False,
        )
        self.kept_plans.append(made)
        return made

    async def start_plan(self, plan_id: int, *, halt: float | None = None) -> Plan:
        self._fails()
        self.done.append(("start", plan_id, halt))
        return self.becomes(plan_id, state="running", active=True)

    def becomes(self, plan_id: int, **fields: Any) -> Plan:
        self.kept_plans = [
            replace(plan, **fields) if plan.id == plan_id else plan for plan in self.kept_plans
        ]
        return _find(self.kept_plans, plan_id)

    async def get_plan(self, plan_id: int) -> Plan:
        self.asked.append(("plan", plan_id))
        self._fails()
        return self.becomes(plan_id)

    async def plans(self, limit: int = 50) -> list[Plan]:
        self.asked.append(("plans", limit))
        self._fails()
        return self.kept_plans[::-1][:limit]

    async def plan_items(
        self, plan_id: int, *, state: str | None = None, limit: int = 100, after: int = 0
    ) -> list[PlanItem]:
        self._fails()
        return [item for item in self.items if item.id > after and state in (None, item.state)][:limit]

    async def pause_plan(self, plan_id: int) -> Plan:
        self._fails()
        self.done.append(("pause plan", plan_id))
        return self.becomes(plan_id, state="paused", active=False)

    async def cancel_plan(self, plan_id: int) -> Plan:
        self._fails()
        self.done.append(("cancel", plan_id))
        return self.becomes(plan_id, state="cancelled", active=False)

    async def replay(self, letter_id: int, kwargs: Mapping[str, Any] | None = None) -> str:
        self.done.append(("replay", letter_id) if kwargs is None else ("replay", letter_id, kwargs))
        self._fails()
        self._move((letter_id,), "dead", "replayed")
        return f"job-{letter_id}"

    async def discard(self, wanted: Selection) -> int:
        self._fails()
        self.done.append(("discard", wanted))
        return self._move(wanted, "dead", "discarded")

    async def restore(self, wanted: Selection) -> int:
        self._fails()
        self.done.append(("restore", wanted))
        return self._move(wanted, "discarded", "dead")


def _find(kept: Sequence[T], wanted: int) -> T:
    found = next((one for one in kept if getattr(one, "id", None) == wanted), None)
    if found is None:
        raise NotFoundError(f"there is no {wanted}")
    return found


def plan(number: int, **fields: Any) -> Plan:
    base: dict[str, Any] = {
        "actor": "ops@box-2",
        "reason": "",
        "selection": {"filter": "queue:weather-ingestion fingerprint:ffffffffffffffff"},
        "canary": 5,
        "rate": 20.0,
        "halt": 0.2,
        "id": number,
        "created_at": datetime.fromtimestamp(NOW, UTC),
        "total": 298,
        "state": "running",
        "note": "",
        "ended_at": None,
        "ledger": Ledger(waiting=189, enqueued=5, completed=102, same=1, skipped=1),
        "active": True,
    }
    return Plan(**(base | fields))


def item(number: int, **fields: Any) -> PlanItem:
    base: dict[str, Any] = {
        "id": number,
        "plan_id": 1,
        "letter_id": number,
        "state": "completed",
        "note": None,
        "kwargs": None,
        "enqueued_at": datetime.fromtimestamp(NOW + number, UTC),
        "ended_at": datetime.fromtimestamp(NOW + number + 2, UTC),
    }
    return PlanItem(**(base | fields))


HIT_RATES = (None,) * 20 + tuple(0.55 + (n * 7 % 40) / 100 for n in range(40))
FIGURES = CacheStats(hits=45_210, misses=3_120, stale=14, errors=0, minutes=HIT_RATES)
CACHE = CacheOverview(
    url="rediss://cache.example.com:6379/0",
    dedicated=True,
    stats=FIGURES,
    memory_used=180 * 2**20,
    memory_limit=256 * 2**20,
    evicted=1_204,
    policy="volatile-lru",
)


def entry(key: str, **fields: Any) -> CacheEntry:
    return replace(CacheEntry(key, "fresh", 12.4, 887.6, 968), **fields)


ENTRIES = (
    entry("anna-1:lisboa:2026-03-01T12"),
    entry("anna-1:porto:2026-03-01T12", state="stale", age=64.0, ttl=836.0, size=1_204),
    entry("bruno-2:tromso:2026-03-01T12", state="outdated", age=312.0, ttl=588.0),
    entry(f"chidi-3:{'a-very-long-name-of-a-place-' * 4}:2026-03-01T15", size=2_600_000),
    entry(f"foreign {NASTY}", state="corrupt", age=None, ttl=0.0, size=7),
    entry("jos%C3%A9%3Ax:lisboa:2026-03-01T12", age=0.31, ttl=899.7),
)


class CannedCache:
    """Plays the operations on the cache; a page has as many entries as is said, and its cursors are rows."""

    def __init__(self, operations: CannedOperations) -> None:
        self._operations = operations
        self.kept: list[CacheEntry] = list(ENTRIES)
        self.now = CACHE
        self.error: Exception | None = None
        self.asked: list[tuple[Any, ...]] = []
        """What was read, in its order."""
        self.page_size = 1_000
        self.value: Any = {"user_id": "anna-1", "preferences": {"style": NASTY}, "weather": None}
        self.door = asyncio.Event()
        """While it is not set, no page arrives."""
        self.door.set()

    def _asks(self, *what: Any) -> None:
        self.asked.append(what)
        if self.error is not None:
            raise self.error

    def _acts(self, *what: Any) -> None:
        if self._operations.read_only:
            raise ReadOnlyError(str(what[0]))
        self._operations.done.append(what)
        if self.error is not None:
            raise self.error

    def _go(self, gone: Sequence[CacheEntry]) -> int:
        self.kept = [entry for entry in self.kept if entry not in gone]
        return len(gone)

    async def overview(self) -> CacheOverview:
        self._asks("overview")
        return self.now

    async def page(self, pattern: str = "*", *, cursor: str | None = None, limit: int = 50) -> CachePage:
        self._asks("page", pattern, cursor)
        await self.door.wait()
        found = [entry for entry in self.kept if fnmatchcase(entry.key, pattern)]
        start = int(cursor or 0)
        end = start + self.page_size
        return CachePage(tuple(found[start:end][::-1]), str(end) if end < len(found) else None)

    async def get(self, key: str) -> tuple[CacheEntry, Any]:
        self._asks("get", key)
        found = [entry for entry in self.kept if entry.key == key]
        if not found:
            raise NotFoundError(f"no cache entry {key!r}")
        return found[0], self.value

    async def keys_matching(self, pattern: str) -> list[str]:
        self._asks("matching", pattern)
        return [entry.key for entry in self.kept if fnmatchcase(entry.key, pattern)]

    async def count_for_user(self, user_id: str) -> int:
        self._asks("count", user_id)
        return len(self._of(user_id))

    async def evict(self, keys: Sequence[str], *, pattern: str | None = None) -> int:
        self._acts("evict", tuple(keys), pattern)
        return self._go([entry for entry in self.kept if entry.key in keys])

    async def evict_user(self, user_id: str) -> int:
        self._acts("evict user", user_id)
        return self._go(self._of(user_id))

    def _of(self, user_id: str) -> list[CacheEntry]:
        return [entry for entry in self.kept if owner_of(entry.key) == user_id]
