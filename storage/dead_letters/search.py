"""Filters with a text: found in the search table of FTS5 (SQLite) or pg_trgm (Postgres).

The search table has the columns of a letter that never change; its state is read from the letters.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, Table, Text, func, literal, select, true
from sqlalchemy import column as sql_column
from sqlalchemy import table as sql_table
from sqlalchemy.dialects.postgresql import array

from storage.dead_letters.filters import MIN_SEARCH_CHARS, LetterFilter
from storage.dead_letters.letter_query import LetterQuery, PagePosition
from storage.sanitize import sanitize


class TextSearchQuery(LetterQuery):
    """SQL for a filter with texts: the letters recorded last come first."""

    order = "recorded"

    def __init__(self, letter_filter: LetterFilter, dialect: str) -> None:
        super().__init__(letter_filter, dialect)
        self.c = _search_table(self.table, dialect).c

    def page(
        self, columns: Sequence[ColumnElement[Any]], limit: int, after: PagePosition | None
    ) -> Select[Any]:
        """See the base class."""
        c = self.table.c
        following = [] if after is None else [self.c.id < after[-1]]
        ids = self._matching_ids(*following).order_by(self.c.id.desc()).limit(limit)
        return select(*columns).where(c.id.in_(ids)).order_by(c.id.desc())

    def select_letters(self, columns: Sequence[ColumnElement[Any]]) -> Select[Any]:
        """See the base class."""
        return select(*columns).where(self.table.c.id.in_(self.select_indexed([self.c.id])))

    def select_indexed(
        self, columns: Sequence[ColumnElement[Any]], *conditions: ColumnElement[bool]
    ) -> Select[Any]:
        """See the base class."""
        query = select(*columns).where(*self._conditions(), *conditions)
        state = self._filter.state
        return query if state is None else query.where(self._in_state(state))

    @abstractmethod
    def _matching_ids(self, *conditions: ColumnElement[bool]) -> Select[Any]:
        """Return the ids of a page, in the order of the search table."""

    @abstractmethod
    def _in_state(self, state: str) -> ColumnElement[bool]:
        """Return whether the letter of a row of the search table is in this state."""


class SqliteSearch(TextSearchQuery):
    """Searches the table of FTS5."""

    def _matching_ids(self, *conditions: ColumnElement[bool]) -> Select[Any]:
        return self.select_indexed([self.c.id], *conditions)

    def _in_state(self, state: str) -> ColumnElement[bool]:
        return self._prevent_search_by_state() == literal(state)

    def _prevent_search_by_state(self) -> ColumnElement[Any]:
        """Keep SQLite, which has no statistics, from reading all letters of the state before it searches."""
        c = self.table.c
        return select(c.state).where(c.id == self.c.id).scalar_subquery()

    def _conditions(self) -> list[ColumnElement[bool]]:
        return [*super()._conditions(), *self._match_texts(), *self._id_bounds()]

    def _match_texts(self) -> list[ColumnElement[bool]]:
        """Return a query of FTS5: quoted texts, each in its column.

        FTS5 ignores the case of letters, which arguments do not: they are compared once more.
        """
        letter_filter = self._filter
        texts = [("error", sanitize(letter_filter.error))] if letter_filter.error is not None else []
        texts += [("args", f"={_escape_line(value)}\n") for value in letter_filter.args.values()]
        columns = {
            "queue_name": letter_filter.queue,
            "function": letter_filter.function,
            "fingerprint": letter_filter.fingerprint,
        }
        for column, value in columns.items():  # so that other rows are not read
            if value is not None and len(value) >= MIN_SEARCH_CHARS:
                texts.append((column, sanitize(value)))
        match = " AND ".join('{}: "{}"'.format(column, text.replace('"', '""')) for column, text in texts)
        lines = [
            f"\n{_escape_line(name, '=')}={_escape_line(value)}\n"
            for name, value in letter_filter.args.items()
        ]
        return [self.c.whole.op("MATCH")(match), *(func.instr(self.c.args, line) > 0 for line in lines)]

    def _id_bounds(self) -> list[ColumnElement[bool]]:
        """Return the ids that letters of the filter's times can have: FTS5 would read a row for its time."""
        c, bounds = self.table.c, []
        if self._filter.since is not None:
            first = select(func.coalesce(func.min(_prevent_search_by_id(c.id)), 0)).where(
                c.failed_at >= self._filter.since
            )
            bounds.append(self.c.id >= first.scalar_subquery())
        if self._filter.until is not None:
            last = select(func.coalesce(func.max(_prevent_search_by_id(c.id)), 0)).where(
                c.failed_at < self._filter.until
            )
            bounds.append(self.c.id <= last.scalar_subquery())
        return bounds


class PostgresSearch(TextSearchQuery):
    """Searches the table that has an index of pg_trgm."""

    def _matching_ids(self, *conditions: ColumnElement[bool]) -> Select[Any]:
        if self._filter.state is None:
            return self.select_indexed([self.c.id], *conditions)
        source = self.c.id.table.join(self._prevent_reordered_join(self._filter.state), true())
        return select(self.c.id).select_from(source).where(*self._conditions(), *conditions)

    def _prevent_reordered_join(self, state: str) -> FromClause:
        """Add OFFSET 0, which makes Postgres search before it reads the state of what it has found.

        It would rather read the letters of the state, which is quick only if the matches are not clustered.
        """
        c = self.table.c
        return select(c.state).where(c.id == self.c.id, c.state == state).offset(0).lateral()

    def _in_state(self, state: str) -> ColumnElement[bool]:
        c = self.table.c
        condition: ColumnElement[bool] = self.c.id.in_(select(c.id).where(c.state == state))
        return condition

    def _equals(self, column: ColumnElement[str], value: str) -> ColumnElement[bool]:
        return _prevent_late_comparison(column == value)

    def _conditions(self) -> list[ColumnElement[bool]]:
        return [*super()._conditions(), *self._match_texts()]

    def _match_texts(self) -> list[ColumnElement[bool]]:
        letter_filter = self._filter
        conditions: list[ColumnElement[bool]] = []
        if letter_filter.error is not None:
            pattern = _show_to_planner(f"%{_escape(sanitize(letter_filter.error))}%")
            conditions.append(self.c.error.like(func.lower(pattern)))
        if letter_filter.args:
            texts = [
                f"{_escape(sanitize(name), '=')}={sanitize(value)}"
                for name, value in letter_filter.args.items()
            ]
            conditions.append(self.c.args.op("@>")(array([_show_to_planner(text) for text in texts])))
        return conditions


def _prevent_search_by_id(column: ColumnElement[int]) -> ColumnElement[int]:
    """Keep SQLite from the least id.

    It might read row by row in the order of ids, and not use the index of times.
    """
    return column + 0


def _prevent_late_comparison(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Keep Postgres from comparing a bare equality last, after it has searched for the text."""
    return condition.is_(True)


def _show_to_planner(text: str) -> ColumnElement[str]:
    """Return the text itself in the statement: Postgres chooses the index by how often it occurs."""
    return literal(text, Text(), literal_execute=True)


def _search_table(letters: Table, dialect: str) -> FromClause:
    name = f"{letters.name}_text"
    c = letters.c
    columns = [sql_column(column.name, column.type) for column in (c.queue_name, c.function, c.fingerprint)]
    columns += [sql_column("failed_at", c.failed_at.type), sql_column("deaths", c.deaths.type)]
    columns += [sql_column("error", Text()), sql_column("args", Text())]
    if dialect != "sqlite":
        return sql_table(name, sql_column("id", c.id.type), *columns)
    id_, whole = sql_column("rowid", c.id.type), sql_column(name, Text())
    id_.key, whole.key = "id", "whole"
    return sql_table(name, id_, whole, *columns)


def _escape(text: str, signs: str = "%_") -> str:
    for sign in f"\\{signs}":
        text = text.replace(sign, f"\\{sign}")
    return text


def _escape_line(text: str, signs: str = "") -> str:
    """Return a text as the migration's triggers write it into the lines of arguments."""
    return _escape(sanitize(text), signs).replace("\n", "\\n")
