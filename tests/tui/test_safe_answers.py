"""Enter destroys nothing: a question has the safe answer under the cursor."""

from __future__ import annotations

from typing import Any

import pytest
from textual.widgets import Button

from tests.support.dashboards import dashboard, letters_view, until
from tests.support.fake_moments import HEALTHY
from tests.support.fake_operations import CannedOperations
from tests.support.jobs_view import opened
from tui.dialogs.confirm import Confirm
from tui.dialogs.payload_diff import PayloadDiff
from tui.dialogs.replay_options import ReplayDialog
from tui.screens.base import DashboardScreen


def started(operations: CannedOperations) -> list[Any]:
    """Return the changes, without what was only counted."""
    return [act for act in operations.done if act[0] != "preview"]


@pytest.mark.slow
@pytest.mark.parametrize("key", ["x", "R", "X"])
async def test_enter_leaves_jobs_as_they_are_and_y_changes_them(key: str) -> None:
    operations = CannedOperations(HEALTHY)
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot)
        for answer in ("enter", "y"):
            await pilot.press(key)
            await until(pilot, lambda: isinstance(app.screen, Confirm))
            assert isinstance(app.focused, Button)
            assert app.focused.id == "no"
            await pilot.press(answer)
            await until(pilot, lambda: isinstance(app.screen, DashboardScreen))
            await pilot.pause()
            assert bool(started(operations)) == (answer == "y")


@pytest.mark.slow
@pytest.mark.parametrize("key", ["R", "d"])
async def test_enter_leaves_a_dead_letter_as_it_is(key: str) -> None:
    operations = CannedOperations(HEALTHY)
    app = dashboard(operations)
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await pilot.press(key)
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, DashboardScreen))
        await pilot.pause()
    assert started(operations) == []


@pytest.mark.slow
async def test_enter_in_the_options_of_a_replay_goes_to_the_next_field_and_ctrl_s_starts_it() -> None:
    operations = CannedOperations(HEALTHY)
    app = dashboard(operations)
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await pilot.press("A")
        await until(pilot, lambda: isinstance(app.screen, ReplayDialog))
        await until(pilot, lambda: not app.screen.query_one("#start", Button).disabled)
        await pilot.press("enter")
        assert app.focused is app.screen.query_one("#rate")
        assert started(operations) == []
        await pilot.press("ctrl+s")
        await until(pilot, lambda: started(operations))


async def test_enter_edits_a_payload_again() -> None:
    app = dashboard(CannedOperations(HEALTHY))
    answers: list[bool | None] = []
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        app.push_screen(PayloadDiff(7, {"text": "a"}, {"text": "b"}), answers.append)
        await until(pilot, lambda: isinstance(app.screen, PayloadDiff))
        await pilot.press("enter")
        await until(pilot, lambda: answers)
    assert answers == [False]
