"""Filters against a plain model of them, and the query plans of the screens, on both databases."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, event, text

from storage.database import migrations
from storage.database.engine import Database
from storage.database.tables import ArchivedFailure, JobFailure
from storage.dead_letters.filters import ALL_DEAD, STATES, LetterFilter
from storage.dead_letters.ordering import NEWEST_FIRST, ORDER_COLUMNS, LetterOrder, sortable_columns
from storage.dead_letters.records import DeadLetter
from storage.dead_letters.repository import DeadLetterRepository
from storage.errors import InvalidCursorError, InvalidFilterError
from tests.benchmarks.letters import fill, filters

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ODD = [
    "100% of a_b",
    "100x of a.b",
    'a "quoted" word',
    "it's",
    "C:\\new\\table",
    "one\ntwo",
    "ÉTÉ Ω",
    "été ω",
    "名前が長い",
    "...",
    "-- ; DROP TABLE",
    "error: NOT AND *",
    "a=b",
    "🙂🙃🙂",
]
VALUES: list[Any] = [
    *ODD,
    "Lisboa",
    "lisboa",
    "lisboa ",
    1,
    "1",
    1.5,
    -7,
    0,
    2**40,
    True,
    "true",
    False,
    None,
    "x" * 200,
]
NAMES = ["city", "City", "a=b", "n", "odd name\n", "été"]


def _rows(number: int) -> list[dict[str, Any]]:
    """Letters that differ in everything; several died in the same second, not in the order of their ids."""
    found = []
    for n in range(number):
        kwargs = {
            NAMES[n % len(NAMES)]: VALUES[n % len(VALUES)],
            NAMES[(n + 1) % len(NAMES)]: VALUES[(n * 3 + 1) % len(VALUES)],
            "nested": {"city": "Lisboa"},
            "list": ["Lisboa"],
        }
        row = {
            "uid": f"u{n}",
            "queue_name": f"queue-{n % 3}",
            "job_id": f"job-{n}",
            "function": f"function-{n % 4}",
            "job_data": {"kwargs": kwargs},
            "error_type": ("ValueError", "TimeoutError")[n % 2],
            "error_message": f"{ODD[n % len(ODD)]} in item {n}",
            "fingerprint": f"{n % 5:016x}",
            "attempts": 4,
            "attempt_errors": [],
            "failed_at": NOON + timedelta(seconds=(n * 7) % 40),
            "state": STATES[(n * 5 // 3) % 3],
            "deaths": 1 + n % 4,
        }
        found.append(row)
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _means(wanted: LetterFilter, row: Any) -> bool:
    """The filter in Python."""
    scalars = {n: _text(v) for n, v in row.job_data["kwargs"].items() if not isinstance(v, dict | list)}
    conditions = [
        wanted.queue in (None, row.queue_name),
        wanted.function in (None, row.function),
        wanted.state in (None, row.state),
        wanted.fingerprint in (None, row.fingerprint),
        wanted.since is None or row.failed_at >= wanted.since,
        wanted.until is None or row.failed_at < wanted.until,
        wanted.error is None or wanted.error.lower() in f"{row.error_type}: {row.error_message}".lower(),
        all(scalars.get(name) == value for name, value in wanted.args.items()),
        wanted.poison in (None, row.deaths >= 3),
        wanted.archived == row.archived,
        wanted.up_to is None or row.id <= wanted.up_to,
    ]
    return all(conditions)


TIMES = st.integers(-1, 41).map(lambda second: NOON + timedelta(seconds=second))
ERRORS = st.sampled_from(
    [*ODD, "valueerror: ", "Error", "item 1", "item", "no such", "%%%", "a_b", "a%b", "\\\\n"]
)
FILTERS = st.builds(
    LetterFilter,
    queue=st.none() | st.sampled_from(["queue-0", "queue-1", "Queue-1"]),
    function=st.none() | st.sampled_from(["function-0", "function-3"]),
    state=st.none() | st.sampled_from(STATES),
    since=st.none() | st.none() | TIMES,
    until=st.none() | st.none() | TIMES,
    error=st.none() | ERRORS.filter(lambda error: len(error) >= 3),
    fingerprint=st.none() | st.none() | st.sampled_from([f"{n:016x}" for n in range(6)]),
    args=st.just({})
    | st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES).map(_text), max_size=2),
    poison=st.none() | st.booleans(),
    archived=st.booleans(),
    up_to=st.none() | st.none() | st.integers(0, 320),
)


@pytest.fixture
async def database(migrated_database_url: str) -> AsyncIterator[Database]:
    database = Database(migrated_database_url)
    await database.start()
    yield database
    await database.close()


@pytest.fixture
async def filled(database: Database) -> tuple[DeadLetterRepository, list[DeadLetter]]:
    """300 letters, 100 more in the archive, and a list of all."""
    rows = _rows(400)
    async with database.begin() as connection:
        await connection.execute(database.insert(JobFailure, rows[:300]))
        old = [row | {"id": 1_000 + n} for n, row in enumerate(rows[300:])]
        await connection.execute(database.insert(ArchivedFailure, old))
    letters = DeadLetterRepository(database)
    found = await letters.get_many([*range(1, 301), *range(1_000, 1_100)])
    assert len(found) == 400
    return letters, list(found.values())


Filled = tuple[DeadLetterRepository, list[DeadLetter]]


ORDERS = [LetterOrder(column, descending) for column in ORDER_COLUMNS for descending in (True, False)]


@settings(
    max_examples=150 if settings.get_current_profile_name() == "ci" else 20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    print_blob=True,
)
@given(
    wanted=FILTERS,
    limits=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    order=st.sampled_from(ORDERS),
)
async def test_a_filter_selects_what_a_plain_model_of_it_selects(
    filled: Filled, wanted: LetterFilter, limits: list[int], order: LetterOrder
) -> None:
    letters, rows = filled
    meant = [row for row in rows if _means(wanted, row)]
    order = order if order.column in sortable_columns(wanted) else NEWEST_FIRST
    position: Callable[[DeadLetter], Any] = lambda row: (getattr(row, order.column), row.failed_at, row.id)  # noqa: E731
    if wanted.uses_text_search:
        position = lambda row: row.id  # noqa: E731
    meant.sort(key=position, reverse=order.descending)
    assert await _paged(letters, wanted, limits, order) == meant
    assert await letters.count(wanted) == len(meant)
    assert await letters.count(wanted, most=10) == min(len(meant), 11)
    groups = await letters.groups(wanted)
    counts = Counter(row.fingerprint for row in meant)
    assert [(group.fingerprint, group.count) for group in groups] == sorted(
        counts.items(), key=lambda each: (-each[1], each[0])
    )
    for group in groups:
        of_it = [row for row in meant if row.fingerprint == group.fingerprint]
        assert group.first_at == min(row.failed_at for row in of_it)
        assert group.last_at == max(row.failed_at for row in of_it)
        assert group.sample == max(of_it, key=lambda row: row.id)


async def _paged(
    letters: DeadLetterRepository, wanted: LetterFilter, limits: Sequence[int], order: LetterOrder
) -> list[DeadLetter]:
    found: list[DeadLetter] = []
    cursor, at = None, 0
    while True:
        page = await letters.page(wanted, limit=limits[at % len(limits)], cursor=cursor, order=order)
        found += page.items
        if page.next is None:
            return found
        cursor, at = page.next, at + 1


FOUND_BY_ARGUMENT = {
    ("text", "Lisboa"): 1,
    ("text", "lisboa"): 0,
    ("text", "Lisbo"): 0,
    ("int", "1"): 1,
    ("int", "01"): 0,
    ("float", "1.5"): 1,
    ("true", "true"): 1,
    ("false", "false"): 1,
    ("null", "null"): 1,
    ("quoted", 'say "no"'): 1,
    ("lines", "one\ntwo=3"): 1,
    ("two", "3"): 0,
    ("signs", "50%_\\"): 1,
    ("signs", "50%x\\"): 0,
    ("unicode", "名前 🙂"): 1,
    ("with=sign", "x"): 1,
    ("with", "sign=x"): 0,
    ("long", "x" * 200): 1,
    ("longer", "x" * 200): 0,
    ("nested", "Lisboa"): 0,
    ("city", "Lisboa"): 0,
    ("list", "Lisboa"): 0,
    ("none such", "Lisboa"): 0,
}
"""By name and value of an argument: how many letters have it."""


async def test_an_argument_is_found_by_its_name_and_its_whole_value(database: Database) -> None:
    kwargs = {
        "text": "Lisboa",
        "int": 1,
        "float": 1.5,
        "true": True,
        "false": False,
        "null": None,
        "quoted": 'say "no"',
        "lines": "one\ntwo=3",
        "signs": "50%_\\",
        "unicode": "名前 🙂",
        "with=sign": "x",
        "long": "x" * 200,
        "longer": "x" * 201,
        "nested": {"city": "Lisboa"},
        "list": ["Lisboa"],
    }
    async with database.begin() as connection:
        (row,) = _rows(1)
        await connection.execute(database.insert(JobFailure, [row | {"job_data": {"kwargs": kwargs}}]))
    letters = DeadLetterRepository(database)
    numbers = {
        (name, value): await letters.count(LetterFilter(args={name: value}))
        for name, value in FOUND_BY_ARGUMENT
    }
    assert numbers == FOUND_BY_ARGUMENT


async def test_jobs_without_arguments_are_recorded_and_found_by_their_error(database: Database) -> None:
    data: list[dict[str, Any]] = [{}, {"kwargs": None}, {"kwargs": [1]}, {"kwargs": "x"}, {"kwargs": {}}]
    rows = [row | {"job_data": job} for row, job in zip(_rows(len(data)), data, strict=True)]
    async with database.begin() as connection:
        await connection.execute(database.insert(JobFailure, rows))
    letters = DeadLetterRepository(database)
    assert await letters.count(LetterFilter(error="item", state=None)) == len(data)
    assert await letters.count(LetterFilter(args={"0": "1"}, state=None)) == 0


async def test_a_cursor_of_another_order_is_refused(filled: Filled) -> None:
    letters, _ = filled
    search = LetterFilter(error="item")
    died, recorded = await letters.page(limit=1), await letters.page(search, limit=1)
    with pytest.raises(InvalidCursorError):
        await letters.page(search, cursor=died.next)
    with pytest.raises(InvalidCursorError):
        await letters.page(cursor=recorded.next)
    by_queue = await letters.page(limit=1, order=LetterOrder("queue_name"))
    for order in (NEWEST_FIRST, LetterOrder("queue_name", descending=False), LetterOrder("function")):
        with pytest.raises(InvalidCursorError):
            await letters.page(cursor=by_queue.next, order=order)


async def test_an_order_without_an_index_is_refused(filled: Filled) -> None:
    letters, _ = filled
    for wanted in (LetterFilter(queue="queue-0"), LetterFilter(since=NOON), LetterFilter(error="item")):
        with pytest.raises(InvalidFilterError, match="no index sorts by function"):
            await letters.page(wanted, order=LetterOrder("function"))


async def test_an_archived_letter_is_found_in_the_archive_only(database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(database.insert(JobFailure, _rows(60)))
    letters = DeadLetterRepository(database)
    some = [
        LetterFilter(state=None, error="item"),
        LetterFilter(state=None, args={"city": "Lisboa"}),
        LetterFilter(state=None),
    ]
    before = [await letters.count(wanted) for wanted in some]
    assert all(before)
    assert await letters.archive(NOON + timedelta(days=1)) == 60
    assert [await letters.count(wanted) for wanted in some] == [0, 0, 0]
    archived = [wanted.model_copy(update={"archived": True}) for wanted in some]
    assert [await letters.count(wanted) for wanted in archived] == before


# Plans

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
        for title, wanted in filters(letter).items():
            if wanted.archived:  # it is empty, so Postgres reads it all
                continue
            with _statements(database) as asked:
                cursor = (await letters.page(wanted, limit=5)).next
                await letters.page(wanted, limit=5, cursor=cursor)
            pages = await _explained(database, asked)
            for order in ORDERS if wanted in (ALL_DEAD, LetterFilter(state=None)) else ():
                with _statements(database) as asked:
                    cursor = (await letters.page(wanted, limit=5, order=order)).next
                    await letters.page(wanted, limit=5, cursor=cursor, order=order)
                pages += await _explained(database, asked)
            with _statements(database) as asked:
                await letters.count(wanted)
                await letters.count(wanted, most=100)
                await letters.groups(wanted)
            others = await _explained(database, asked)
            check = _sqlite_faults if database.dialect == "sqlite" else _postgres_faults
            if title in INDEXES and INDEXES[title] not in str([tuple(row) for row in pages[0][1]]):
                wrong.append((title, "another index", pages[0][0]))
            for statement, plan in pages:
                wrong += [
                    (title, fault, statement) for fault in check(plan, page=not wanted.uses_text_search)
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


# Migration


def _to_0002(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, "0002")


async def test_letters_of_the_previous_revision_are_kept_and_found(database_url: str) -> None:
    database = Database(database_url)
    new = {"deaths", "root_id"}
    rows = [{name: value for name, value in row.items() if name not in new} for row in _rows(50)]
    async with database.begin() as connection:
        await connection.run_sync(_to_0002)
        names = list(rows[0])
        values = [
            {n: json.dumps(v) if n in ("job_data", "attempt_errors") else v for n, v in row.items()}
            for row in rows
        ]
        casts = {"job_data": "CAST(:job_data AS JSONB)", "attempt_errors": "CAST(:attempt_errors AS JSONB)"}
        places = [casts.get(n, f":{n}") if database.dialect == "postgresql" else f":{n}" for n in names]
        if database.dialect == "sqlite":
            for value in values:
                value["failed_at"] = f"{value['failed_at']:%Y-%m-%d %H:%M:%S.%f}"
        into = f"INSERT INTO job_failures ({', '.join(names)}) VALUES ({', '.join(places)})"
        await connection.execute(text(into), values)
    await database.start()
    letters = DeadLetterRepository(database)
    assert [row.uid for row in (await letters.page(LetterFilter(state=None, error="item 7"))).items] == ["u7"]
    assert (await letters.page(ALL_DEAD)).items[0].deaths == 1
    assert await letters.count(LetterFilter(state=None, args={"city": "100% of a_b"})) > 0
    assert await letters.count(LetterFilter(state=None)) == 50
    await database.close()
