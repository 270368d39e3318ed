"""Dead letters in the table ``job_failures`` and its archive."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Table, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database.engine import Database
from storage.database.events import insert_events
from storage.database.tables import ARCHIVED_LETTERS, LETTERS, MAX_ID, ArchivedFailure, JobFailure
from storage.dead_letters.filters import ALL_DEAD, LetterFilter
from storage.dead_letters.first_deaths import fetch_first_deaths
from storage.dead_letters.letter_query import LetterQuery
from storage.dead_letters.lineage import fetch_origins, finish_replays, place_in_lineages
from storage.dead_letters.new_groups import find_new_groups, new_group_events
from storage.dead_letters.ordering import NEWEST_FIRST, LetterOrder
from storage.dead_letters.queries import decode_cursor, encode_cursor, hour_bucket, letter_query
from storage.dead_letters.records import (
    DeadLetter,
    FailureGroup,
    LetterSummary,
    NewDeadLetter,
    Page,
    ReplayOutcome,
)
from storage.dead_letters.releases import fetch_releases
from storage.dead_letters.rows import sanitized_row, to_row
from storage.errors import StorageError

_MAX_INSERT_ROWS = 500
"""Rows of one INSERT: Postgres takes 32,767 values."""
_MAX_SELECT_IDS = 500
"""Ids of one SELECT."""
_MAX_UPDATE_ROWS = 2_000
"""Rows that one transaction changes: other writers wait for it."""
_MAX_LINEAGE = 200
"""Letters of one lineage that are read."""

_MAX_COUNTED_GROUPS = 1_000
"""Groups that are counted one by one.  A million letters in 40 groups take 90 ms, in one pass 190."""

_MAX_KNOWN_GROUPS = 10_000
"""Fingerprints in memory; the index has those of all others."""

MAX_PAGE = 1_000
"""Largest number of rows on one page."""
TREND_HOURS = 24


def _ignore_progress(number: int) -> None:
    pass


class DeadLetterRepository:
    """Every method raises DatabaseUnavailableError if the database is unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known_groups: set[str] = set()
        """Fingerprints that a letter has: a group is not new a second time, since no letter is deleted."""

    async def record(self, letters: Sequence[NewDeadLetter]) -> int:
        """Record letters, and return how many were new: recording a letter again changes nothing.

        A letter of a replayed job continues the lineage of the letter that was replayed, and ends its replay.
        The first letter of a group is an event.
        """
        rows = [to_row(letter) for letter in letters]
        starts = range(0, len(rows), _MAX_INSERT_ROWS)
        return sum([await self._record(rows[start : start + _MAX_INSERT_ROWS]) for start in starts])

    async def page(
        self,
        letter_filter: LetterFilter = ALL_DEAD,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: LetterOrder = NEWEST_FIRST,
    ) -> Page[DeadLetter]:
        """Return one page; ``limit`` is from 1 to 1,000.

        Raises InvalidCursorError, InvalidFilterError (an order that no index has), ValueError.
        """
        _check_limit(limit)
        query = letter_query(letter_filter, self._database.dialect, order)
        first = len(query.order_columns) - 2
        after = None if cursor is None else decode_cursor(cursor, query.order, first=first)
        statement = query.page(tuple(query.table.c), limit + 1, after)
        async with self._database.connect() as connection:
            rows = (await connection.execute(statement)).all()
        items = [_to_letter(row, query.table) for row in rows[:limit]]
        if len(rows) <= limit:
            return Page(items, None)
        last = items[-1]
        values = [getattr(last, name) for name in query.order_columns[:first]]
        return Page(items, encode_cursor(query.order, last.failed_at, last.id, *values))

    async def get(self, letter_id: int) -> DeadLetter | None:
        """Return one letter in any state, also from the archive; None if it does not exist."""
        return (await self.get_many([letter_id])).get(letter_id)

    async def get_many(self, letter_ids: Sequence[int]) -> dict[int, DeadLetter]:
        """Return the letters by id, in any state, also from the archive; unknown ids are left out."""
        rows = await self._rows_by_id(letter_ids, tuple(column.name for column in LETTERS.c))
        return {letter_id: _to_letter(row, table) for letter_id, (row, table) in rows.items()}

    async def summaries(self, letter_ids: Sequence[int]) -> dict[int, LetterSummary]:
        """Like `get_many`, without the columns that may be large."""
        rows = await self._rows_by_id(letter_ids, LetterSummary._fields)
        return {letter_id: LetterSummary(*row) for letter_id, (row, _) in rows.items()}

    async def count(self, letter_filter: LetterFilter = ALL_DEAD, *, limit: int | None = None) -> int:
        """Return the number of letters; if there are more than ``limit``, ``limit + 1``."""
        query = letter_query(letter_filter, self._database.dialect)
        if limit is None:
            statement = query.select_indexed([func.count(query.c.id)])
        else:
            ids = query.select_indexed([query.c.id]).limit(limit + 1)
            statement = select(func.count()).select_from(ids.subquery())
        async with self._database.connect() as connection:
            return int((await connection.execute(statement)).scalar_one())

    async def newest_id(self) -> int:
        """Return the id of the letter that was recorded last; 0 if none was recorded."""
        async with self._database.connect() as connection:
            ids = [await connection.scalar(select(func.max(t.c.id))) for t in (LETTERS, ARCHIVED_LETTERS)]
        return max(newest or 0 for newest in ids)

    async def groups(self, letter_filter: LetterFilter = ALL_DEAD, *, limit: int = 50) -> list[FailureGroup]:
        """Return the groups with the most letters.  ``limit`` is from 1 to 1,000.  Raises ValueError."""
        _check_limit(limit)
        query = letter_query(letter_filter, self._database.dialect)
        c = query.c
        end = min(letter_filter.until or datetime.now(UTC), datetime.now(UTC))
        hours = [f"{end - timedelta(hours=ago):%Y-%m-%d %H}" for ago in reversed(range(TREND_HOURS))]
        hour = hour_bucket(c.failed_at, self._database.dialect)
        async with self._database.connect() as connection:
            rows = await _largest_groups(connection, query, limit)
            if not rows:
                return []
            recent = query.select_indexed(
                [c.fingerprint, hour, func.count()],
                c.fingerprint.in_([row[0] for row in rows]),
                c.failed_at >= datetime.fromisoformat(f"{hours[0]}:00+00:00"),
            ).group_by(c.fingerprint, hour)
            trends: dict[str, Counter[str]] = defaultdict(Counter)
            for fingerprint, when, deaths in await connection.execute(recent):
                trends[fingerprint][when] += deaths
            newest = [row[4] for row in rows]
            releases = await fetch_releases(connection, query.table, newest)
            firsts = (
                {} if _is_window(letter_filter) else await fetch_first_deaths(connection, query.table, newest)
            )
        samples = await self.get_many(newest)
        return [
            FailureGroup(
                fingerprint,
                int(count),
                firsts.get(fingerprint, first),
                last,
                tuple(trends[fingerprint][hour] for hour in hours),
                samples[sample],
                releases.get(fingerprint, ()),
            )
            for fingerprint, count, first, last, sample in rows
            if sample in samples
        ]

    async def lineage(self, letter: DeadLetter) -> list[DeadLetter]:
        """Return all letters that descend from the same first job by replays, with this one, oldest first."""
        root = letter.root_id or letter.id
        letters: dict[int, DeadLetter] = {}
        async with self._database.connect() as connection:
            for table in (LETTERS, ARCHIVED_LETTERS):
                query = select(table).where(or_(table.c.id == root, table.c.root_id == root))
                rows = (await connection.execute(query.order_by(table.c.id).limit(_MAX_LINEAGE))).all()
                letters = {row.id: _to_letter(row, table) for row in rows} | letters
        return sorted(letters.values(), key=lambda member: member.id)

    async def discard(
        self,
        selection: LetterFilter | Sequence[int],
        on_progress: Callable[[int], None] = _ignore_progress,
    ) -> int:
        """Change letters from ``dead`` to ``discarded``, and return how many.

        ``on_progress`` is called after each transaction with the number of letters it changed.
        """
        return await self._change_state(selection, "dead", "discarded", on_progress)

    async def restore(
        self,
        selection: LetterFilter | Sequence[int],
        on_progress: Callable[[int], None] = _ignore_progress,
    ) -> int:
        """Change letters from ``discarded`` to ``dead``; otherwise as `discard`."""
        return await self._change_state(selection, "discarded", "dead", on_progress)

    async def record_replay_outcomes(self, outcomes: Sequence[ReplayOutcome]) -> None:
        """Record how the jobs of replayed letters ended; recording it again changes nothing."""
        async with self._database.begin() as connection:
            await finish_replays(connection, outcomes)

    async def archive(self, before: datetime, *, limit: int = 500) -> int:
        """Move at most ``limit`` letters that died before ``before`` into the archive; returns how many.

        Invariant: a letter is in exactly one of the two tables, and no change to it is lost.  A letter whose
        id or uid is taken by another in the archive stays.
        """
        c, archived = LETTERS.c, ARCHIVED_LETTERS.c
        id_of_uid = select(archived.id).where(archived.uid == c.uid).scalar_subquery()
        uid_of_id = select(archived.uid).where(archived.id == c.id).scalar_subquery()
        not_taken = (func.coalesce(id_of_uid, c.id) == c.id, func.coalesce(uid_of_id, c.uid) == c.uid)
        oldest = (
            select(c.id)
            .where(c.failed_at < before, *not_taken)
            .order_by(c.failed_at, c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)  # on SQLite the transaction holds the only lock already
        )
        async with self._database.begin() as connection:
            ids = list((await connection.execute(oldest)).scalars())
            if not ids:
                return 0
            columns = [column.name for column in c]
            rows = select(LETTERS).where(c.id.in_(ids))
            into = self._database.insert(ArchivedFailure).from_select(columns, rows)
            await connection.execute(into.on_conflict_do_nothing())
            is_archived = exists().where(archived.id == c.id, archived.uid == c.uid)
            delete = LETTERS.delete().where(c.id.in_(ids), is_archived)
            return (await connection.execute(delete)).rowcount

    async def _rows_by_id(
        self, letter_ids: Sequence[int], columns: Sequence[str]
    ) -> dict[int, tuple[Any, Table]]:
        """Return the rows with the table that each was found in."""
        rows: dict[int, tuple[Any, Table]] = {}
        async with self._database.connect() as connection:
            for table in (LETTERS, ARCHIVED_LETTERS):  # in this order, since a letter may be archived now
                missing_ids = [id_ for id_ in letter_ids if id_ not in rows and abs(id_) <= MAX_ID]
                selected = select(*(table.c[name] for name in columns))
                for start in range(0, len(missing_ids), _MAX_SELECT_IDS):
                    query = selected.where(table.c.id.in_(missing_ids[start : start + _MAX_SELECT_IDS]))
                    rows |= {row.id: (row, table) for row in await connection.execute(query)}
        return rows

    async def _change_state(
        self,
        selection: LetterFilter | Sequence[int],
        from_state: str,
        to: str,
        on_progress: Callable[[int], None],
    ) -> int:
        if isinstance(selection, LetterFilter):
            selection = await self._ids(selection.model_copy(update={"state": from_state}))
        total = 0
        for start in range(0, len(selection), _MAX_UPDATE_ROWS):
            ids = [id_ for id_ in selection[start : start + _MAX_UPDATE_ROWS] if abs(id_) <= MAX_ID]
            changed = 0
            async with self._database.begin() as connection:
                for table in (LETTERS, ARCHIVED_LETTERS):
                    change = update(table).where(table.c.id.in_(ids), table.c.state == from_state)
                    changed += (await connection.execute(change.values(state=to))).rowcount
            on_progress(changed)
            total += changed
        return total

    async def _ids(self, letter_filter: LetterFilter) -> list[int]:
        query = letter_query(letter_filter, self._database.dialect)
        async with self._database.connect() as connection:
            return list((await connection.execute(query.select_indexed([query.c.id]))).scalars())

    async def _record(self, rows: list[dict[str, Any]]) -> int:
        """Insert rows; one that the database refuses must not keep the others from being recorded."""
        try:
            return await self._insert(rows)
        except StorageError:
            raise
        except Exception:  # refused by the database or by its driver
            if len(rows) > 1:
                return sum([await self._record([row]) for row in rows])
            return await self._insert([sanitized_row(rows[0])])

    async def _insert(self, rows: list[dict[str, Any]]) -> int:
        fingerprints = {row["fingerprint"] for row in rows} - self._known_groups
        async with self._database.begin() as connection:
            values, outcomes = place_in_lineages(rows, await fetch_origins(connection, rows))
            new_groups = await find_new_groups(connection, fingerprints)
            statement = self._database.insert(JobFailure, values).on_conflict_do_nothing(
                index_elements=["uid"]
            )
            new = set((await connection.execute(statement.returning(LETTERS.c.uid))).scalars())
            # After the INSERT, which waits for a transaction that archives the same letter.
            archived = select(ARCHIVED_LETTERS.c.uid).where(ARCHIVED_LETTERS.c.uid.in_(new))
            if new and (before := set((await connection.execute(archived)).scalars())):
                await connection.execute(LETTERS.delete().where(LETTERS.c.uid.in_(before)))
                new -= before
            await finish_replays(connection, outcomes)
            await insert_events(connection, self._database, list(new_group_events(rows, new, new_groups)))
        if len(self._known_groups) > _MAX_KNOWN_GROUPS:
            self._known_groups.clear()
        self._known_groups |= fingerprints - new_groups
        return len(new)


async def _largest_groups(connection: AsyncConnection, query: LetterQuery, limit: int) -> list[Any]:
    """Return the rows of `LetterQuery.groups`, of few groups by steps in their index."""
    steps = query.first_groups(_MAX_COUNTED_GROUPS + 1)
    if steps is not None:
        rows = (await connection.execute(steps)).all()
        if len(rows) <= _MAX_COUNTED_GROUPS:
            return sorted(rows, key=lambda row: (-row[1], row[0]))[:limit]
    return list((await connection.execute(query.groups(limit))).all())


def _is_window(letter_filter: LetterFilter) -> bool:
    """Return whether only letters of some time are selected."""
    limits = (letter_filter.since, letter_filter.until, letter_filter.up_to)
    return any(limit is not None for limit in limits)


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= MAX_PAGE:
        raise ValueError(f"limit: {limit} is not between 1 and {MAX_PAGE}")


def _to_letter(row: Any, table: Table) -> DeadLetter:
    return DeadLetter(**row._mapping, archived=table is ARCHIVED_LETTERS)
