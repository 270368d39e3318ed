"""The mouse: a click on a row puts the cursor there, a second one opens it; one on a key presses it."""

from __future__ import annotations

import pytest
from textual.widgets import Static

from tests.support.dashboards import dashboard, text_of, until
from tests.support.fake_moments import BREACHED, HEALTHY
from tests.support.fake_operations import CannedOperations
from tests.support.jobs_view import jobs_screen, opened
from tui.dialogs.alerts import AlertsDialog
from tui.screens.base import DashboardScreen
from tui.screens.jobs.job import JobScreen
from tui.widgets.job_table import JobTable


@pytest.mark.slow
@pytest.mark.parametrize("column", [5, 30, 60])
async def test_a_click_moves_the_cursor_and_one_more_opens_the_row(column: int) -> None:
    async with dashboard(CannedOperations(HEALTHY)).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot)
        await pilot.click(JobTable, offset=(column, 2))
        await pilot.pause()
        selected = jobs_screen(app).table.selected
        assert selected is not None
        assert selected.key == "coat-4"
        assert not isinstance(app.screen, JobScreen)
        await pilot.click(JobTable, offset=(column + 9, 2))
        await until(pilot, lambda: isinstance(app.screen, JobScreen) and "coat-4" in text_of(app))


async def test_a_click_on_the_alerts_of_the_verdict_lists_them_and_one_beside_does_not() -> None:
    app = dashboard(CannedOperations(BREACHED))
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: "alerts" in str(app.screen.query_one("#verdict", Static).render()))
        column = str(app.screen.query_one("#verdict", Static).render()).rindex("alerts")
        await pilot.click("#verdict", offset=(3, 0))
        await pilot.pause()
        assert isinstance(app.screen, DashboardScreen)
        await pilot.click("#verdict", offset=(column, 0))
        await until(pilot, lambda: isinstance(app.screen, AlertsDialog))
