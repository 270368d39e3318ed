"""Replay plans in the table ``replay_plans``, and their letters in ``replays``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Subquery, Table, delete, func, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database.engine import Database
from storage.database.tables import ARCHIVED_LETTERS, LETTERS, MAX_ID, POISON_DEATHS, PlanRow, ReplayRow
from storage.dead_letters.filters import LetterFilter
from storage.dead_letters.lineage import mark_replayed
from storage.dead_letters.queries import letter_query
from storage.sanitize import sanitize

PlanState = Literal["frozen", "running", "paused", "halted", "cancelled", "done"]
"""Frozen: created, not started.  Running: until all jobs are enqueued.  Halted: too many jobs died again."""

_ID_BATCH = 500
"""Ids of one statement."""
_NEW_SECONDS = 3.0
"""How long a plan is new."""
ENQUEUED_ELSEWHERE = "its job was enqueued by another replay"


def is_new(created_at: datetime) -> bool:
    """Return whether a plan was made a moment ago.

    A replay of one letter is marked as running from the start, and no process holds its lock.
    """
    return timedelta(0) <= datetime.now(UTC) - created_at < timedelta(seconds=_NEW_SECONDS)


@dataclass(frozen=True, slots=True)
class Ledger:
    """Number of letters of a plan in each state.

    ``enqueued`` jobs have not ended yet; ``same`` and ``other`` died again, of the same error or another.
    """

    waiting: int = 0
    enqueued: int = 0
    completed: int = 0
    same: int = 0
    other: int = 0
    aborted: int = 0
    skipped: int = 0

    @property
    def died(self) -> int:
        """Jobs that died again."""
        return self.same + self.other

    @property
    def ended(self) -> int:
        """Jobs that have ended."""
        return self.completed + self.died + self.aborted

    @property
    def sent(self) -> int:
        """Letters whose job was enqueued, ended or not."""
        return self.enqueued + self.ended


@dataclass(frozen=True, slots=True)
class NewPlan:
    """The options of a plan.

    ``canary`` letters are replayed first, then ``rate`` a second (None: no limit).  The plan halts if more
    than the share ``halt`` of the jobs that ended died again (1: never).  ``selection`` describes the letters
    for people; ``actor`` is who replays, ``reason`` why.
    """

    actor: str
    reason: str
    selection: dict[str, Any]
    canary: int
    rate: float | None
    halt: float


@dataclass(frozen=True, slots=True)
class Plan(NewPlan):
    """A plan and its state; ``note`` is why it is in that state."""

    id: int
    created_at: datetime
    total: int
    state: PlanState
    note: str
    ended_at: datetime | None
    ledger: Ledger = field(default_factory=Ledger)
    active: bool | None = False
    """Whether a process runs it now; None if Redis does not answer."""

    @property
    def standing(self) -> str:
        """Its state; a running plan is ``interrupted`` if no process runs it, and ``unknown`` if Redis does
        not answer.
        """
        if self.state != "running" or self.active:
            return self.state
        return "unknown" if self.active is None else "interrupted"

    @property
    def suggested_limit(self) -> float:
        """A limit with which a halted plan can resume: 0.1 above the share that died so far."""
        ended_count = self.ledger.ended
        share = self.ledger.died / ended_count if ended_count else 0.0
        return min(1.0, round(max(self.halt, share), 1) + 0.1)

    def can_resume(self, halt: float | None) -> bool:
        """Return whether this limit lets it resume: one that has halted needs a higher limit than it has."""
        return self.state != "halted" or (halt is not None and self.halt < halt <= 1)


class UnfinishedPlan(NamedTuple):
    """A plan that runs, or has halted with a note."""

    id: int
    state: str
    note: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class PlanItem:
    """One letter of a plan; ``state`` is a field of `Ledger`, ``kwargs`` are edited arguments, if any."""

    id: int
    plan_id: int
    letter_id: int
    state: str
    note: str | None
    kwargs: dict[str, Any] | None
    enqueued_at: datetime | None
    ended_at: datetime | None


class ReplayItem(NamedTuple):
    """One letter of a plan with what its job is made of; from ``uid`` on all is None if the letter is gone.

    ``kwargs`` are its edited arguments, if any.
    """

    id: int
    letter_id: int
    kwargs: dict[str, Any] | None
    uid: str | None
    queue_name: str
    function: str
    job_id: str
    job_data: dict[str, Any]
    state: str
    replay_count: int


class PlanRepository:
    """Every method raises DatabaseUnavailableError if the database is unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self,
        plan: NewPlan,
        selection: LetterFilter | Sequence[int],
        *,
        poison: bool,
        kwargs: Mapping[str, Any] | None = None,
        state: PlanState = "frozen",
    ) -> int:
        """Create a plan for the dead letters that are selected now, oldest first, and return its id.

        Without ``poison`` it excludes letters that died too often of the same error, unless the filter
        selects by that.
        """
        row = {option.name: getattr(plan, option.name) for option in fields(NewPlan)}
        row |= {"created_at": datetime.now(UTC), "state": state, "note": "", "total": 0}
        async with self._database.begin() as connection:
            inserted = await connection.execute(insert(PlanRow).values(sanitize(row)).returning(PlanRow.id))
            plan_id = int(inserted.scalar_one())
            total = 0
            for query in self._select_dead(selection, poison=poison):
                letters = query.add_columns(
                    literal(plan_id), literal(sanitize(kwargs), ReplayRow.kwargs.type)
                )
                into = insert(ReplayRow).from_select(["letter_id", "plan_id", "kwargs"], letters)
                total += (await connection.execute(into)).rowcount
            await connection.execute(update(PlanRow).where(PlanRow.id == plan_id).values(total=total))
        return plan_id

    async def get(self, plan_id: int) -> Plan | None:
        """Return a plan with its ledger; None if it does not exist."""
        if abs(plan_id) > MAX_ID:
            return None
        async with self._database.connect() as connection:
            query = select(PlanRow.__table__).where(PlanRow.id == plan_id)
            row = (await connection.execute(query)).one_or_none()
            if row is None:
                return None
            counts = (
                select(ReplayRow.state, func.count())
                .where(ReplayRow.plan_id == plan_id)
                .group_by(ReplayRow.state)
            )
            numbers = (await connection.execute(counts)).all()
        return Plan(**row._mapping, ledger=Ledger(**{row[0]: row[1] for row in numbers}))

    async def newest(self, limit: int = 50) -> list[Plan]:
        """Return the newest plans first, with their ledgers."""
        query = select(PlanRow.id).order_by(PlanRow.id.desc()).limit(limit)
        async with self._database.connect() as connection:
            ids = (await connection.execute(query)).scalars().all()
        plans = [await self.get(plan_id) for plan_id in ids]
        return [plan for plan in plans if plan is not None]

    async def counts(self) -> dict[str, int]:
        """Return how many plans there are, by state."""
        c = PlanRow.__table__.c
        query = select(c.state, func.count()).group_by(c.state)
        async with self._database.connect() as connection:
            return {str(state): int(number) for state, number in await connection.execute(query)}

    async def unfinished_plans(self, limit: int = 20) -> list[UnfinishedPlan]:
        """Return the newest plans that run or have halted."""
        c = PlanRow.__table__.c
        query = select(c.id, c.state, c.note, c.created_at).where(c.state.in_(("running", "halted")))
        async with self._database.connect() as connection:
            rows = (await connection.execute(query.order_by(c.id.desc()).limit(limit))).all()
        return [UnfinishedPlan(*row) for row in rows]

    async def items(
        self, plan_id: int, *, state: str | None = None, limit: int = 100, after: int = 0
    ) -> list[PlanItem]:
        """Return the plan's letters in its order, from after the item ``after``."""
        table = ReplayRow.__table__
        query = select(table).where(table.c.plan_id == plan_id, table.c.id > after)
        if state is not None:
            query = query.where(table.c.state == state)
        async with self._database.connect() as connection:
            rows = (await connection.execute(query.order_by(table.c.id).limit(limit))).all()
        return [PlanItem(**row._mapping) for row in rows]

    async def replays_of(self, letter_id: int) -> list[PlanItem]:
        """Return the items of all plans that include a letter, oldest first."""
        table = ReplayRow.__table__
        query = select(table).where(table.c.letter_id == letter_id).order_by(table.c.id).limit(_ID_BATCH)
        async with self._database.connect() as connection:
            return [PlanItem(**row._mapping) for row in (await connection.execute(query)).all()]

    async def transition(
        self,
        plan_id: int,
        to: PlanState,
        *,
        from_states: Sequence[PlanState],
        note: str = "",
        halt: float | None = None,
    ) -> bool:
        """Change the state of a plan; False if it is in none of ``from_states``.

        ``halt`` is its new limit, if given.
        """
        limit = {} if halt is None else {"halt": halt}
        ended_at = datetime.now(UTC) if to in ("cancelled", "done") else None
        change = update(PlanRow).where(PlanRow.id == plan_id, PlanRow.state.in_(from_states))
        async with self._database.begin() as connection:
            result = await connection.execute(
                change.values(state=to, note=sanitize(note), ended_at=ended_at, **limit)
            )
            return result.rowcount == 1

    async def delete_if_not_started(self, plan_id: int) -> bool:
        """Delete a plan, unless a job of it was enqueued; returns whether it was deleted."""
        enqueued = ReplayRow.state.not_in(("waiting", "skipped"))
        started = select(ReplayRow.id).where(ReplayRow.plan_id == plan_id, enqueued).exists()
        plan = delete(PlanRow).where(PlanRow.id == plan_id, ~started)
        async with self._database.begin() as connection:
            if (await connection.execute(plan)).rowcount == 0:
                return False
            await connection.execute(delete(ReplayRow).where(ReplayRow.plan_id == plan_id))
        return True

    async def next_items(
        self, plan_id: int, *, limit: int, after: int = 0, state: str = "waiting"
    ) -> list[ReplayItem]:
        """Return the next letters in ``state``, from after the item ``after``, in the plan's order."""
        r = ReplayRow.__table__.c
        items = (
            select(r.id, r.letter_id, r.kwargs)
            .where(r.plan_id == plan_id, r.state == state, r.id > after)
            .order_by(r.id)
            .limit(limit)
            .subquery()
        )
        async with self._database.connect() as connection:
            batch = await self._with_letters(connection, items, LETTERS)
            if any(item.uid is None for item in batch):  # their letters were archived, perhaps just now
                archived = await self._with_letters(connection, items, ARCHIVED_LETTERS)
                by_id = {item.id: item for item in archived}
                batch = [by_id.get(item.id, item) if item.uid is None else item for item in batch]
        return batch

    async def _with_letters(
        self, connection: AsyncConnection, items: Subquery, table: Table
    ) -> list[ReplayItem]:
        t = table.c
        columns = [t.uid, t.queue_name, t.function, t.job_id, t.job_data, t.state, t.replay_count]
        query = (
            select(items.c.id, items.c.letter_id, items.c.kwargs, *columns)
            .outerjoin(table, t.id == items.c.letter_id)
            .order_by(items.c.id)
        )
        return [ReplayItem(*row) for row in await connection.execute(query)]

    async def mark_enqueued(
        self,
        plan_id: int,
        batch: Sequence[ReplayItem],
        skipped: Mapping[int, str],
        already_enqueued: Collection[int] = (),
    ) -> dict[int, str]:
        """Write down that the jobs of ``batch`` were enqueued; returns the skipped items with the reasons.

        ``skipped`` are the items, by id, that were not, with the reason.  The jobs of ``already_enqueued``
        had been enqueued before, by this plan or by another replay.

        The order matters.  Each step changes only items that still wait, so the last one takes the rest of
        the batch, by the range of its ids.
        """
        items = _waiting_in(plan_id, batch)
        async with self._database.begin() as connection:
            await _mark_skipped(connection, skipped)
            before = [item for item in batch if item.id in already_enqueued]
            enqueued_by_others = await _mark_enqueued_elsewhere(connection, before)
            await _mark_enqueued(connection, items)
        return {**enqueued_by_others, **skipped}

    def _select_dead(self, selection: LetterFilter | Sequence[int], *, poison: bool) -> list[Any]:
        """Return queries of the ids of dead letters, oldest first."""
        if isinstance(selection, LetterFilter):
            excluded = {} if poison or selection.poison is not None else {"poison": False}
            dead = selection.model_copy(update={"state": "dead", **excluded})
            query = letter_query(dead, self._database.dialect)
            c = query.table.c
            return [query.select_letters([c.id]).order_by(c.failed_at, c.id)]
        queries = []
        for start in range(0, len(selection), _ID_BATCH):
            ids = [id_ for id_ in selection[start : start + _ID_BATCH] if abs(id_) <= MAX_ID]
            for table in (LETTERS, ARCHIVED_LETTERS):
                c = table.c
                query_of_ids = select(c.id).where(c.id.in_(ids), *_is_dead(c, poison))
                queries.append(query_of_ids.order_by(c.failed_at, c.id))
        return queries


def _waiting_in(plan_id: int, batch: Sequence[ReplayItem]) -> list[ColumnElement[bool]]:
    r = ReplayRow.__table__.c
    return [r.plan_id == plan_id, r.state == "waiting", r.id.between(batch[0].id, batch[-1].id)]


async def _mark_skipped(connection: AsyncConnection, skipped: Mapping[int, str]) -> None:
    """Write down which items are skipped, and why."""
    r = ReplayRow.__table__.c
    for reason in set(skipped.values()):
        ids = [item_id for item_id, note in skipped.items() if note == reason]
        change = update(ReplayRow).where(r.id.in_(ids), r.state == "waiting")
        await connection.execute(change.values(state="skipped", note=sanitize(reason)))


async def _mark_enqueued_elsewhere(
    connection: AsyncConnection, items: Sequence[ReplayItem]
) -> dict[int, str]:
    """Mark the letters of jobs that had been enqueued before.

    If a letter was marked already, another replay has enqueued its job: the item is skipped, and returned.
    """
    if not items:
        return {}
    marked_ids = await mark_replayed(connection, [item.letter_id for item in items])
    enqueued_by_others = {item.id: ENQUEUED_ELSEWHERE for item in items if item.letter_id not in marked_ids}
    await _mark_skipped(connection, enqueued_by_others)
    return enqueued_by_others


async def _mark_enqueued(connection: AsyncConnection, items: Sequence[ColumnElement[bool]]) -> None:
    """Mark the items that still wait, and their letters."""
    await mark_replayed(connection, select(ReplayRow.letter_id).where(*items))
    change = update(ReplayRow).where(*items)
    await connection.execute(change.values(state="enqueued", enqueued_at=datetime.now(UTC)))


def _is_dead(columns: Any, poison: bool) -> list[ColumnElement[bool]]:
    dead = columns.state == "dead"
    return [dead] if poison else [dead, columns.deaths < POISON_DEATHS]
