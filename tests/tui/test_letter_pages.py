"""Pages of dead letters while they change, and the letter that is opened from them."""

from __future__ import annotations

import pytest
from textual.widgets import Static

from tests.support.dashboards import (
    dashboard,
    letters_view,
    settled,
    title,
    until,
)
from tests.support.fake_letters import letter
from tests.support.fake_moments import AWAY, HEALTHY
from tests.support.fake_operations import CannedOperations
from tui.dialogs.confirm import Confirm
from tui.screens.dead_letters.letter import LetterScreen
from tui.screens.dead_letters.list import DeadLettersScreen
from tui.screens.overview import OverviewScreen
from workers.errors import ConflictError


@pytest.mark.slow
async def test_a_letter_is_opened_and_replayed_after_a_question() -> None:
    operations = CannedOperations(HEALTHY)
    app = dashboard(operations)
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(app.screen, LetterScreen))
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, LetterScreen))
        assert operations.done == []
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: operations.done)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, DeadLettersScreen))
    assert operations.done == [("replay", 2)]


@pytest.mark.slow
async def test_2_lists_all_letters_by_page_and_1_goes_back() -> None:
    app = dashboard(CannedOperations(HEALTHY, letters=230))
    async with app.run_test(size=(120, 36)) as pilot:
        table = await letters_view(app, pilot)
        await pilot.press("n")
        await until(pilot, lambda: table.items[0].id == 101)
        await pilot.press("n")
        await until(pilot, lambda: table.items[0].id == 201)
        assert len(table.items) == 30
        await pilot.press("b")
        await until(pilot, lambda: table.items[0].id == 101)
        await pilot.press("1")
        await until(pilot, lambda: isinstance(app.screen, OverviewScreen))


@pytest.mark.slow
async def test_two_quick_presses_of_n_are_one_page() -> None:
    operations = CannedOperations(HEALTHY, letters=430)
    app = dashboard(operations)
    async with app.run_test(size=(120, 36)) as pilot:
        table = await letters_view(app, pilot)
        operations.letters.door.clear()
        await pilot.press("n", "n", "n")
        assert "page 1" in title(app)
        operations.letters.door.set()
        await until(pilot, lambda: table.items[0].id == 101)
        assert "page 2" in title(app)
        assert operations.letters.read[-2:] == [None, "100"]
        await pilot.press("b")
        await until(pilot, lambda: table.items[0].id == 1)
        assert "page 1" in title(app)


@pytest.mark.slow
async def test_the_shown_page_stays_if_another_cannot_be_fetched() -> None:
    operations = CannedOperations(HEALTHY, letters=230)
    app = dashboard(operations)
    async with app.run_test(size=(120, 36)) as pilot:
        table = await letters_view(app, pilot)
        await pilot.press("n")
        await until(pilot, lambda: table.items[0].id == 101)
        operations.error = ConflictError("away")
        for key in ("n", "b", "r"):
            app.clear_notifications()
            await pilot.press(key)
            await until(pilot, lambda: app._notifications)
            assert (table.items[0].id, "page 2" in title(app)) == (101, True)
        operations.error = None
        await pilot.press("n")
        await until(pilot, lambda: table.items[0].id == 201)
        assert "page 3" in title(app)
        await pilot.press("n")
        assert "page 3" in title(app)


@pytest.mark.slow
async def test_a_replayed_letter_leaves_the_list_and_the_total() -> None:
    app = dashboard(CannedOperations(HEALTHY, letters=3))
    async with app.run_test(size=(120, 36)) as pilot:
        table = await letters_view(app, pilot)
        await pilot.press("down", "R")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: [letter.id for letter in table.items] == [1, 3])
        await until(pilot, lambda: "Dead letters · 2 letters ·" in title(app))
        assert table.selected is not None
        assert table.selected.id == 3


@pytest.mark.slow
async def test_a_letter_replayed_from_its_detail_is_gone_when_the_list_is_shown_again() -> None:
    app = dashboard(CannedOperations(HEALTHY, letters=3))
    async with app.run_test(size=(120, 36)) as pilot:
        table = await letters_view(app, pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, LetterScreen))
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: isinstance(app.screen, LetterScreen))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, DeadLettersScreen))
        await until(pilot, lambda: [letter.id for letter in table.items] == [2, 3])
        await until(pilot, lambda: "Dead letters · 2" in title(app))


@pytest.mark.slow
async def test_the_page_before_replaces_a_page_whose_letters_were_all_replayed() -> None:
    operations = CannedOperations(HEALTHY, letters=101)
    app = dashboard(operations)
    async with app.run_test(size=(120, 36)) as pilot:
        table = await letters_view(app, pilot)
        await pilot.press("n")
        await until(pilot, lambda: table.items[0].id == 101)
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: len(table.items) == 100)
        assert "page 1" in title(app)


@pytest.mark.slow
async def test_a_job_key_of_thousands_of_characters_keeps_the_buttons_visible() -> None:
    operations = CannedOperations(HEALTHY)
    operations.letters.kept = [letter(1, job_id="k" * 3_000)]
    app = dashboard(operations)
    async with app.run_test(size=(80, 24)) as pilot:
        await letters_view(app, pilot)
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.pause()
        assert app.screen.region.contains_region(app.screen.query_one("#yes").region)
        assert await pilot.click("#yes")
        await until(pilot, lambda: operations.done)


async def test_letters_are_not_called_none_while_the_database_is_down() -> None:
    app = dashboard(CannedOperations(AWAY))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert "not read yet" in str(app.screen.query_one("#list-empty", Static).render())
