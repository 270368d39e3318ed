"""Dead letters in the table ``job_failures``, and the old ones in its archive."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from sqlalchemy import Select, Table, and_, exists, func, or_, select, union_all, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database.engine import Database
from storage.database.tables import ArchivedFailure, JobFailure, ReplayRow
from storage.dead_letters.filters import ALL_DEAD, LetterFilter
from storage.dead_letters.queries import (
    ARCHIVED_LETTERS,
    LETTERS,
    MAX_ID,
    LetterQuery,
    decode_cursor,
    encode_cursor,
    hour_bucket,
)
from storage.errors import StorageError
from storage.sanitize import sanitize

T = TypeVar("T")
ReplayResult = Literal["completed", "same", "other", "aborted"]
"""How the job of a replay ended: it completed, died of the same error or of another, or was aborted."""

_MAX_INTEGER = 2**31 - 1  # of the column ``attempts``
_INDEXED = ("queue_name", "function", "fingerprint", "error_type")
_LONGEST = 200
"""Characters of each of these, also in the migrations: an entry of an index has 2,700 bytes on Postgres."""
_TEXTS = {"job_id": 2_000, "error_message": 2_000, "traceback": 8_000, "worker": 200}
"""Characters of each other text in a row of last resort."""
_NULLABLE = ("traceback", "worker")
_ROWS = 500  # of one INSERT: Postgres takes 32,767 values
_CHANGED = 2_000
"""Rows that one transaction changes: others that write wait for it."""
_LINEAGE = 200
"""Letters of one lineage that are read."""

MAX_PAGE = 1_000
"""Rows on one page at the most."""
TREND_HOURS = 24


@dataclass(frozen=True, slots=True)
class NewDeadLetter:
    """A job that failed for good, as it is recorded.

    ``uid`` makes recording idempotent.  ``job_id`` is SAQ's job key, ``job_data`` the job as SAQ writes it.
    ``attempt_errors`` has for each attempt: attempt, at (Unix seconds), worker, error_type, message,
    traceback, run_seconds, frame.  ``replay_of`` is the id of the letter that this job was a replay of.
    """

    uid: str
    queue_name: str
    job_id: str
    function: str
    job_data: dict[str, Any]
    error_type: str
    error_message: str
    traceback: str | None
    fingerprint: str
    attempts: int
    attempt_errors: list[dict[str, Any]]
    worker: str | None
    enqueued_at: datetime | None
    failed_at: datetime
    replay_of: int | None


@dataclass(frozen=True, slots=True)
class QueuedDeadLetter(NewDeadLetter):
    """A letter as its queue leaves it; ``replay_item`` is the plan's item that ends with it, 0 for none."""

    replay_item: int = 0


def _ignore(number: int) -> None:
    """Nobody wants to know."""


class ReplayOutcome(NamedTuple):
    """How the job of a replayed letter ended, by the item of the plan."""

    letter_id: int
    item_id: int
    ending: ReplayResult


@dataclass(frozen=True, slots=True)
class DeadLetter(NewDeadLetter):
    """A recorded letter.  ``state`` is ``dead``, ``replayed`` or ``discarded``.

    ``root_id`` is the first letter of its lineage, None where it is this one; ``deaths`` says how often the
    lineage has died of this very error in a row.
    """

    id: int
    state: str
    replay_count: int
    replayed_at: datetime | None
    root_id: int | None
    deaths: int
    archived: bool = False


class LetterSummary(NamedTuple):
    """What is asked of many letters before they are acted on."""

    id: int
    state: str
    queue_name: str
    deaths: int


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """All letters with one fingerprint that a filter means.

    ``trend`` has the number of deaths in each of the last 24 hours, the oldest first; ``sample`` is the
    newest letter.
    """

    fingerprint: str
    count: int
    first_at: datetime
    last_at: datetime
    trend: tuple[int, ...]
    sample: DeadLetter


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One window of a list; ``next`` is the cursor of the following one, None at the end."""

    items: list[T]
    next: str | None


class DeadLetterRepository:
    """Every method raises DatabaseUnavailableError while the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, letters: Sequence[NewDeadLetter]) -> int:
        """Record letters; one that is recorded already changes nothing.  Returns how many were new.

        A letter of a replayed job continues the lineage of the letter that was replayed, and ends its replay.
        """
        rows = [_row(letter) for letter in letters]
        return sum([await self._record(rows[at : at + _ROWS]) for at in range(0, len(rows), _ROWS)])

    async def page(
        self, wanted: LetterFilter = ALL_DEAD, *, limit: int = 50, cursor: str | None = None
    ) -> Page[DeadLetter]:
        """Newest first.  ``limit`` is from 1 to 1,000.  Raises InvalidCursorError, ValueError."""
        if not 1 <= limit <= MAX_PAGE:
            raise ValueError(f"limit: {limit} is not between 1 and {MAX_PAGE}")
        query = LetterQuery(wanted, self._database.dialect)
        after = None if cursor is None else decode_cursor(cursor, query.order)
        statement = query.page(tuple(query.table.c), limit + 1, after)
        async with self._database.connect() as connection:
            rows = (await connection.execute(statement)).all()
        items = [_letter(row, query.table) for row in rows[:limit]]
        more = len(rows) > limit
        return Page(items, encode_cursor(query.order, items[-1].failed_at, items[-1].id) if more else None)

    async def get(self, letter_id: int) -> DeadLetter | None:
        """One letter, whatever its state, from the archive too; None where there is none."""
        return (await self.get_many([letter_id])).get(letter_id)

    async def get_many(self, letter_ids: Sequence[int]) -> dict[int, DeadLetter]:
        """Letters by id, whatever their state, from the archive too; without those that are not there."""
        found: dict[int, DeadLetter] = {}
        async with self._database.connect() as connection:
            for table in (
                LETTERS,
                ARCHIVED_LETTERS,
            ):  # in this order, since a letter may be archived now
                missing = [each for each in letter_ids if each not in found and abs(each) <= MAX_ID]
                for at in range(0, len(missing), _ROWS):
                    query = select(table).where(table.c.id.in_(missing[at : at + _ROWS]))
                    rows = (await connection.execute(query)).all()
                    found |= {row.id: _letter(row, table) for row in rows}
        return found

    async def summaries(self, letter_ids: Sequence[int]) -> dict[int, LetterSummary]:
        """As `get_many`, without what may be large."""
        found: dict[int, LetterSummary] = {}
        async with self._database.connect() as connection:
            for table in (LETTERS, ARCHIVED_LETTERS):
                missing = [each for each in letter_ids if each not in found and abs(each) <= MAX_ID]
                columns = [table.c[name] for name in LetterSummary._fields]
                for at in range(0, len(missing), _ROWS):
                    query = select(*columns).where(table.c.id.in_(missing[at : at + _ROWS]))
                    found |= {row.id: LetterSummary(*row) for row in await connection.execute(query)}
        return found

    async def count(self, wanted: LetterFilter = ALL_DEAD, *, most: int | None = None) -> int:
        """Number of letters; where there are more than ``most``, one more than that."""
        query = LetterQuery(wanted, self._database.dialect)
        if most is None:
            statement = query.facts([func.count(query.c.id)])
        else:
            statement = select(func.count()).select_from(query.facts([query.c.id]).limit(most + 1).subquery())
        async with self._database.connect() as connection:
            return int((await connection.execute(statement)).scalar_one())

    async def newest_id(self) -> int:
        """The id of the letter that was recorded last; 0 where there is none."""
        async with self._database.connect() as connection:
            ids = [await connection.scalar(select(func.max(t.c.id))) for t in (LETTERS, ARCHIVED_LETTERS)]
        return max(found or 0 for found in ids)

    async def groups(self, wanted: LetterFilter = ALL_DEAD, *, limit: int = 50) -> list[FailureGroup]:
        """The groups with the most letters.  ``limit`` is from 1 to 1,000.  Raises ValueError."""
        if not 1 <= limit <= MAX_PAGE:
            raise ValueError(f"limit: {limit} is not between 1 and {MAX_PAGE}")
        query = LetterQuery(wanted, self._database.dialect)
        c = query.c
        end = min(wanted.until or datetime.now(UTC), datetime.now(UTC))
        hours = [f"{end - timedelta(hours=back):%Y-%m-%d %H}" for back in reversed(range(TREND_HOURS))]
        hour = hour_bucket(c.failed_at, self._database.dialect)
        async with self._database.connect() as connection:
            rows = (await connection.execute(query.groups(limit))).all()
            if not rows:
                return []
            recent = query.facts(
                [c.fingerprint, hour, func.count()],
                c.fingerprint.in_([row[0] for row in rows]),
                c.failed_at >= datetime.fromisoformat(f"{hours[0]}:00+00:00"),
            ).group_by(c.fingerprint, hour)
            trends: dict[str, Counter[str]] = defaultdict(Counter)
            for fingerprint, when, deaths in await connection.execute(recent):
                trends[fingerprint][when] += deaths
        samples = await self.get_many([row[4] for row in rows])
        return [
            FailureGroup(
                fingerprint,
                int(count),
                first,
                last,
                tuple(trends[fingerprint][hour] for hour in hours),
                samples[sample],
            )
            for fingerprint, count, first, last, sample in rows
            if sample in samples
        ]

    async def lineage(self, letter: DeadLetter) -> list[DeadLetter]:
        """All letters that came of the same first job by replays, with this one, the oldest first."""
        root = letter.root_id or letter.id
        parts = [
            select(table).where(or_(table.c.id == root, table.c.root_id == root))
            for table in (LETTERS, ARCHIVED_LETTERS)
        ]
        found: dict[int, DeadLetter] = {}
        async with self._database.connect() as connection:
            for part, table in zip(parts, (LETTERS, ARCHIVED_LETTERS), strict=True):
                rows = (await connection.execute(part.order_by(table.c.id).limit(_LINEAGE))).all()
                found = {row.id: _letter(row, table) for row in rows} | found
        return sorted(found.values(), key=lambda each: each.id)

    async def discard(
        self, wanted: LetterFilter | Sequence[int], changed: Callable[[int], None] = _ignore
    ) -> int:
        """From ``dead`` to ``discarded``; how many.  ``changed`` is told of each part that is done."""
        return await self._move(wanted, "dead", "discarded", changed)

    async def restore(
        self, wanted: LetterFilter | Sequence[int], changed: Callable[[int], None] = _ignore
    ) -> int:
        """From ``discarded`` back to ``dead``; how many.  ``changed`` as of `discard`."""
        return await self._move(wanted, "discarded", "dead", changed)

    async def record_replay_outcomes(self, replays: Sequence[ReplayOutcome]) -> None:
        """How the jobs of replayed letters ended.  Once more changes nothing."""
        async with self._database.begin() as connection:
            await _end_replays(connection, replays)

    async def archive(self, before: datetime, *, limit: int = 500) -> int:
        """Move at most ``limit`` letters that died before ``before`` into the archive; how many.

        Invariant: a letter is in exactly one of the two tables, and no change to it is lost.  One whose id or
        uid another in the archive has stays where it is.
        """
        c, of_archive = LETTERS.c, ARCHIVED_LETTERS.c
        its_id = select(of_archive.id).where(of_archive.uid == c.uid).scalar_subquery()
        its_uid = select(of_archive.uid).where(of_archive.id == c.id).scalar_subquery()
        free = (func.coalesce(its_id, c.id) == c.id, func.coalesce(its_uid, c.uid) == c.uid)
        oldest = (
            select(LETTERS.c.id)
            .where(LETTERS.c.failed_at < before, *free)
            .order_by(LETTERS.c.failed_at, LETTERS.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)  # on SQLite the transaction has the only lock already
        )
        async with self._database.begin() as connection:
            ids = list((await connection.execute(oldest)).scalars())
            moved = 0
            if ids:
                columns = [column.name for column in LETTERS.c]
                rows = select(LETTERS).where(LETTERS.c.id.in_(ids))
                into = self._database.insert(ArchivedFailure).from_select(columns, rows)
                await connection.execute(into.on_conflict_do_nothing())
                there = exists().where(of_archive.id == c.id, of_archive.uid == c.uid)
                moved = (await connection.execute(LETTERS.delete().where(c.id.in_(ids), there))).rowcount
        return moved

    async def _move(
        self, wanted: LetterFilter | Sequence[int], state: str, to: str, changed: Callable[[int], None]
    ) -> int:
        if isinstance(wanted, LetterFilter):
            wanted = await self._ids(wanted.model_copy(update={"state": state}))
        total = 0
        for at in range(0, len(wanted), _CHANGED):
            ids, moved = [each for each in wanted[at : at + _CHANGED] if abs(each) <= MAX_ID], 0
            async with self._database.begin() as connection:
                for table in (LETTERS, ARCHIVED_LETTERS):
                    change = update(table).where(table.c.id.in_(ids), table.c.state == state)
                    moved += (await connection.execute(change.values(state=to))).rowcount
            changed(moved)
            total += moved
        return total

    async def _ids(self, wanted: LetterFilter) -> list[int]:
        query = LetterQuery(wanted, self._database.dialect)
        async with self._database.connect() as connection:
            return list((await connection.execute(query.facts([query.c.id]))).scalars())

    async def _record(self, rows: list[dict[str, Any]]) -> int:
        try:
            return await self._insert(rows)
        except StorageError:
            raise
        except Exception:  # refused, by the database or before it
            if len(rows) > 1:  # one that the database refuses must not keep the others from being recorded
                return sum([await self._record([row]) for row in rows])
            return await self._insert([_last_resort(rows[0])])

    async def _insert(self, rows: list[dict[str, Any]]) -> int:
        async with self._database.begin() as connection:
            values, ended = await _continued(connection, rows)
            statement = self._database.insert(JobFailure, values).on_conflict_do_nothing(
                index_elements=["uid"]
            )
            new = set((await connection.execute(statement.returning(LETTERS.c.uid))).scalars())
            # Asked after the INSERT: it waits for whoever moves the same letter at this moment.
            archived = select(ARCHIVED_LETTERS.c.uid).where(ARCHIVED_LETTERS.c.uid.in_(new))
            if new and (before := set((await connection.execute(archived)).scalars())):
                await connection.execute(LETTERS.delete().where(LETTERS.c.uid.in_(before)))
                new -= before
            await _end_replays(connection, ended)
            return len(new)


async def _continued(
    connection: AsyncConnection, rows: Sequence[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[ReplayOutcome]]:
    """The rows with their places in lineages; and the replays that ended with them."""
    origins = {row["replay_of"] for row in rows} - {None}
    found = {}
    if origins:
        parts = [
            select(t.c.id, t.c.root_id, t.c.fingerprint, t.c.deaths).where(t.c.id.in_(origins))
            for t in (LETTERS, ARCHIVED_LETTERS)
        ]
        found = {row.id: row for row in await connection.execute(union_all(*parts))}
    placed, ended = [], []
    for row in rows:
        own = {name: value for name, value in row.items() if name != "replay_item"}
        origin = found.get(row["replay_of"])
        if origin is None:
            placed.append(own | {"root_id": None, "deaths": 1})
            continue
        same = origin.fingerprint == row["fingerprint"]
        deaths = origin.deaths + 1 if same else 1
        placed.append(own | {"root_id": origin.root_id or origin.id, "deaths": deaths})
        ended.append(ReplayOutcome(origin.id, row["replay_item"], "same" if same else "other"))
    return placed, ended


async def mark_replayed(connection: AsyncConnection, letter_ids: Sequence[int] | Select[Any]) -> set[int]:
    """Their jobs were enqueued, whatever became of the letters meanwhile; those that were not marked yet."""
    now = datetime.now(UTC)
    marked: set[int] = set()
    for table in (LETTERS, ARCHIVED_LETTERS):
        c = table.c
        change = update(table).where(c.id.in_(letter_ids), c.state != "replayed").returning(c.id)
        values = {"state": "replayed", "replay_count": c.replay_count + 1, "replayed_at": now}
        marked |= set((await connection.execute(change.values(values))).scalars())
    return marked


async def _end_replays(connection: AsyncConnection, replays: Sequence[ReplayOutcome]) -> None:
    """Also where whoever replays them was ended before it could write down that it did.

    Others that wait for the same letter had no part in it; one that has it as enqueued found it so.
    """
    if not replays:
        return
    await mark_replayed(connection, [each.letter_id for each in replays])
    now = datetime.now(UTC)
    for ending in sorted({each.ending for each in replays}):
        letters = [each.letter_id for each in replays if each.ending == ending]
        items = [each.item_id for each in replays if each.ending == ending]
        broken_off = and_(ReplayRow.id.in_(items), ReplayRow.state == "waiting")
        change = update(ReplayRow).where(
            ReplayRow.letter_id.in_(letters), or_(ReplayRow.state == "enqueued", broken_off)
        )
        enqueued_at = func.coalesce(ReplayRow.enqueued_at, now)
        await connection.execute(change.values(state=ending, enqueued_at=enqueued_at, ended_at=now))


def _row(letter: NewDeadLetter) -> dict[str, Any]:
    """The whole of a name that is shortened stays in the job."""
    row = sanitize({field.name: getattr(letter, field.name) for field in fields(NewDeadLetter)})
    replay_of = row["replay_of"]
    if type(replay_of) is not int or abs(replay_of) > MAX_ID:  # from a job's meta, which may be anyone's
        row["replay_of"] = None
    attempts = letter.attempts if isinstance(letter.attempts, int) else 0
    row["replay_item"] = letter.replay_item if isinstance(letter, QueuedDeadLetter) else 0
    row["attempts"] = max(-_MAX_INTEGER, min(attempts, _MAX_INTEGER))
    for name in _INDEXED:
        row[name] = _shortened(row[name]) if isinstance(row[name], str) else row[name]
    if isinstance(row["uid"], str) and len(row["uid"]) > _LONGEST:
        row["uid"] = _digest(row["uid"])
    return row


def _last_resort(row: dict[str, Any]) -> dict[str, Any]:
    """A row that any database takes, for one that was refused: short, and of ASCII alone."""
    texts: dict[str, str | None] = {name: _shortened(_ascii(row[name]), mark="...") for name in _INDEXED}
    for name, longest in _TEXTS.items():
        missing = row[name] is None and name in _NULLABLE
        texts[name] = None if missing else _shortened(_ascii(row[name]), longest, mark="...")
    uid = str(row["uid"])
    failed_at = row["failed_at"] if isinstance(row["failed_at"], datetime) else datetime.now(UTC)
    return (
        row
        | texts
        | {
            "uid": uid if uid.isascii() and uid.isprintable() else _digest(uid),
            "job_data": {"unreadable": _ascii(repr(row["job_data"]))[:100_000]},
            "attempt_errors": [],
            "enqueued_at": None,
            "failed_at": failed_at if failed_at.tzinfo is not None else failed_at.replace(tzinfo=UTC),
        }
    )


def _shortened(text: str, longest: int = _LONGEST, mark: str = "…") -> str:
    return text if len(text) <= longest else text[: longest - len(mark)] + mark


def _ascii(value: Any) -> str:
    return sanitize(str(value)).encode("ascii", "backslashreplace").decode()


def _digest(uid: str) -> str:
    return hashlib.sha256(uid.encode("utf-8", "backslashreplace")).hexdigest()


def _letter(row: Any, table: Table) -> DeadLetter:
    return DeadLetter(**row._mapping, archived=table is ARCHIVED_LETTERS)
