"""Every query of the screens uses an index, on both databases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, text

from storage.database.engine import Database
from storage.dead_letters.filters import ALL_DEAD, LetterFilter
from storage.dead_letters.ordering import ORDER_COLUMNS, LetterOrder
from storage.dead_letters.repository import DeadLetterRepository
from tests.benchmarks.letter_rows import fill
from tests.benchmarks.letters import filters

INDEXES = {
    "all dead": "ix_job_failures_newest",
    "discarded": "ix_job_failures_newest",
    "all states": "ix_job_failures_all",
    "queue": "ix_job_failures_queue",
    "queue, all states": "ix_job_failures_queue",
    "function": "ix_job_failures_function",
    "function, all states": "ix_job_failures_function",
    "fingerprint": "ix_job_failures_group",
    "fingerprint, all states": "ix_job_failures_group",
}
"""The index that gives a page its letters."""


ORDERS = [LetterOrder(column, descending) for column in ORDER_COLUMNS for descending in (True, False)]


@contextmanager
def _statements(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """Records the statements, with their values."""
    asked: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, values: Any, *___: Any) -> None:
        if "SELECT" in statement:
            asked.append((statement, values))

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    yield asked
    event.remove(database.engine.sync_engine, "before_cursor_execute", note)


async def _explained(database: Database, asked: list[tuple[str, Any]]) -> list[tuple[str, list[Any]]]:
    explain = "EXPLAIN QUERY PLAN " if database.dialect == "sqlite" else "EXPLAIN (FORMAT JSON) "
    async with database.connect() as connection:
        return [
            (statement, list((await connection.exec_driver_sql(explain + statement, values)).all()))
            for statement, values in asked
        ]


@pytest.mark.slow
async def test_every_query_of_the_screens_uses_an_index(database: Database) -> None:
    """With 8,000 letters, which are 10 MB, reading the table costs Postgres more than any index here, so that
    it reads the table only where it has no index to choose.  SQLite has no figures to choose by, since the
    program makes none: its choice is the same at any size, and it is looked at once more with figures.

    Without one of the indexes another one may be read from end to end instead: so these have their names.
    """
    await fill(database, 8_000)
    letters = DeadLetterRepository(database)
    (letter,) = (await letters.page(limit=1)).items
    for _ in range(2 if database.dialect == "sqlite" else 1):
        wrong = []
        for title, chosen in filters(letter).items():
            if chosen.archived:  # it is empty, so Postgres reads it all
                continue
            with _statements(database) as asked:
                cursor = (await letters.page(chosen, limit=5)).next
                await letters.page(chosen, limit=5, cursor=cursor)
            pages = await _explained(database, asked)
            for order in ORDERS if chosen in (ALL_DEAD, LetterFilter(state=None)) else ():
                with _statements(database) as asked:
                    cursor = (await letters.page(chosen, limit=5, order=order)).next
                    await letters.page(chosen, limit=5, cursor=cursor, order=order)
                pages += await _explained(database, asked)
            with _statements(database) as asked:
                await letters.count(chosen)
                await letters.count(chosen, limit=100)
                await letters.groups(chosen)
            others = await _explained(database, asked)
            check = _sqlite_faults if database.dialect == "sqlite" else _postgres_faults
            if title in INDEXES and INDEXES[title] not in str([tuple(row) for row in pages[0][1]]):
                wrong.append((title, "another index", pages[0][0]))
            for statement, plan in pages:
                wrong += [
                    (title, fault, statement) for fault in check(plan, page=not chosen.uses_text_search)
                ]
            for statement, plan in others:
                wrong += [(title, fault, statement) for fault in check(plan, page=False)]
        assert wrong == []
        async with database.begin() as connection:
            await connection.execute(text("ANALYZE"))


def _sqlite_faults(plan: list[Any], *, page: bool) -> list[str]:
    """Reports a scan of the letters, or a sort of rows that an index should return in order."""
    lines = [(row[1], row[3]) for row in plan]
    sorting = {parent for parent, line in lines if line == "USE TEMP B-TREE FOR ORDER BY"}
    reads = [
        (parent, line) for parent, line in lines if line.startswith(("SCAN job_fail", "SEARCH job_fail"))
    ]
    scans = [line for _, line in reads if line.startswith("SCAN") and "INDEX" not in line]
    by_id = "USING INTEGER PRIMARY KEY"  # for the rows of the page
    sorts = [line for parent, line in reads if parent in sorting and by_id not in line]
    return scans + (sorts if page else [])


def _postgres_faults(plan: list[Any], *, page: bool) -> list[str]:
    ((found,),) = plan
    root = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    nodes = list(_nodes(root))
    scans = [
        "Seq Scan"
        for node in nodes
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] == "job_failures"
    ]
    limits = [list(_nodes(node)) for node in nodes if node["Node Type"] == "Limit"]
    sorts = [
        "Sort"
        for below in limits
        if sum(node["Node Type"] == "Limit" for node in below) == 1  # else it merges the states' newest
        and any(node["Node Type"] in ("Sort", "Bitmap Heap Scan") for node in below)
    ]
    return scans + (sorts if page else [])


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from _nodes(child)
