"""The dead letters' view: filter, groups, marks, and what can be done with letters."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest
from textual.widgets import Input, Static

from tests.support.dashboards import dashboard, letters_view, settled, text_of, title, until
from tests.support.fake_moments import HEALTHY
from tests.support.letters_view import LESS, MORE, filtered, operations, shown, write
from tui.app import Dashboard
from tui.screens.dead_letters.list import DeadLettersScreen
from tui.widgets.filter_bar import FilterBar
from tui.widgets.group_table import GroupTable
from tui.widgets.key_bar import KeyBar
from tui.widgets.letter_table import MarkableLetterTable
from tui.widgets.rule import Rule
from workers.operations.operations import LetterFilter


@pytest.mark.slow
async def test_slash_writes_a_filter_and_escape_clears_it() -> None:
    canned = operations()
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await filtered(app, pilot, f"fingerprint:{LESS}")
        assert shown(app) == [1, 4]
        await until(pilot, lambda: "2 letters" in title(app))
        assert f"fingerprint:{LESS}" in str(app.screen.query_one("#filter-text", Static).render())
        await pilot.press("slash")
        assert cast(Input, app.focused).value == f"fingerprint:{LESS}"
        await pilot.press("escape")
        assert shown(app) == [1, 4]
        await pilot.press("escape")
        await until(pilot, lambda: shown(app) == [1, 2, 3, 4, 5])
        assert not app.screen.query_one(FilterBar).display


@pytest.mark.slow
async def test_the_keys_of_a_filter_are_shown_whole_when_it_is_opened_first() -> None:
    app = dashboard(operations())
    async with app.run_test(size=(80, 24)) as pilot:
        await letters_view(app, pilot)
        await pilot.press("slash")
        hint = str(app.screen.query_one("#filter-hint", Static).render())
        assert "enter apply · esc cancel" in hint


@pytest.mark.slow
async def test_the_footer_names_no_key_that_a_filter_would_take_as_a_letter() -> None:
    app = dashboard(operations())
    async with app.run_test(size=(80, 24)) as pilot:
        await letters_view(app, pilot)
        await pilot.press("slash")
        footer = app.screen.query_one(KeyBar)
        await until(pilot, lambda: str(footer.render()).strip() == "^q Quit")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "problem"),
    [("state:gone", "use dead, replayed"), ('error:"x', "not closed"), ("queue:nowhere", "unknown queue")],
)
async def test_an_invalid_filter_shows_its_error_and_keeps_its_text(line: str, problem: str) -> None:
    app = dashboard(operations())
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await pilot.press("slash")
        await write(pilot, line)
        hint = app.screen.query_one("#filter-hint", Static)
        await until(pilot, lambda: problem in str(hint.render()))
        assert cast(Input, app.focused).value == line
        await pilot.press("escape")
        assert app.screen.query_one(MarkableLetterTable).has_focus
        assert (shown(app), app._notifications.__len__()) == ([1, 2, 3, 4, 5], 0)


@pytest.mark.slow
async def test_t_cycles_the_states_and_other_states_have_a_column() -> None:
    canned = operations()
    canned.letters.kept[1] = replace(canned.letters.kept[1], state="replayed")
    canned.letters.kept[2] = replace(canned.letters.kept[2], state="discarded")
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        table = await letters_view(app, pilot)
        assert "state" not in [str(column.label) for column in table.ordered_columns]
        for state, ids in (
            ("Replayed", [2]),
            ("Discarded", [3]),
            ("All", [1, 2, 3, 4, 5]),
            ("Dead", [1, 4, 5]),
        ):
            await pilot.press("t")
            await until(pilot, lambda ids=ids: shown(app) == ids)  # type: ignore[misc]
            assert f"{state} letters" in title(app)
            labels = [str(column.label) for column in table.ordered_columns]
            assert ("state" in labels) == (state != "Dead")
        await pilot.press("t", "t")
        await until(pilot, lambda: shown(app) == [3])


@pytest.mark.slow
async def test_results_of_an_earlier_filter_do_not_replace_later_ones() -> None:
    canned = operations()
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await until(pilot, lambda: "5 letters" in title(app))
        canned.letters.slow.clear()
        await filtered(app, pilot, f"fingerprint:{LESS}")
        assert "counting" in title(app)
        await filtered(app, pilot, f"fingerprint:{MORE}")
        assert shown(app) == [2, 3, 5]
        canned.letters.slow.set()
        await until(pilot, lambda: "3 letters" in title(app))


async def test_a_count_beyond_the_limit_has_a_plus() -> None:
    canned = operations()

    async def count(letter_filter: LetterFilter, *, limit: int) -> int:
        return limit + 1

    canned.letters.count = count  # type: ignore[method-assign, assignment]
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await until(pilot, lambda: "10,000+ letters" in title(app))
        canned.now = replace(HEALTHY, dead_letters=1_000_000)
        app.session.refresh()
        await until(pilot, lambda: "1,000,000 letters" in title(app))


@pytest.mark.slow
async def test_letters_are_counted_neither_every_second_nor_while_another_screen_is_shown() -> None:
    canned = operations()
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await pilot.press("g")
        await until(pilot, lambda: "2 groups" in title(app))
        await settled(pilot)
        asked = list(canned.letters.asked)
        for key in ("", "1", ""):
            await pilot.press(*filter(None, [key]))
            app.session.refresh()
            await settled(pilot)
        assert canned.letters.asked == asked


@pytest.mark.slow
async def test_another_width_has_other_columns() -> None:
    app = dashboard(operations())
    async with app.run_test(size=(120, 36)) as pilot:
        table = await letters_view(app, pilot)
        assert len(table.columns) == 7
        await pilot.press("down")
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: len(table.columns) == 5)
        assert table.cursor_row == 1
        await pilot.press("g")
        groups = app.screen.query_one(GroupTable)
        await until(pilot, lambda: len(groups.columns) == 5)


@pytest.mark.parametrize("size", [(80, 24), (120, 36), (160, 48)])
async def test_groups_of_the_same_error_are_told_apart_by_their_function(size: tuple[int, int]) -> None:
    app = dashboard(operations())
    async with app.run_test(size=size) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: app.screen.query(GroupTable))
        groups = app.screen.query_one(GroupTable)
        await until(pilot, lambda: groups.items and groups.columns)
        labels = [str(column.label).strip() for column in groups.ordered_columns]
        assert labels[1:3] == ["function", "error"]
        row = groups.get_row_at(0)
        assert str(row[1]) in groups.items[0].sample.function
        assert sum(column.get_render_width(groups) for column in groups.ordered_columns) <= groups.size.width


@pytest.mark.slow
async def test_tab_completes_fields_and_values_of_a_filter() -> None:
    app = dashboard(operations())
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await pilot.press("slash", "q")
        field = cast(Input, app.focused)
        hint = app.screen.query_one("#filter-hint", Static)
        await until(pilot, lambda: "tab completes: queue:" in str(hint.render()))
        await pilot.press("tab", "c")
        await until(pilot, lambda: "queue:color-extraction" in str(hint.render()))
        await pilot.press("tab", "space", "s", "t", "tab", "tab")
        assert field.value == "queue:color-extraction state:dead"
        field.value += " since:"
        await pilot.press("tab")
        field.value += " arg."
        await pilot.press("tab")
        assert field.value == "queue:color-extraction state:dead since:15m arg.location_id:"
        field.value = "queue:nowhere"
        await until(pilot, lambda: "tab completes" not in str(hint.render()))


@pytest.mark.slow
async def test_g_shows_groups_and_enter_the_letters_of_one() -> None:
    app = dashboard(operations())
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await pilot.press("g")
        table = app.screen.query_one(GroupTable)
        await until(pilot, lambda: [group.count for group in table.items] == [3, 2])
        await pilot.press("down", "enter")
        await until(pilot, lambda: shown(app) == [1, 4])
        assert not table.display
        await pilot.press("escape")
        await until(pilot, lambda: table.display and len(table.items) == 2)
        await pilot.press("g")
        await until(pilot, lambda: not table.display and shown(app) == [1, 2, 3, 4, 5])
        await pilot.press("escape")
        await until(pilot, lambda: table.display)


@pytest.mark.slow
async def test_groups_come_first_with_a_preview_of_the_one_under_the_cursor() -> None:
    canned = operations()
    canned.letters.releases = ("r2", "r1")
    app = dashboard(canned)
    async with app.run_test(size=(160, 48)) as pilot:
        await pilot.press("2")
        groups = app.screen.query_one(GroupTable)
        await until(pilot, lambda: groups.display and len(groups.items) == 2)
        await until(pilot, lambda: f"Group {MORE}" in preview_title(app))
        assert "releases  r2, r1" in preview(app)
        assert "location_id" in preview(app)
        await pilot.press("down")
        await until(pilot, lambda: f"Group {LESS}" in preview_title(app))
        await pilot.press("g")
        await until(pilot, lambda: "Letter 1" in preview_title(app))
        await pilot.press("down")
        await until(pilot, lambda: "Letter 2" in preview_title(app))
        assert "Where it failed" in preview(app)
        await pilot.resize_terminal(139, 40)
        await until(pilot, lambda: not app.screen.query_one("#preview-pane").display)


async def test_the_age_of_a_group_passes_while_it_is_shown() -> None:
    canned = operations()
    app = dashboard(canned)
    async with app.run_test(size=(160, 48)) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: isinstance(app.screen, DeadLettersScreen) and "min ago" in preview(app))
        age = minutes_ago(app)
        canned.now = replace(HEALTHY, taken_at=HEALTHY.taken_at + 1_800)
        app.session.refresh()
        await until(pilot, lambda: minutes_ago(app) == age + 30)


def minutes_ago(app: Dashboard) -> int:
    """The age of the group that is shown."""
    return int(preview(app).partition(" min ago")[0].rpartition(" ")[2])


async def test_long_lines_of_a_preview_go_on_below_their_beginning() -> None:
    canned = operations()
    canned.letters.kept[0] = replace(canned.letters.kept[0], error_message="word " * 100)
    app = dashboard(canned)
    async with app.run_test(size=(160, 48)) as pilot:
        await letters_view(app, pilot)
        await until(pilot, lambda: "word word" in preview(app))
        await pilot.pause()
        text, region = text_of(app).split("\n"), app.screen.query_one("#preview").region
        lines = [line[region.x :] for line in text[region.y : region.bottom]]
        assert sum("word" in line for line in lines) > 5
        assert {line[0] for line in lines} == {" "}


def preview_title(app: Dashboard) -> str:
    return str(app.screen.query_one("#preview-title", Rule).render())


def preview(app: Dashboard) -> str:
    return str(app.screen.query_one("#preview", Static).render())


async def test_slow_groups_block_no_key() -> None:
    canned = operations()
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        canned.letters.slow.clear()
        await pilot.press("2")
        await until(pilot, lambda: isinstance(app.screen, DeadLettersScreen) and app.screen.page)
        await until(pilot, lambda: "Groups" in title(app))
        assert "reading the groups" in str(app.screen.query_one("#list-empty", Static).render())
        await pilot.press("g")
        await until(pilot, lambda: app.screen.query_one(MarkableLetterTable).display)


@pytest.mark.slow
async def test_space_and_v_mark_letters_and_marks_survive_another_page() -> None:
    app = dashboard(operations(230))
    async with app.run_test(size=(120, 36)) as pilot:
        table = cast(MarkableLetterTable, await letters_view(app, pilot))
        await pilot.press("space", "space")
        assert (list(table.marks), table.cursor_row) == ([1, 2], 2)
        await pilot.press("up", "space", "down")
        assert list(table.marks) == [1]
        await pilot.press("v", "down", "down", "v")
        assert list(table.marks) == [1, 4, 5, 6]
        assert "4 marked" in title(app)
        assert str(table.get_cell("4", "")).startswith("■")
        await pilot.press("n")
        await until(pilot, lambda: table.items[0].id == 101)
        await pilot.press("shift+down", "shift+down")
        assert "6 marked" in title(app)
        await pilot.press("b")
        await until(pilot, lambda: table.items[0].id == 1)
        assert str(table.get_cell("4", "")).startswith("■")
        await pilot.press("v", "escape", "U")
        assert (table.marks, table.range_start) == ({}, None)
        assert "marked" not in title(app)
        assert str(table.get_cell("4", "")) == " "


@pytest.mark.slow
async def test_another_filter_removes_the_marks() -> None:
    app = dashboard(operations())
    async with app.run_test(size=(120, 36)) as pilot:
        table = cast(MarkableLetterTable, await letters_view(app, pilot))
        await pilot.press("space", "space")
        await filtered(app, pilot, f"fingerprint:{MORE}")
        assert table.marks == {}
        assert [note.message for note in app._notifications] == ["the filter changed: 2 marks removed"]


@pytest.mark.slow
async def test_poison_letters_have_a_sign() -> None:
    app = dashboard(operations())
    async with app.run_test(size=(120, 36)) as pilot:
        table = await letters_view(app, pilot)
        assert [str(table.get_cell(str(number), "")) for number in (2, 3)] == [" ", " ×4"]
