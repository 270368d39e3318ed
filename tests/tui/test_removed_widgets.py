"""A dialog that was closed leaves nothing behind, so a dashboard that runs for weeks does not grow."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from structlog.testing import capture_logs
from textual import work
from textual._styles_cache import StylesCache
from textual.app import ComposeResult
from textual.css.query import NoMatches
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Static

from tests.support.dashboards import dashboard, settled, until
from tests.support.fake_busy import busy
from tui.removed_widgets import misses_removed_widget


async def _open_and_close(pilot: Pilot[Any]) -> None:
    for key in ("question_mark", "escape", "a", "escape"):
        await pilot.press(key)
        await settled(pilot)


def _kept_widgets() -> int:
    """Return how many widgets have lines."""
    gc.collect()
    return sum(isinstance(thing, StylesCache) for thing in gc.get_objects())


@pytest.mark.slow  # each collection visits all that the process of the tests has
async def test_closed_screens_are_freed() -> None:
    async with dashboard(busy()).run_test(size=(120, 36)) as pilot:
        await _open_and_close(pilot)
        before = _kept_widgets()
        for _ in range(2):
            await _open_and_close(pilot)
        await until(pilot, lambda: _kept_widgets() <= before)


class _Late(Screen[None]):
    """Gets an answer once the widget that would show it is gone, and before its worker is cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.answered = False

    def compose(self) -> ComposeResult:
        yield Static("an answer")

    @work
    async def show_answer(self) -> None:
        while self.query(Static):  # noqa: ASYNC110 - nothing says so
            await asyncio.sleep(0)
        self.answered = True
        self.query_one(Static)


@pytest.mark.parametrize("closed_by", ["escape", "the end of the dashboard"])
async def test_an_answer_that_arrives_while_its_screen_is_removed_is_no_defect(closed_by: str) -> None:
    app, screen = dashboard(busy()), _Late()
    with capture_logs() as lines:
        async with app.run_test() as pilot:
            await app.push_screen(screen)
            screen.show_answer()
            if closed_by == "escape":
                app.pop_screen()
                await until(pilot, lambda: screen.answered)
    assert screen.answered
    assert lines == []


async def test_a_missing_widget_of_a_screen_that_is_shown_is_a_defect() -> None:
    app = dashboard(busy())
    with capture_logs() as lines:
        running = asyncio.create_task(app.run_async(headless=True))
        async with asyncio.timeout(30):
            await app.painted.wait()
            app.screen.call_later(app.screen.query_one, "#missing")
            while not lines:  # noqa: ASYNC110 - nothing says so
                await asyncio.sleep(0.01)
        app.exit(0)
        await running
    assert [line["event"] for line in lines] == ["a defect of the dashboard"]


async def test_a_dialog_that_opens_while_the_dashboard_closes_is_no_defect() -> None:
    app = dashboard(busy())
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        error = NoMatches("No nodes match '#form-fields'")
        assert not misses_removed_widget(error, app.screen)
        app.exit()
        assert misses_removed_widget(error, app.screen)
