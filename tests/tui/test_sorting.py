"""Rows are sorted by any column, and stay so in the next run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, OptionList

from tests.support.dashboards import dashboard, letters_view, settled, title, until
from tests.support.fake_moments import HEALTHY, queue, worker
from tests.support.fake_operations import CannedOperations
from tests.support.letters_view import LESS, filtered, operations, says
from tui.app import Dashboard
from tui.dialogs.order import OrderDialog
from tui.text.sorting import Order, SortColumn, Sorting, heading
from tui.widgets.group_table import GroupTable
from tui.widgets.keyed_table import KeyedTable
from tui.widgets.row_list import RowList
from workers.operations.operations import Operations

NUMBERS: Sorting[tuple[int | None, str]] = Sorting(
    "numbers",
    (
        SortColumn("number", lambda item: item[0], descending=True),
        SortColumn("name", lambda item: item[1]),
    ),
)


def test_items_without_a_value_come_last_in_both_directions_and_equal_ones_keep_their_order() -> None:
    items = [(1, "b"), (None, "a"), (2, "c"), (1, "a")]
    for descending, numbers in ((True, [2, 1, 1, None]), (False, [1, 1, 2, None])):
        order = Order("number", descending)
        assert [item[0] for item in NUMBERS.sort(items, order)] == numbers
        assert [name for number, name in NUMBERS.sort(items, order) if number == 1] == ["b", "a"]
    assert NUMBERS.sort(items, None) == items


def test_the_same_column_again_reverses_and_what_was_remembered_may_be_anything() -> None:
    first = NUMBERS.choose("number", None)
    assert first == Order("number", descending=True)
    assert NUMBERS.choose("number", first) == Order("number")
    assert NUMBERS.choose("gone", first) is None
    assert NUMBERS.parse(str(first)) == first
    for text in (None, "", "gone ↓", "number", "\x1b[31m ↓"):
        assert NUMBERS.parse(text) is None


@pytest.mark.parametrize(("width", "text"), [(8, "att ↓"), (5, "att ↓"), (4, "att↓"), (3, "at↓")])
def test_the_arrow_fits_the_column(width: int, text: str) -> None:
    assert heading("att", Order("att", descending=True), width) == text
    assert heading("att", Order("queue"), width) == "att"


def labels(table: DataTable[Any]) -> list[str]:
    return [str(column.label).strip() for column in table.ordered_columns]


async def sort(app: Dashboard, pilot: Pilot[Any], column: str) -> None:
    """Choose a column in the dialog."""
    await pilot.press("s")
    await until(pilot, lambda: isinstance(app.screen, OrderDialog))
    choices = app.screen.query_one(OptionList)
    prompts = [
        str(choices.get_option_at_index(at).prompt)[2:].rstrip(" ↑↓") for at in range(choices.option_count)
    ]
    choices.highlighted = prompts.index(column)
    await pilot.press("enter")
    await until(pilot, lambda: not isinstance(app.screen, OrderDialog))
    await settled(pilot)


def names(app: Dashboard, selector: str) -> Sequence[Any]:
    return [row.key for row in app.screen.query_one(selector, RowList).rows]


@pytest.mark.slow
async def test_s_sorts_queues_and_workers_and_s_again_reverses() -> None:
    depths = {"alert-fanout": 3, "color-extraction": 9, "moderation-review": 0, "weather-ingestion": 5}
    queues = tuple(queue(one.name, depth=depths[one.name]) for one in HEALTHY.queues)
    workers = tuple(replace(worker(at), cpu=cpu) for at, cpu in ((1, 0.1), (2, None), (3, 0.7)))
    app = dashboard(CannedOperations(replace(HEALTHY, queues=queues, workers=workers)))
    async with app.run_test(size=(160, 48)) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        await settled(pilot)
        assert names(app, "#queues") == [one.name for one in HEALTHY.queues]
        await sort(app, pilot, "depth")
        deepest = sorted(depths, key=lambda name: -depths[name])
        assert names(app, "#queues") == deepest
        assert "depth↓" in str(app.screen.query_one("#queues", RowList).render())
        await pilot.press("s", "s")
        await until(pilot, lambda: names(app, "#queues") == deepest[::-1])
        await pilot.press("4")
        await until(pilot, lambda: names(app, "#workers"))
        await sort(app, pilot, "cpu")
        assert names(app, "#workers") == ["w3", "w1", "w2"]
        await pilot.press("s", "s")
        await until(pilot, lambda: names(app, "#workers") == ["w1", "w3", "w2"])
        assert "cpu ↑" in str(app.screen.query_one("#workers", RowList).render())


@pytest.mark.slow
async def test_a_click_on_a_heading_sorts_entries_and_groups_and_the_next_run_remembers_it(
    tmp_path: Path,
) -> None:
    canned = operations()
    app = Dashboard(cast(Operations, canned), data_dir=tmp_path)
    async with app.run_test(size=(160, 48)) as pilot:
        await pilot.press("5")
        table = cast(KeyedTable[Any], app.screen.query_one("#entries"))
        await until(pilot, lambda: table.items)
        assert labels(table)[1] == "key ↑"
        await pilot.click("#entries", offset=(table.columns["key"].get_render_width(table) + 40, 0))  # type: ignore[index]
        await until(pilot, lambda: "size ↓" in labels(table))
        sizes = [entry.size for entry in table.items]
        assert sizes == sorted(sizes, reverse=True)
        assert "by size ↓" in title(app)
        await pilot.press("2")
        groups = app.screen.query_one(GroupTable)
        await until(pilot, lambda: [group.count for group in groups.items] == [3, 2])
        await pilot.press("s", "s")
        await until(pilot, lambda: [group.count for group in groups.items] == [2, 3])
    app = Dashboard(cast(Operations, canned), data_dir=tmp_path)
    async with app.run_test(size=(160, 48)) as pilot:
        await pilot.press("5")
        await until(pilot, lambda: "size ↓" in labels(app.screen.query_one("#entries", DataTable)))


@pytest.mark.slow
async def test_the_database_sorts_letters_and_a_filter_has_fewer_columns() -> None:
    canned = operations(230)
    app = dashboard(canned)
    async with app.run_test(size=(160, 48)) as pilot:
        table = await letters_view(app, pilot)
        await sort(app, pilot, "queue")
        await until(pilot, lambda: "queue ↓" in labels(table))
        letters = sorted(canned.letters.kept, key=lambda kept: (kept.queue_name, kept.id), reverse=True)
        in_order = [kept.id for kept in letters]
        assert [kept.id for kept in table.items] == in_order[:100]
        await pilot.press("n")
        await until(pilot, lambda: [kept.id for kept in table.items] == in_order[100:200])
        await filtered(app, pilot, f"fingerprint:{LESS}")
        assert "when ↓" in labels(table)
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, OrderDialog))
        assert app.screen.query_one(OptionList).option_count == 1
        assert "only the time has an index" in says(app)


@pytest.mark.parametrize(
    ("keys", "words"), [(("6",), "events have one order"), (("2", "P"), "plans have one order")]
)
async def test_a_list_with_one_order_says_so(keys: Sequence[str], words: str) -> None:
    app = dashboard(operations())
    async with app.run_test(size=(120, 36)) as pilot:
        for key in (*keys, "s"):
            await pilot.press(key)
            await settled(pilot)
        await until(pilot, lambda: any(words in note.message for note in app._notifications))
