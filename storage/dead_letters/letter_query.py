"""The SQL that all filters share, those that use an index and those that search texts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, func, literal, select

from storage.database.tables import ARCHIVED_LETTERS, LETTERS, POISON_DEATHS
from storage.dead_letters.filters import LetterFilter
from storage.sanitize import sanitize

PagePosition = tuple[Any, ...]
"""The last letter of a page: its values of the columns of the order, which end with time of death and id."""


class LetterQuery(ABC):
    """SQL for the letters that a filter selects, newest first.

    ``table`` holds the letters.  ``c`` are the columns of the table that is searched, which has at least id,
    queue_name, function, fingerprint, failed_at and deaths.
    """

    order: str
    """Name of the order of pages, which their cursors carry."""
    order_columns: tuple[str, ...] = ("failed_at", "id")

    def __init__(self, letter_filter: LetterFilter, dialect: str) -> None:
        self._filter = letter_filter
        self._sqlite = dialect == "sqlite"
        self.table = ARCHIVED_LETTERS if letter_filter.archived else LETTERS
        self.c: Any = self.table.c

    @abstractmethod
    def page(
        self, columns: Sequence[ColumnElement[Any]], limit: int, after: PagePosition | None
    ) -> Select[Any]:
        """Select at most ``limit`` rows of ``table`` that follow ``after``.

        The ids come from an index alone, so that only the rows of the page are read.
        """

    @abstractmethod
    def select_letters(self, columns: Sequence[ColumnElement[Any]]) -> Select[Any]:
        """Select columns of ``table`` of every letter, unordered."""

    @abstractmethod
    def select_indexed(
        self, columns: Sequence[ColumnElement[Any]], *conditions: ColumnElement[bool]
    ) -> Select[Any]:
        """Select columns of ``c`` of every letter that also meets ``conditions``, unordered."""

    def groups(self, limit: int) -> Select[Any]:
        """Select fingerprint, count, first and last death, and newest id of the largest groups."""
        c = self.c
        times = (func.min(c.failed_at).label("first"), func.max(c.failed_at).label("last"))
        columns = (c.fingerprint, func.count().label("number"), *times, func.max(c.id).label("newest"))
        part = self.select_indexed(columns).group_by(*self._group_columns()).subquery().c
        number = func.sum(part.number).label("total")
        return (
            select(part.fingerprint, number, func.min(part.first), func.max(part.last), func.max(part.newest))
            .group_by(part.fingerprint)
            .order_by(number.desc(), part.fingerprint)
            .limit(limit)
        )

    def first_groups(self, limit: int) -> Select[Any] | None:
        """Return the groups with the first ``limit`` fingerprints, with the columns of `groups`, in no order.

        None if `groups` is the faster one.
        """
        return None

    def _group_columns(self) -> list[Any]:
        return [_prevent_index_on_group_by(self.c.fingerprint) if self._sqlite else self.c.fingerprint]

    def _conditions(self) -> list[ColumnElement[bool]]:
        """Return the conditions on columns that both kinds of tables have."""
        letter_filter, c = self._filter, self.c
        conditions: list[ColumnElement[bool]] = []
        for column, value in (
            (c.queue_name, letter_filter.queue),
            (c.function, letter_filter.function),
            (c.fingerprint, letter_filter.fingerprint),
        ):
            if value is not None:
                conditions.append(self._equals(column, sanitize(value)))
        if letter_filter.poison is not None:
            limit = match_partial_index(POISON_DEATHS)
            conditions.append(c.deaths >= limit if letter_filter.poison else c.deaths < limit)
        if letter_filter.since is not None:
            conditions.append(c.failed_at >= letter_filter.since)
        if letter_filter.until is not None:
            conditions.append(c.failed_at < letter_filter.until)
        if letter_filter.up_to is not None:
            conditions.append(c.id <= letter_filter.up_to)
        return conditions

    def _equals(self, column: ColumnElement[str], value: str) -> ColumnElement[bool]:
        return column == value


def match_partial_index(number: int) -> ColumnElement[int]:
    """Return the number as text of the statement.

    A partial index is used only if the statement names its limit.
    """
    return literal(number, literal_execute=True)


def _prevent_index_on_group_by(column: ColumnElement[str]) -> ColumnElement[str]:
    """Keep SQLite from reading an index in the order of the groups; that of the conditions is shorter."""
    return column.concat("")
