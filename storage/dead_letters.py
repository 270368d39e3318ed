"""Dead letters in the table ``job_failures``."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, func, select, tuple_, update
from sqlalchemy.exc import DBAPIError, StatementError

from storage.database import Database
from storage.errors import InvalidCursorError
from storage.models import JobFailure
from storage.text import storable

T = TypeVar("T")

_MAX_INTEGER = 2**31 - 1  # of the column ``attempts``
_MAX_ID = 2**63 - 1
_TEXTS = (
    "queue_name",
    "job_id",
    "function",
    "error_type",
    "error_message",
    "traceback",
    "fingerprint",
    "worker",
)
_ROWS = 500  # of one INSERT: Postgres takes 32,767 values

MAX_PAGE = 1_000
"""Rows on one page at the most."""


@dataclass(frozen=True, slots=True)
class NewLetter:
    """A job that failed for good, as it is recorded.

    ``uid`` makes recording idempotent.  ``job_id`` is SAQ's job key, ``job_data`` the job as SAQ writes it.
    ``attempt_errors`` has for each attempt: attempt, at (Unix seconds), worker, error_type, message,
    traceback, run_seconds.  ``replay_of`` is the id of the letter that this job was a replay of.
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
class DeadLetter(NewLetter):
    """A recorded letter.  ``state`` is ``dead``, ``replayed`` or ``discarded``."""

    id: int
    state: str
    replay_count: int
    replayed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One window of a list; ``next`` is the cursor of the following one, None at the end."""

    items: list[T]
    next: str | None


class DeadLetters:
    """Every method raises DatabaseUnavailableError while the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, letters: Sequence[NewLetter]) -> int:
        """Record letters; one that is recorded already changes nothing.  Returns how many were new."""
        rows = [_row(letter) for letter in letters]
        return sum([await self._record(rows[at : at + _ROWS]) for at in range(0, len(rows), _ROWS)])

    async def page(
        self,
        *,
        queue: str | None = None,
        state: str | None = "dead",
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[DeadLetter]:
        """Newest first.  ``limit`` is from 1 to 1,000.  Raises InvalidCursorError, ValueError."""
        if not 1 <= limit <= MAX_PAGE:
            raise ValueError(f"limit: {limit} is not between 1 and {MAX_PAGE}")
        table = JobFailure.__table__
        query: Select[Any] = select(table).order_by(table.c.failed_at.desc(), table.c.id.desc())
        if queue is not None:
            query = query.where(table.c.queue_name == storable(queue))
        if state is not None:
            query = query.where(table.c.state == storable(state))
        if cursor is not None:
            query = query.where(tuple_(table.c.failed_at, table.c.id) < tuple_(*_read_cursor(cursor)))
        async with self._database.connect() as connection:
            rows = (await connection.execute(query.limit(limit + 1))).all()
        items = [_letter(row) for row in rows[:limit]]
        more = len(rows) > limit
        return Page(items, _cursor(items[-1]) if more else None)

    async def get(self, letter_id: int) -> DeadLetter | None:
        """One letter, whatever its state; None where there is none."""
        if abs(letter_id) > _MAX_ID:
            return None
        table = JobFailure.__table__
        async with self._database.connect() as connection:
            row = (await connection.execute(select(table).where(table.c.id == letter_id))).one_or_none()
        return None if row is None else _letter(row)

    async def count(self, state: str = "dead") -> int:
        """Number of letters in ``state``."""
        query = select(func.count()).select_from(JobFailure).where(JobFailure.state == state)
        async with self._database.connect() as connection:
            return int((await connection.execute(query)).scalar_one())

    async def mark_replayed(self, letter_id: int) -> bool:
        """From ``dead`` to ``replayed``; False where it was not dead, so of two callers one gets True."""
        change = (
            update(JobFailure)
            .where(JobFailure.id == letter_id, JobFailure.state == "dead")
            .values(state="replayed", replay_count=JobFailure.replay_count + 1, replayed_at=datetime.now(UTC))
        )
        async with self._database.begin() as connection:
            return (await connection.execute(change)).rowcount == 1

    async def _record(self, rows: list[dict[str, Any]]) -> int:
        try:
            return await self._insert(rows)
        except (DBAPIError, StatementError, ValueError, OverflowError):  # refused; away is another error
            if len(rows) > 1:  # one that the database refuses must not keep the others from being recorded
                return sum([await self._record([row]) for row in rows])
            return await self._insert([_last_resort(rows[0])])

    async def _insert(self, rows: list[dict[str, Any]]) -> int:
        statement = self._database.insert(JobFailure, rows).on_conflict_do_nothing(index_elements=["uid"])
        async with self._database.begin() as connection:
            return max(0, (await connection.execute(statement)).rowcount)


def _row(letter: NewLetter) -> dict[str, Any]:
    row = storable({field.name: getattr(letter, field.name) for field in fields(NewLetter)})
    replay_of = row["replay_of"]
    if type(replay_of) is not int or abs(replay_of) > _MAX_ID:  # from a job's meta, which may be anyone's
        row["replay_of"] = None
    row["attempts"] = max(-_MAX_INTEGER, min(letter.attempts, _MAX_INTEGER))
    return row


def _last_resort(row: dict[str, Any]) -> dict[str, Any]:
    """A row that the database takes, for one that it refused."""
    readable = {"unreadable": repr(row["job_data"])[:100_000]}
    texts = {name: storable(str(row[name])) for name in _TEXTS if row[name] is not None}
    return row | texts | {"job_data": readable, "attempt_errors": [], "enqueued_at": None}


def _letter(row: Any) -> DeadLetter:
    return DeadLetter(**row._mapping)


def _cursor(letter: DeadLetter) -> str:
    place = json.dumps(["failed_at", letter.failed_at.isoformat(), letter.id])
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[datetime, int]:
    try:
        order, failed_at, letter_id = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        at = datetime.fromisoformat(failed_at)
        at = at.astimezone(UTC) if at.tzinfo is not None else at
    except (ValueError, TypeError, OverflowError, RecursionError):
        order, at, letter_id = None, datetime.min, None
    if order != "failed_at" or type(letter_id) is not int or abs(letter_id) > _MAX_ID or at.tzinfo is None:
        raise InvalidCursorError(
            "the cursor was not made by this list: leave it out to start at the first page"
        )
    return at, letter_id
