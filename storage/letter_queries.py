"""A filter as SQL, so that each page comes from an index, in the order of that index."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    Table,
    Text,
    case,
    cast,
    exists,
    func,
    literal,
    or_,
    select,
    tuple_,
    union_all,
)
from sqlalchemy import column as sql_column
from sqlalchemy import table as sql_table
from sqlalchemy.dialects.postgresql import JSONB

from storage.errors import InvalidCursorError
from storage.filters import POISON_DEATHS, STATES, Filter
from storage.models import ArchivedFailure, JobFailure
from storage.text import storable

MAX_ID = 2**63 - 1
LIVING: Table = JobFailure.__table__  # type: ignore[assignment]
ARCHIVE: Table = ArchivedFailure.__table__  # type: ignore[assignment]

_WORDS = ("true", "false", "null")
"""JSON's values that SQLite knows by their type only."""

Place = tuple[datetime, int]
"""Where a page ended: time of death and id."""


class LetterQuery:
    """The letters that ``filter`` means, on ``dialect`` (``sqlite`` or ``postgresql``).

    The newest are first: by their death, or where the search index is needed, by their recording.
    """

    def __init__(self, wanted: Filter, dialect: str) -> None:
        self._wanted = wanted
        self._sqlite = dialect == "sqlite"
        self.table = ARCHIVE if wanted.archived else LIVING
        text = f"{self.table.name}_text"
        self._text = sql_table(text, sql_column("rowid"), sql_column(text))
        self.order = "recorded" if wanted.searches else "failed_at"

    def page(self, columns: Sequence[ColumnElement[Any]], limit: int, after: Place | None) -> Select[Any]:
        """At most ``limit`` rows that follow ``after``."""
        c = self.table.c
        if self._wanted.searches:
            query = self._from(select(*columns), self.conditions())
            if after is not None:
                query = query.where(self._recorded < after[1])
            return query.order_by(self._recorded.desc()).limit(limit)
        further: list[ColumnElement[bool]] = (
            [] if after is None else [tuple_(c.failed_at, c.id) < tuple_(*after)]
        )
        order = (c.failed_at.desc(), c.id.desc())
        if self._wanted.state is not None or not self._by_one_value:
            return select(*columns).where(*self.conditions(), *further).order_by(*order).limit(limit)
        # The indexes have the state before the time: each state's newest are found, and merged.
        parts = [
            select(c.failed_at, c.id)
            .where(c.state == state, *self.conditions(), *further)
            .order_by(*order)
            .limit(limit)
            .subquery()
            for state in STATES
        ]
        newest = union_all(*(select(part.c.failed_at, part.c.id) for part in parts)).subquery()
        chosen = select(newest.c.id).order_by(newest.c.failed_at.desc(), newest.c.id.desc()).limit(limit)
        return select(*columns).where(c.id.in_(chosen)).order_by(*order)

    def all(self, columns: Sequence[ColumnElement[Any]], *more: ColumnElement[bool]) -> Select[Any]:
        """All of them, in no order."""
        return self._from(select(*columns), [*self.conditions(), *more])

    def conditions(self) -> list[ColumnElement[bool]]:
        """What must hold, without the search that SQLite has a table for."""
        wanted, c = self._wanted, self.table.c
        found: list[ColumnElement[bool]] = []
        for column, value in (
            (c.queue_name, wanted.queue),
            (c.function, wanted.function),
            (c.state, wanted.state),
            (c.fingerprint, wanted.fingerprint),
        ):
            if value is not None:
                found.append(column == storable(value))
        if wanted.poison is not None:
            limit = literal(POISON_DEATHS, literal_execute=True)  # as the index of these has it
            found.append(c.deaths >= limit if wanted.poison else c.deaths < limit)
        if wanted.since is not None:
            found.append(c.failed_at >= wanted.since)
        if wanted.until is not None:
            found.append(c.failed_at < wanted.until)
        if wanted.up_to is not None:
            found.append(c.id <= wanted.up_to)
        return [*found, *(self._exact_arguments() if self._sqlite else self._postgres_search())]

    @property
    def _by_one_value(self) -> bool:
        wanted = self._wanted
        return any(value is not None for value in (wanted.queue, wanted.function, wanted.fingerprint))

    @property
    def _recorded(self) -> ColumnElement[Any]:
        return self._text.c.rowid if self._sqlite else self.table.c.id

    def _from(self, query: Select[Any], conditions: Sequence[ColumnElement[bool]]) -> Select[Any]:
        if not (self._sqlite and self._wanted.searches):
            return query.select_from(self.table).where(*conditions)
        found = self._text
        source: FromClause = found.join(self.table, self.table.c.id == found.c.rowid)
        match = found.c[found.name].op("MATCH")(self._match())
        return query.select_from(source).where(match, *conditions)

    def _match(self) -> str:
        """FTS5's language: texts in quotation marks, each in its column."""
        wanted = self._wanted
        texts = [("error", wanted.error)] if wanted.error is not None else []
        texts += [("args", f"\n{name}={value}\n") for name, value in wanted.args.items()]
        return " AND ".join(
            '{}: "{}"'.format(column, storable(sought).replace('"', '""')) for column, sought in texts
        )

    def _exact_arguments(self) -> list[ColumnElement[bool]]:
        """The search index knows no difference between large and small letters."""
        found: list[ColumnElement[bool]] = []
        for name, value in self._wanted.args.items():
            arg = func.json_each(self.table.c.job_data, "$.kwargs").table_valued("key", "value", "type")
            written = case((arg.c.type.in_(_WORDS), arg.c.type), else_=cast(arg.c.value, Text))
            found.append(exists().where(arg.c.key == storable(name), written == storable(value)))
        return found

    def _postgres_search(self) -> list[ColumnElement[bool]]:
        wanted, c = self._wanted, self.table.c
        found: list[ColumnElement[bool]] = []
        if wanted.error is not None:
            whole = c.error_type + literal(": ", literal_execute=True) + c.error_message
            found.append(whole.ilike(f"%{_escaped(storable(wanted.error))}%", escape="\\"))
        kwargs = c.job_data.op("->")(literal("kwargs", literal_execute=True))
        for name, value in wanted.args.items():
            found.append(or_(*(kwargs.op("@>")(cast(each, JSONB)) for each in _containing(name, value))))
        return found


def cursor_of(order: str, failed_at: datetime, letter_id: int) -> str:
    """The cursor of the page after that letter."""
    place = json.dumps([order, failed_at.isoformat(), letter_id])
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def read_cursor(cursor: str, order: str) -> Place:
    """Where the page before ended.  Raises InvalidCursorError for a cursor of another list or order."""
    try:
        made_for, failed_at, letter_id = json.loads(
            base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        )
        at = datetime.fromisoformat(failed_at)
        at = at.astimezone(UTC) if at.tzinfo is not None else at
    except (ValueError, TypeError, OverflowError, RecursionError):
        made_for, at, letter_id = None, datetime.min, None
    if made_for != order or type(letter_id) is not int or abs(letter_id) > MAX_ID or at.tzinfo is None:
        raise InvalidCursorError(
            "the cursor was not made by this list: leave it out to start at the first page"
        )
    return at, letter_id


def hour_of(column: ColumnElement[datetime], dialect: str) -> ColumnElement[Any]:
    """The hour that a time lies in, as text ``2026-03-01 12`` in UTC."""
    if dialect == "sqlite":
        return func.substr(column, 1, 13, type_=None)
    return func.to_char(func.timezone("UTC", column), "YYYY-MM-DD HH24")


def _escaped(sought: str) -> str:
    return sought.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _containing(name: str, value: str) -> list[Any]:
    """What ``name:value`` may mean: the text, and where it is one, the number or the truth value."""
    found: list[Any] = [{storable(name): storable(value)}]
    try:
        other = json.loads(value)
    except (ValueError, RecursionError):
        return found
    if other is None or isinstance(other, int | float):
        found.append({storable(name): other})
    return found
