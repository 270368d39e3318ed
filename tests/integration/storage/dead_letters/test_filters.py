"""Filters against a plain model of them, on both databases."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.database.engine import Database
from storage.database.tables import ArchivedFailure, JobFailure
from storage.dead_letters import repository
from storage.dead_letters.filters import STATES, LetterFilter
from storage.dead_letters.ordering import NEWEST_FIRST, ORDER_COLUMNS, LetterOrder, sortable_columns
from storage.dead_letters.records import DeadLetter, FailureGroup
from storage.dead_letters.repository import DeadLetterRepository
from storage.errors import InvalidCursorError, InvalidFilterError
from tests.integration.storage.dead_letters.conftest import NAMES, NOON, ODD, VALUES, make_rows


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _means(chosen: LetterFilter, row: Any) -> bool:
    """The filter in Python."""
    scalars = {n: _text(v) for n, v in row.job_data["kwargs"].items() if not isinstance(v, dict | list)}
    conditions = [
        chosen.queue in (None, row.queue_name),
        chosen.function in (None, row.function),
        chosen.state in (None, row.state),
        chosen.fingerprint in (None, row.fingerprint),
        chosen.since is None or row.failed_at >= chosen.since,
        chosen.until is None or row.failed_at < chosen.until,
        chosen.error is None or chosen.error.lower() in f"{row.error_type}: {row.error_message}".lower(),
        all(scalars.get(name) == value for name, value in chosen.args.items()),
        chosen.poison in (None, row.deaths >= 3),
        chosen.archived == row.archived,
        chosen.up_to is None or row.id <= chosen.up_to,
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
async def filled(database: Database) -> tuple[DeadLetterRepository, list[DeadLetter]]:
    """300 letters, 100 more in the archive, and a list of all."""
    rows = make_rows(400)
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


@pytest.mark.slow
@pytest.mark.timeout(300)
@settings(
    max_examples=150 if settings.get_current_profile_name() == "ci" else 20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    print_blob=True,
)
@given(
    chosen=FILTERS,
    limits=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    order=st.sampled_from(ORDERS),
)
async def test_a_filter_selects_what_a_plain_model_of_it_selects(
    filled: Filled, chosen: LetterFilter, limits: list[int], order: LetterOrder
) -> None:
    letters, rows = filled
    meant = [row for row in rows if _means(chosen, row)]
    order = order if order.column in sortable_columns(chosen) else NEWEST_FIRST
    position: Callable[[DeadLetter], Any] = lambda row: (getattr(row, order.column), row.failed_at, row.id)  # noqa: E731
    if chosen.uses_text_search:
        position = lambda row: row.id  # noqa: E731
    meant.sort(key=position, reverse=order.descending)
    assert await _paged(letters, chosen, limits, order) == meant
    assert await letters.count(chosen) == len(meant)
    assert await letters.count(chosen, limit=10) == min(len(meant), 11)
    _check_groups(await letters.groups(chosen), meant, _of_any_state(chosen, rows) or meant)


@pytest.mark.slow
@pytest.mark.parametrize("few", [0, 5, 1_000])
async def test_few_groups_and_many_have_the_same_figures(
    filled: Filled, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters, rows = filled
    monkeypatch.setattr(repository, "_MAX_COUNTED_GROUPS", few)
    for chosen in (LetterFilter(state=state, archived=old) for state in STATES for old in (False, True)):
        meant = [row for row in rows if _means(chosen, row)]
        _check_groups(await letters.groups(chosen, limit=4), meant, _of_any_state(chosen, rows), limit=4)


async def test_without_letters_there_is_no_group(database: Database) -> None:
    assert await DeadLetterRepository(database).groups() == []


def _of_any_state(chosen: LetterFilter, rows: Sequence[DeadLetter]) -> list[DeadLetter]:
    """The letters of which a group has the first; none if a time narrows them."""
    if (chosen.since, chosen.until, chosen.up_to) != (None, None, None):
        return []
    every = LetterFilter(state=None, archived=chosen.archived)
    return [row for row in rows if _means(every, row)]


def _check_groups(
    groups: list[FailureGroup], meant: list[DeadLetter], all_states: list[DeadLetter], limit: int = 50
) -> None:
    counts = Counter(row.fingerprint for row in meant)
    largest = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:limit]
    assert [(group.fingerprint, group.count) for group in groups] == largest
    for group in groups:
        of_it = [row for row in meant if row.fingerprint == group.fingerprint]
        assert group.first_at == min(
            row.failed_at for row in all_states if row.fingerprint == group.fingerprint
        )
        assert group.last_at == max(row.failed_at for row in of_it)
        assert group.sample == max(of_it, key=lambda row: row.id)


async def _paged(
    letters: DeadLetterRepository, chosen: LetterFilter, limits: Sequence[int], order: LetterOrder
) -> list[DeadLetter]:
    found: list[DeadLetter] = []
    cursor, at = None, 0
    while True:
        page = await letters.page(chosen, limit=limits[at % len(limits)], cursor=cursor, order=order)
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
        (row,) = make_rows(1)
        await connection.execute(database.insert(JobFailure, [row | {"job_data": {"kwargs": kwargs}}]))
    letters = DeadLetterRepository(database)
    numbers = {
        (name, value): await letters.count(LetterFilter(args={name: value}))
        for name, value in FOUND_BY_ARGUMENT
    }
    assert numbers == FOUND_BY_ARGUMENT


async def test_jobs_without_arguments_are_recorded_and_found_by_their_error(database: Database) -> None:
    data: list[dict[str, Any]] = [{}, {"kwargs": None}, {"kwargs": [1]}, {"kwargs": "x"}, {"kwargs": {}}]
    rows = [row | {"job_data": job} for row, job in zip(make_rows(len(data)), data, strict=True)]
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
    for chosen in (LetterFilter(queue="queue-0"), LetterFilter(since=NOON), LetterFilter(error="item")):
        with pytest.raises(InvalidFilterError, match="no index sorts by function"):
            await letters.page(chosen, order=LetterOrder("function"))


async def test_an_archived_letter_is_found_in_the_archive_only(database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(database.insert(JobFailure, make_rows(60)))
    letters = DeadLetterRepository(database)
    some = [
        LetterFilter(state=None, error="item"),
        LetterFilter(state=None, args={"city": "Lisboa"}),
        LetterFilter(state=None),
    ]
    before = [await letters.count(chosen) for chosen in some]
    assert all(before)
    assert await letters.archive(NOON + timedelta(days=1)) == 60
    assert [await letters.count(chosen) for chosen in some] == [0, 0, 0]
    archived = [chosen.model_copy(update={"archived": True}) for chosen in some]
    assert [await letters.count(chosen) for chosen in archived] == before
