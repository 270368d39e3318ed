"""Dead letters and replay plans, made up."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from tests.support.fake_moments import NASTY, NOW
from tests.support.fake_record import CannedRecord
from workers.engine.policy import DEFAULT_POLICIES
from workers.errors import NotFoundError, UnknownQueueError
from workers.operations.operations import (
    ALL_DEAD,
    NEWEST_FIRST,
    POISON_DEATHS,
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
from workers.operations.replays import LetterReplay

T = TypeVar("T")


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


class CannedLetters:
    """Plays the operations on dead letters: knows filters by state, fingerprint and bound, and plans."""

    def __init__(self, record: CannedRecord, kept: list[DeadLetter]) -> None:
        self._record = record
        self.kept = kept
        self.read: list[str | None] = []
        """The cursors of the pages that were asked for."""
        self.asked: list[tuple[str, Any]] = []
        """The filters that were counted, grouped or previewed."""
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
        return self._record.done

    def _fails(self) -> None:
        if self._record.error is not None:
            raise self._record.error

    def _matching(self, chosen: Selection, state: str | None = None) -> list[DeadLetter]:
        if not isinstance(chosen, LetterFilter):
            return [letter for letter in self.kept if letter.id in chosen and state in (None, letter.state)]
        if chosen.queue == "nowhere":
            raise UnknownQueueError("nowhere", tuple(DEFAULT_POLICIES))
        state = state or chosen.state
        return [
            letter
            for letter in self.kept
            if state in (None, letter.state) and chosen.fingerprint in (None, letter.fingerprint)
        ]

    def _move(self, selection: Selection, state: str, to: str) -> int:
        ids = {letter.id for letter in self._matching(selection, state)}
        self.kept = [replace(letter, state=to) if letter.id in ids else letter for letter in self.kept]
        dead = sum(letter.state == "dead" for letter in self.kept)
        self._record.now = replace(self._record.now, dead_letters=dead)
        return len(ids)

    async def page(
        self,
        letter_filter: LetterFilter = ALL_DEAD,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: LetterOrder = NEWEST_FIRST,
    ) -> Page[DeadLetter]:
        self.read.append(cursor)
        await self.door.wait()
        self._fails()
        start = int(cursor or 0)
        found = self._matching(letter_filter)
        if order != NEWEST_FIRST:
            found.sort(
                key=lambda letter: (getattr(letter, order.column), letter.id), reverse=order.descending
            )
        more = start + limit < len(found)
        return Page(found[start : start + limit], str(start + limit) if more else None)

    async def get(self, letter_id: int) -> DeadLetter:
        self._fails()
        return _find(self.kept, letter_id)

    async def count(self, letter_filter: LetterFilter = ALL_DEAD, *, limit: int | None = None) -> int:
        self.asked.append(("count", letter_filter))
        await self.slow.wait()
        self._fails()
        return min(len(self._matching(letter_filter)), limit + 1 if limit is not None else 2**63)

    async def groups(self, letter_filter: LetterFilter = ALL_DEAD, *, limit: int = 50) -> list[FailureGroup]:
        self.asked.append(("groups", letter_filter))
        await self.slow.wait()
        self._fails()
        found = Counter(letter.fingerprint for letter in self._matching(letter_filter))
        return [self._group(letter_filter, *group) for group in found.most_common(limit)]

    def _group(self, letter_filter: LetterFilter, fingerprint: str, number: int) -> FailureGroup:
        of_it = [letter for letter in self._matching(letter_filter) if letter.fingerprint == fingerprint]
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

    async def export(self, selection: Selection, form: str) -> AsyncIterator[str]:
        self._fails()
        for letter in self._matching(selection):
            yield f"{form} {letter.id}\n"

    async def preview(self, selection: Selection, options: ReplayOptions | None = None) -> Preview:
        self.asked.append(("preview", selection))
        await self.slow.wait()
        self._fails()
        dead = self._matching(selection, "dead")
        replayable = [
            letter for letter in dead if options is None or options.poison or letter.deaths < POISON_DEATHS
        ]
        bound: Selection = tuple(letter.id for letter in replayable)
        if isinstance(selection, LetterFilter):
            bound = selection.model_copy(update={"state": "dead", "up_to": 999})
        queues = Counter(letter.queue_name for letter in replayable)
        return Preview(
            bound,
            len(replayable),
            len(dead) - len(replayable),
            0 if isinstance(selection, LetterFilter) else len(self._matching(selection)) - len(dead),
            queues,
            (await self.groups(selection))[:10] if isinstance(selection, LetterFilter) else (),
            float(queues["weather-ingestion"]),
        )

    async def create_plan(self, selection: Selection, options: ReplayOptions) -> Plan:
        self._fails()
        self.done.append(("plan", selection, options))
        total = sum(
            options.poison or letter.deaths < POISON_DEATHS for letter in self._matching(selection, "dead")
        )
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

    async def replay(self, letter_id: int, kwargs: Mapping[str, Any] | None = None) -> LetterReplay:
        self.done.append(("replay", letter_id) if kwargs is None else ("replay", letter_id, kwargs))
        self._fails()
        self._move((letter_id,), "dead", "replayed")
        return LetterReplay(f"job-{letter_id}", 1)

    async def discard(self, selection: Selection) -> int:
        self._fails()
        self.done.append(("discard", selection))
        return self._move(selection, "dead", "discarded")

    async def archive(self, *, days: float, dry_run: bool = False) -> int:
        self._fails()
        old = [letter for letter in self.kept if letter.failed_at.timestamp() <= NOW - days * 86_400]
        if not dry_run:
            self.done.append(("archive", days))
            self.kept = [letter for letter in self.kept if letter not in old]
        return len(old)

    async def restore(self, selection: Selection) -> int:
        self._fails()
        self.done.append(("restore", selection))
        return self._move(selection, "discarded", "dead")


def _find(kept: Sequence[T], id_: int) -> T:
    found = next((one for one in kept if getattr(one, "id", None) == id_), None)
    if found is None:
        raise NotFoundError(f"there is no {id_}")
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
