"""Replay plans in ``replay_plans``, and their letters in ``replays``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Subquery, Table, delete, func, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database.engine import Database
from storage.database.tables import POISON_DEATHS, PlanRow, ReplayRow
from storage.dead_letters.filters import LetterFilter
from storage.dead_letters.queries import ARCHIVED_LETTERS, LETTERS, MAX_ID, LetterQuery
from storage.dead_letters.repository import mark_replayed
from storage.sanitize import sanitize

PlanState = Literal["frozen", "running", "paused", "halted", "cancelled", "done"]
"""Frozen: made, not begun.  Running: until all are enqueued.  Halted: by itself, too many died again."""

_IDS = 500  # of one statement
_BY_ANOTHER = "its job was enqueued by another act"


@dataclass(frozen=True, slots=True)
class Ledger:
    """How many letters of a plan are in which state.

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
        """Letters whose job was enqueued."""
        return self.enqueued + self.ended


@dataclass(frozen=True, slots=True)
class NewPlan:
    """What an operator wants: ``canary`` first, ``rate`` jobs a second (None: no limit), halting where more
    than the share ``halt`` of the jobs that ended died again (1: never).

    ``selection`` is what was selected, for people; ``actor`` and ``reason`` say who and why.
    """

    actor: str
    reason: str
    selection: dict[str, Any]
    canary: int
    rate: float | None
    halt: float


@dataclass(frozen=True, slots=True)
class Plan(NewPlan):
    """A plan as it is now; ``note`` says why it is in its state."""

    id: int
    created_at: datetime
    total: int
    state: PlanState
    note: str
    ended_at: datetime | None
    ledger: Ledger = field(default_factory=Ledger)
    active: bool | None = False
    """Whether a process carries it out at this moment; None where Redis does not say so."""

    @property
    def standing(self) -> str:
        """Its state; of one that should run ``interrupted`` where nobody carries it out, ``unknown`` where
        Redis does not say so.
        """
        if self.state != "running" or self.active:
            return self.state
        return "unknown" if self.active is None else "interrupted"

    @property
    def suggested_limit(self) -> float:
        """A limit, as a share, with which a plan that has halted goes on: by 0.1 above what died so far."""
        ended = self.ledger.ended
        share = self.ledger.died / ended if ended else 0.0
        return min(1.0, round(max(self.halt, share), 1) + 0.1)


@dataclass(frozen=True, slots=True)
class PlanItem:
    """One letter of a plan; ``state`` is a field of `Ledger`.  ``kwargs``: where they were edited."""

    id: int
    plan_id: int
    letter_id: int
    state: str
    note: str | None
    kwargs: dict[str, Any] | None
    enqueued_at: datetime | None
    ended_at: datetime | None


class ReplayItem(NamedTuple):
    """One letter of a plan with what its job is made of; ``uid`` and all that follows None where it is gone.

    ``kwargs``: where they were edited.
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
    """Every method raises DatabaseUnavailableError while the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self,
        plan: NewPlan,
        wanted: LetterFilter | Sequence[int],
        *,
        poison: bool,
        kwargs: Mapping[str, Any] | None = None,
        state: PlanState = "frozen",
    ) -> int:
        """Make a plan of the dead letters that ``wanted`` means at this moment, the oldest first; its id.

        Without ``poison`` those that died too often of the same error are left out, unless ``wanted`` itself
        says which of them are meant.
        """
        row = {each.name: getattr(plan, each.name) for each in fields(NewPlan)}
        row |= {"created_at": datetime.now(UTC), "state": state, "note": "", "total": 0}
        async with self._database.begin() as connection:
            made = await connection.execute(insert(PlanRow).values(sanitize(row)).returning(PlanRow.id))
            plan_id = int(made.scalar_one())
            total = 0
            for query in self._selected(wanted, poison=poison):
                letters = query.add_columns(
                    literal(plan_id), literal(sanitize(kwargs), ReplayRow.kwargs.type)
                )
                into = insert(ReplayRow).from_select(["letter_id", "plan_id", "kwargs"], letters)
                total += (await connection.execute(into)).rowcount
            await connection.execute(update(PlanRow).where(PlanRow.id == plan_id).values(total=total))
        return plan_id

    async def get(self, plan_id: int) -> Plan | None:
        """A plan with its ledger; None where there is none."""
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
            found = (await connection.execute(counts)).all()
        return Plan(**row._mapping, ledger=Ledger(**{row[0]: row[1] for row in found}))

    async def newest(self, limit: int = 50) -> list[Plan]:
        """The newest plans first, with their ledgers."""
        query = select(PlanRow.id).order_by(PlanRow.id.desc()).limit(limit)
        async with self._database.connect() as connection:
            ids = (await connection.execute(query)).scalars().all()
        found = [await self.get(each) for each in ids]
        return [each for each in found if each is not None]

    async def items(
        self, plan_id: int, *, state: str | None = None, limit: int = 100, after: int = 0
    ) -> list[PlanItem]:
        """The plan's letters in their order, those that follow the item ``after``."""
        table = ReplayRow.__table__
        query = select(table).where(table.c.plan_id == plan_id, table.c.id > after)
        if state is not None:
            query = query.where(table.c.state == state)
        async with self._database.connect() as connection:
            rows = (await connection.execute(query.order_by(table.c.id).limit(limit))).all()
        return [PlanItem(**row._mapping) for row in rows]

    async def replays_of(self, letter_id: int) -> list[PlanItem]:
        """The replays that a letter is, or was to be, part of, the oldest first."""
        table = ReplayRow.__table__
        query = select(table).where(table.c.letter_id == letter_id).order_by(table.c.id).limit(_IDS)
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
        """From one of the states ``from_states`` to another; False where it is in none of them.

        ``halt`` is its new limit, where it has one.
        """
        limit = {} if halt is None else {"halt": halt}
        ended = datetime.now(UTC) if to in ("cancelled", "done") else None
        change = update(PlanRow).where(PlanRow.id == plan_id, PlanRow.state.in_(from_states))
        async with self._database.begin() as connection:
            result = await connection.execute(
                change.values(state=to, note=sanitize(note), ended_at=ended, **limit)
            )
            return result.rowcount == 1

    async def delete_if_not_started(self, plan_id: int) -> bool:
        """Remove a plan of which nothing was enqueued; False where something was."""
        sent = ReplayRow.state.not_in(("waiting", "skipped"))
        begun = select(ReplayRow.id).where(ReplayRow.plan_id == plan_id, sent).exists()
        gone = delete(PlanRow).where(PlanRow.id == plan_id, ~begun)
        async with self._database.begin() as connection:
            if (await connection.execute(gone)).rowcount == 0:
                return False
            await connection.execute(delete(ReplayRow).where(ReplayRow.plan_id == plan_id))
        return True

    async def next_items(
        self, plan_id: int, *, limit: int, after: int = 0, state: str = "waiting"
    ) -> list[ReplayItem]:
        """The next letters in ``state``, from after the item ``after``, in the plan's order."""
        r = ReplayRow.__table__.c
        items = (
            select(r.id, r.letter_id, r.kwargs)
            .where(r.plan_id == plan_id, r.state == state, r.id > after)
            .order_by(r.id)
            .limit(limit)
            .subquery()
        )
        async with self._database.connect() as connection:
            found = await self._with_letters(connection, items, LETTERS)
            if any(each.uid is None for each in found):  # archived, perhaps meanwhile
                archived = {
                    each.id: each for each in await self._with_letters(connection, items, ARCHIVED_LETTERS)
                }
                found = [archived.get(each.id, each) if each.uid is None else each for each in found]
        return found

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
        before: Collection[int] = (),
    ) -> dict[int, str]:
        """The jobs of ``batch`` were enqueued, but for those in ``skipped`` (item id -> why not).

        The jobs of the items in ``before`` had been enqueued before: their letters are marked in any case,
        and the items skipped where somebody else had marked them.  Returns all that were skipped.
        """
        r = ReplayRow.__table__.c
        those = [r.plan_id == plan_id, r.state == "waiting", r.id.between(batch[0].id, batch[-1].id)]
        async with self._database.begin() as connection:
            await _skip(connection, skipped)
            others: dict[int, str] = {}
            if before:
                asked = {each.letter_id: each.id for each in batch if each.id in before}
                marked = await mark_replayed(connection, list(asked))
                unmarked = {asked[letter] for letter in asked if letter not in marked}
                others = dict.fromkeys(unmarked - skipped.keys(), _BY_ANOTHER)
                await _skip(connection, others)
            await mark_replayed(connection, select(r.letter_id).where(*those))
            change = update(ReplayRow).where(*those)
            await connection.execute(change.values(state="enqueued", enqueued_at=datetime.now(UTC)))
        return {**skipped, **others}

    def _selected(self, wanted: LetterFilter | Sequence[int], *, poison: bool) -> list[Any]:
        """Queries of the ids, the oldest letter first."""
        found = []
        if isinstance(wanted, LetterFilter):
            left_out = {} if poison or wanted.poison is not None else {"poison": False}
            chosen = wanted.model_copy(update={"state": "dead", **left_out})
            query = LetterQuery(chosen, self._database.dialect)
            c = query.table.c
            return [query.all([c.id]).order_by(c.failed_at, c.id)]
        for at in range(0, len(wanted), _IDS):
            ids = [each for each in wanted[at : at + _IDS] if abs(each) <= MAX_ID]
            for table in (LETTERS, ARCHIVED_LETTERS):
                c = table.c
                found.append(select(c.id).where(c.id.in_(ids), *_dead(c, poison)).order_by(c.failed_at, c.id))
        return found


async def _skip(connection: AsyncConnection, skipped: Mapping[int, str]) -> None:
    """Write down which items are left out, and why."""
    r = ReplayRow.__table__.c
    for why in set(skipped.values()):
        ids = [item for item, each in skipped.items() if each == why]
        change = update(ReplayRow).where(r.id.in_(ids), r.state == "waiting")
        await connection.execute(change.values(state="skipped", note=sanitize(why)))


def _dead(columns: Any, poison: bool) -> list[ColumnElement[bool]]:
    dead = columns.state == "dead"
    return [dead] if poison else [dead, columns.deaths < POISON_DEATHS]
