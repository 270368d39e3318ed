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
    func,
    literal,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy import column as sql_column
from sqlalchemy import table as sql_table
from sqlalchemy.dialects.postgresql import array

from storage.database.tables import POISON_DEATHS, ArchivedFailure, JobFailure
from storage.dead_letters.filters import MIN_SEARCH_CHARS, STATES, LetterFilter
from storage.errors import InvalidCursorError
from storage.sanitize import sanitize

MAX_ID = 2**63 - 1
LETTERS: Table = JobFailure.__table__  # type: ignore[assignment]
ARCHIVED_LETTERS: Table = ArchivedFailure.__table__  # type: ignore[assignment]

PagePosition = tuple[datetime, int]
"""Where a page ended: time of death and id."""


class LetterQuery:
    """The letters that ``filter`` means, on ``dialect`` (``sqlite`` or ``postgresql``).

    The newest are first: by their death, or where texts are searched for, by their recording.  A search
    reads the table beside the letters, which has what never changes in them; ``c`` are the columns of the
    table that is read: id, queue_name, function, fingerprint, failed_at, deaths.
    """

    def __init__(self, wanted: LetterFilter, dialect: str) -> None:
        self._wanted = wanted
        self._sqlite = dialect == "sqlite"
        self.table = ARCHIVED_LETTERS if wanted.archived else LETTERS
        self.c: Any = _search_table(self.table, dialect).c if wanted.uses_text_search else self.table.c
        self.order = "recorded" if wanted.uses_text_search else "failed_at"

    def page(
        self, columns: Sequence[ColumnElement[Any]], limit: int, after: PagePosition | None
    ) -> Select[Any]:
        """At most ``limit`` rows that follow ``after``.

        Their ids come out of an index alone; only the rows of the page are read.
        """
        c = self.table.c
        further: list[ColumnElement[bool]] = []
        if self._wanted.uses_text_search:
            if after is not None:
                further.append(self.c.id < after[1])
            chosen = self._found(*further).order_by(self.c.id.desc()).limit(limit)
            return select(*columns).where(c.id.in_(chosen)).order_by(c.id.desc())
        if after is not None:
            place = [literal(value, of.type) for value, of in zip(after, (c.failed_at, c.id), strict=True)]
            further.append(tuple_(c.failed_at, c.id) < tuple_(*place))
        order = (c.failed_at.desc(), c.id.desc())
        if self._states is None:
            chosen = self.facts([c.id], *further).order_by(*order).limit(limit)
        else:  # each state's newest are found, and merged
            parts = [
                self.facts([c.failed_at, c.id], *further, states=[state])
                .order_by(*order)
                .limit(limit)
                .subquery()
                for state in self._states
            ]
            newest = union_all(*(select(part.c.failed_at, part.c.id) for part in parts)).subquery()
            chosen = select(newest.c.id).order_by(newest.c.failed_at.desc(), newest.c.id.desc()).limit(limit)
        return select(*columns).where(c.id.in_(chosen)).order_by(*order)

    def all(self, columns: Sequence[ColumnElement[Any]], *more: ColumnElement[bool]) -> Select[Any]:
        """Columns of ``table`` of all of them, in no order."""
        if not self._wanted.uses_text_search:
            return self.facts(columns, *more)
        return select(*columns).where(self.table.c.id.in_(self.facts([self.c.id])), *more)

    def facts(
        self,
        columns: Sequence[ColumnElement[Any]],
        *more: ColumnElement[bool],
        states: Sequence[str] | None = None,
    ) -> Select[Any]:
        """Columns of ``c`` of all of them, in no order."""
        states = self._states if states is None else states
        query = select(*columns).where(*self.conditions(), *more)
        if self._wanted.uses_text_search and self._wanted.state is not None:
            return query.where(self._of_state(self._wanted.state))
        return query if states is None else query.where(self.table.c.state.in_(states))

    def groups(self, limit: int) -> Select[Any]:
        """Fingerprint, number of letters, first and last death, and newest id of the groups with the most."""
        wanted, c = self._wanted, self.c
        narrowed = (wanted.queue, wanted.function, wanted.fingerprint, wanted.since, wanted.until)
        by: list[Any] = [c.fingerprint]
        if not any((*narrowed, wanted.poison, wanted.uses_text_search)):
            by = [self.table.c.state, c.fingerprint]  # the order of an index
        elif self._sqlite:  # in no index's order: that of the conditions is the better one
            by = [c.fingerprint.concat("")]
        times = (func.min(c.failed_at).label("first"), func.max(c.failed_at).label("last"))
        columns = (c.fingerprint, func.count().label("number"), *times, func.max(c.id).label("newest"))
        part = self.facts(columns).group_by(*by).subquery().c
        number = func.sum(part.number).label("total")
        return (
            select(part.fingerprint, number, func.min(part.first), func.max(part.last), func.max(part.newest))
            .group_by(part.fingerprint)
            .order_by(number.desc(), part.fingerprint)
            .limit(limit)
        )

    def conditions(self) -> list[ColumnElement[bool]]:
        """What must hold of ``c``; a search asks for the state besides."""
        wanted, c = self._wanted, self.c
        found: list[ColumnElement[bool]] = []
        for column, value in (
            (c.queue_name, wanted.queue),
            (c.function, wanted.function),
            (c.fingerprint, wanted.fingerprint),
        ):
            if value is not None:
                same = column == sanitize(value)
                # Postgres would compare a bare equality last, after it has looked for the text.
                found.append(same if self._sqlite or not wanted.uses_text_search else same.is_(True))
        if wanted.poison is not None:
            limit = literal(POISON_DEATHS, literal_execute=True)  # as the index of these has it
            found.append(c.deaths >= limit if wanted.poison else c.deaths < limit)
        if wanted.since is not None:
            found.append(c.failed_at >= wanted.since)
        if wanted.until is not None:
            found.append(c.failed_at < wanted.until)
        if wanted.up_to is not None:
            found.append(c.id <= wanted.up_to)
        if not wanted.uses_text_search:
            of_state: list[ColumnElement[bool]] = [] if wanted.state is None else [c.state == wanted.state]
            return [*found, *of_state]
        if self._sqlite:
            return [*found, *self._search_of_sqlite(), *self._between()]
        return [*found, *self._search_of_postgres()]

    @property
    def _states(self) -> Sequence[str] | None:
        """The states to look for one by one, since an index has the state before the order; else None."""
        wanted = self._wanted
        if wanted.uses_text_search or wanted.state is not None:
            return None
        values = (wanted.queue, wanted.function, wanted.fingerprint, wanted.poison or None)
        return STATES if any(value is not None for value in values) else None

    def _between(self) -> list[ColumnElement[bool]]:
        """The ids that those with a time of death can have: FTS5 goes by them, and reads a row for a time."""
        c, found = self.table.c, []
        if self._wanted.since is not None:  # + 0: or SQLite might look for the least id row by row
            least = select(func.coalesce(func.min(c.id + 0), 0)).where(c.failed_at >= self._wanted.since)
            found.append(self.c.id >= least.scalar_subquery())
        if self._wanted.until is not None:
            greatest = select(func.coalesce(func.max(c.id + 0), 0)).where(c.failed_at < self._wanted.until)
            found.append(self.c.id <= greatest.scalar_subquery())
        return found

    def _found(self, *more: ColumnElement[bool]) -> Select[Any]:
        """The ids that a search finds, so that it goes on to their states, and never the other way round.

        OFFSET 0 keeps Postgres from joining in another order, which is quick only if nothing is clustered.
        """
        if self._sqlite or self._wanted.state is None:
            return self.facts([self.c.id], *more)
        c = self.table.c
        state = select(c.state).where(c.id == self.c.id, c.state == self._wanted.state).offset(0).lateral()
        source = self.c.id.table.join(state, true())
        return select(self.c.id).select_from(source).where(*self.conditions(), *more)

    def _of_state(self, state: str) -> ColumnElement[bool]:
        """On SQLite asked of each letter that the search has found: without figures it might choose badly."""
        c = self.table.c
        if self._sqlite:
            of_found = select(c.state).where(c.id == self.c.id).scalar_subquery()
            return of_found == literal(state)
        one: ColumnElement[bool] = self.c.id.in_(select(c.id).where(c.state == state))
        return one

    def _search_of_sqlite(self) -> list[ColumnElement[bool]]:
        """FTS5's language: texts in quotation marks, each in its column.

        It knows no difference between large and small letters, which arguments have.
        """
        wanted = self._wanted
        texts = [("error", sanitize(wanted.error))] if wanted.error is not None else []
        texts += [("args", f"={_in_a_line(value)}\n") for value in wanted.args.values()]
        columns = {"queue_name": wanted.queue, "function": wanted.function, "fingerprint": wanted.fingerprint}
        for column, value in columns.items():  # so that what has none of them is not looked at
            if value is not None and len(value) >= MIN_SEARCH_CHARS:
                texts.append((column, sanitize(value)))
        match = " AND ".join('{}: "{}"'.format(column, text.replace('"', '""')) for column, text in texts)
        lines = [f"\n{_in_a_line(name, '=')}={_in_a_line(value)}\n" for name, value in wanted.args.items()]
        return [self.c.whole.op("MATCH")(match), *(func.instr(self.c.args, line) > 0 for line in lines)]

    def _search_of_postgres(self) -> list[ColumnElement[bool]]:
        """With the texts in the statement: how often one is found decides how to look for it."""
        wanted = self._wanted
        found: list[ColumnElement[bool]] = []
        if wanted.error is not None:
            pattern = literal(f"%{_escaped(sanitize(wanted.error))}%", Text(), literal_execute=True)
            found.append(self.c.error.like(func.lower(pattern)))
        if wanted.args:
            texts = [f"{_escaped(sanitize(n), '=')}={sanitize(v)}" for n, v in wanted.args.items()]
            found.append(
                self.c.args.op("@>")(array([literal(t, Text(), literal_execute=True) for t in texts]))
            )
        return found


def _search_table(letters: Table, dialect: str) -> FromClause:
    name = f"{letters.name}_text"
    c = letters.c
    columns = [sql_column(each.name, each.type) for each in (c.queue_name, c.function, c.fingerprint)]
    columns += [sql_column("failed_at", c.failed_at.type), sql_column("deaths", c.deaths.type)]
    columns += [sql_column("error", Text()), sql_column("args", Text())]
    if dialect != "sqlite":
        return sql_table(name, sql_column("id", c.id.type), *columns)
    id_, whole = sql_column("rowid", c.id.type), sql_column(name, Text())
    id_.key, whole.key = "id", "whole"
    return sql_table(name, id_, whole, *columns)


def encode_cursor(order: str, failed_at: datetime, letter_id: int) -> str:
    """The cursor of the page after that letter."""
    place = json.dumps([order, failed_at.isoformat(), letter_id])
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def decode_cursor(cursor: str, order: str) -> PagePosition:
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


def hour_bucket(column: ColumnElement[datetime], dialect: str) -> ColumnElement[Any]:
    """The hour that a time lies in, as text ``2026-03-01 12`` in UTC."""
    if dialect == "sqlite":
        return func.substr(column, 1, 13, type_=None)
    return func.to_char(func.timezone("UTC", column), "YYYY-MM-DD HH24")


def _escaped(text: str, signs: str = "%_") -> str:
    for sign in f"\\{signs}":
        text = text.replace(sign, f"\\{sign}")
    return text


def _in_a_line(text: str, signs: str = "") -> str:
    """As the migration writes it into the lines of arguments."""
    return _escaped(sanitize(text), signs).replace("\n", "\\n")
