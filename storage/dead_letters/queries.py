"""A filter as SQL, so that each page comes from an index, in the order of that index."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, func, literal, select, tuple_, union_all

from storage.database.tables import MAX_ID
from storage.dead_letters.filters import STATES, LetterFilter
from storage.dead_letters.letter_query import LetterQuery, PagePosition
from storage.dead_letters.search import PostgresSearch, SqliteSearch
from storage.errors import InvalidCursorError


def letter_query(letter_filter: LetterFilter, dialect: str) -> LetterQuery:
    """The SQL of a filter on ``dialect`` (``sqlite`` or ``postgresql``)."""
    if not letter_filter.uses_text_search:
        return IndexedQuery(letter_filter, dialect)
    search = SqliteSearch if dialect == "sqlite" else PostgresSearch
    return search(letter_filter, dialect)


class IndexedQuery(LetterQuery):
    """SQL for a filter without texts: the letters that died last come first."""

    order = "failed_at"

    def page(
        self, columns: Sequence[ColumnElement[Any]], limit: int, after: PagePosition | None
    ) -> Select[Any]:
        """See the base class."""
        c = self.table.c
        order = (c.failed_at.desc(), c.id.desc())
        following: list[ColumnElement[bool]] = []
        if after is not None:
            columns_of = zip(after, (c.failed_at, c.id), strict=True)
            position = [literal(value, column.type) for value, column in columns_of]
            following.append(tuple_(c.failed_at, c.id) < tuple_(*position))
        states = self._states_to_merge
        if states is None:
            ids = self.select_indexed([c.id], *following).order_by(*order).limit(limit)
        else:
            ids = self._merge_states(states, following, limit)
        return select(*columns).where(c.id.in_(ids)).order_by(*order)

    def select_letters(self, columns: Sequence[ColumnElement[Any]]) -> Select[Any]:
        """See the base class."""
        return self.select_indexed(columns)

    def select_indexed(
        self, columns: Sequence[ColumnElement[Any]], *conditions: ColumnElement[bool]
    ) -> Select[Any]:
        """See the base class."""
        return self._select_in_states(columns, conditions, self._states_to_merge)

    def _select_in_states(
        self,
        columns: Sequence[ColumnElement[Any]],
        conditions: Sequence[ColumnElement[bool]],
        states: Sequence[str] | None,
    ) -> Select[Any]:
        query = select(*columns).where(*self._conditions(), *conditions)
        return query if states is None else query.where(self.table.c.state.in_(states))

    def _merge_states(
        self, states: Sequence[str], following: Sequence[ColumnElement[bool]], limit: int
    ) -> Select[Any]:
        """The ids of a page: the newest of each state, merged."""
        c = self.table.c
        parts = [
            self._select_in_states([c.failed_at, c.id], following, [state])
            .order_by(c.failed_at.desc(), c.id.desc())
            .limit(limit)
            .subquery()
            for state in states
        ]
        newest = union_all(*(select(part.c.failed_at, part.c.id) for part in parts)).subquery()
        return select(newest.c.id).order_by(newest.c.failed_at.desc(), newest.c.id.desc()).limit(limit)

    @property
    def _states_to_merge(self) -> Sequence[str] | None:
        """All states, if the index has the state before the order: each is read by itself.  Else None."""
        letter_filter = self._filter
        if letter_filter.state is not None:
            return None
        values = (
            letter_filter.queue,
            letter_filter.function,
            letter_filter.fingerprint,
            letter_filter.poison or None,
        )
        return STATES if any(value is not None for value in values) else None

    def _conditions(self) -> list[ColumnElement[bool]]:
        state = self._filter.state
        return [*super()._conditions(), *([] if state is None else [self.c.state == state])]

    def _group_columns(self) -> list[Any]:
        letter_filter = self._filter
        narrowed = (
            letter_filter.queue,
            letter_filter.function,
            letter_filter.fingerprint,
            letter_filter.since,
            letter_filter.until,
        )
        if not any((*narrowed, letter_filter.poison)):
            return [self.table.c.state, self.c.fingerprint]  # the order of an index
        return super()._group_columns()


def encode_cursor(order: str, failed_at: datetime, letter_id: int) -> str:
    """The cursor of the page after that letter."""
    position = json.dumps([order, failed_at.isoformat(), letter_id])
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def decode_cursor(cursor: str, order: str) -> PagePosition:
    """Decode the end of the previous page.  Raises InvalidCursorError for a cursor of another list."""
    try:
        made_for, failed_at, letter_id = json.loads(
            base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        )
        when = datetime.fromisoformat(failed_at)
        when = when.astimezone(UTC) if when.tzinfo is not None else when
    except (ValueError, TypeError, OverflowError, RecursionError):
        made_for, when, letter_id = None, datetime.min, None
    if made_for != order or type(letter_id) is not int or abs(letter_id) > MAX_ID or when.tzinfo is None:
        raise InvalidCursorError(
            "the cursor was not made by this list", fix="leave it out to start at the first page"
        )
    return when, letter_id


def hour_bucket(column: ColumnElement[datetime], dialect: str) -> ColumnElement[Any]:
    """The hour of a time, as text ``2026-03-01 12`` in UTC."""
    if dialect == "sqlite":
        return func.substr(column, 1, 13, type_=None)
    return func.to_char(func.timezone("UTC", column), "YYYY-MM-DD HH24")
