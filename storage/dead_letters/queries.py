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
from storage.dead_letters.ordering import NEWEST_FIRST, LetterOrder, check_order
from storage.dead_letters.search import PostgresSearch, SqliteSearch
from storage.errors import InvalidCursorError
from storage.sanitize import sanitize


def letter_query(letter_filter: LetterFilter, dialect: str, order: LetterOrder = NEWEST_FIRST) -> LetterQuery:
    """Return the SQL of a filter on ``dialect`` (``sqlite`` or ``postgresql``).

    Raises InvalidFilterError for an order that no index has.
    """
    check_order(order, letter_filter)
    if not letter_filter.uses_text_search:
        return IndexedQuery(letter_filter, dialect, order)
    search = SqliteSearch if dialect == "sqlite" else PostgresSearch
    return search(letter_filter, dialect)


class IndexedQuery(LetterQuery):
    """SQL for a filter without texts: the letters that died last come first, unless an order is given."""

    def __init__(self, letter_filter: LetterFilter, dialect: str, order: LetterOrder = NEWEST_FIRST) -> None:
        super().__init__(letter_filter, dialect)
        self.order = order.name
        self._descending = order.descending
        self.order_columns = (*(() if order.column == "failed_at" else (order.column,)), "failed_at", "id")

    def page(
        self, columns: Sequence[ColumnElement[Any]], limit: int, after: PagePosition | None
    ) -> Select[Any]:
        """See the base class."""
        c = self.table.c
        sorted_by = [c[name] for name in self.order_columns]
        following: list[ColumnElement[bool]] = []
        if after is not None:
            position = tuple_(
                *(literal(value, column.type) for value, column in zip(after, sorted_by, strict=True))
            )
            values = tuple_(*sorted_by)
            following.append(values < position if self._descending else values > position)
        states = self._states_to_merge
        if states is None:
            ids = self.select_indexed([c.id], *following).order_by(*self._in_order(c)).limit(limit)
        else:
            ids = self._merge_states(states, following, limit)
        return select(*columns).where(c.id.in_(ids)).order_by(*self._in_order(c))

    def _in_order(self, columns: Any) -> list[ColumnElement[Any]]:
        """Return the columns of the order, out of ``columns``, in its direction."""
        sorted_by = [columns[name] for name in self.order_columns]
        return [column.desc() if self._descending else column.asc() for column in sorted_by]

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
        """Return the ids of a page: the first of each state, merged."""
        c = self.table.c
        parts = [
            self._select_in_states([c[name] for name in self.order_columns], following, [state])
            .order_by(*self._in_order(c))
            .limit(limit)
            .subquery()
            for state in states
        ]
        first = union_all(
            *(select(*(part.c[name] for name in self.order_columns)) for part in parts)
        ).subquery()
        return select(first.c.id).order_by(*self._in_order(first.c)).limit(limit)

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
            self.order_columns[:-2] or None,
        )
        return STATES if any(value is not None for value in values) else None

    def _conditions(self) -> list[ColumnElement[bool]]:
        state = self._filter.state
        return [*super()._conditions(), *([] if state is None else [self.c.state == state])]

    def first_groups(self, limit: int) -> Select[Any] | None:
        """See the base class.  Each fingerprint is one step in the index of groups after the one before.

        Only for SQLite: Postgres counts in one pass with several processes, and would look for the newest
        letter of a group in the primary key.
        """
        letter_filter = self._filter
        by_state = LetterFilter(state=letter_filter.state, archived=letter_filter.archived)
        if not self._sqlite or letter_filter.state is None or letter_filter != by_state:
            return None
        c = self.table.c

        def of_letters(*columns: ColumnElement[Any], group: ColumnElement[bool]) -> Any:
            return select(*columns).where(c.state == letter_filter.state, group).scalar_subquery()

        lowest = func.min(c.fingerprint)
        chain = select(lowest.label("fingerprint")).where(c.state == letter_filter.state).cte(recursive=True)
        before = chain.c.fingerprint
        following = select(of_letters(lowest, group=c.fingerprint > before)).where(before.is_not(None))
        steps = select(chain.union_all(following).c.fingerprint).limit(limit).subquery()
        group = c.fingerprint == steps.c.fingerprint
        figures = (func.count(), func.min(c.failed_at), func.max(c.failed_at), func.max(c.id))
        return select(steps.c.fingerprint, *(of_letters(figure, group=group) for figure in figures)).where(
            steps.c.fingerprint.is_not(None)
        )

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


def encode_cursor(order: str, failed_at: datetime, letter_id: int, *first: str) -> str:
    """Return the cursor of the page after that letter; ``first``: what it is sorted by before its time."""
    position = json.dumps([order, failed_at.isoformat(), letter_id, *first])
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def decode_cursor(cursor: str, order: str, *, first: int = 0) -> PagePosition:
    """Decode the end of the previous page: ``first`` texts, a time and an id.

    Raises InvalidCursorError for a cursor of another list.
    """
    try:
        made_for, failed_at, letter_id, *values = json.loads(
            base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        )
        when = datetime.fromisoformat(failed_at)
        when = when.astimezone(UTC) if when.tzinfo is not None else when
    except (ValueError, TypeError, OverflowError, RecursionError):
        made_for, when, letter_id, values = None, datetime.min, None, []
    texts = [sanitize(value) for value in values if isinstance(value, str)]
    fits = made_for == order and len(texts) == len(values) == first
    known_id = type(letter_id) is int and abs(letter_id) <= MAX_ID
    if not (fits and known_id) or when.tzinfo is None:
        raise InvalidCursorError(
            "the cursor was not made by this list", fix="leave it out to start at the first page"
        )
    return *texts, when, letter_id


def hour_bucket(column: ColumnElement[datetime], dialect: str) -> ColumnElement[Any]:
    """Return the hour of a time, as text ``2026-03-01 12`` in UTC."""
    if dialect == "sqlite":
        return func.substr(column, 1, 13, type_=None)
    return func.to_char(func.timezone("UTC", column), "YYYY-MM-DD HH24")
