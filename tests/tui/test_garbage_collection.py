"""Views live until the end: collections skip them, so that keys do not wait for a walk over all of them."""

from __future__ import annotations

import gc

import pytest
from textual.app import App

from tests.support.dashboards import dashboard, until
from tests.support.letters_view import operations
from tui import opening


@pytest.mark.slow
async def test_each_view_is_exempted_once_after_it_was_first_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    freezes: list[int] = []
    monkeypatch.setattr(gc, "freeze", lambda: freezes.append(1))  # the views of a test do not stay
    monkeypatch.setattr(gc, "collect", lambda: 0)
    monkeypatch.setattr(App, "is_headless", False)
    monkeypatch.setattr(opening, "_FILL_SECONDS", 0.01)
    app = dashboard(operations())
    async with app.run_test() as pilot:
        await until(pilot, lambda: len(freezes) == 1)
        await pilot.press("2", "4", "2", "1")
        await until(pilot, lambda: len(freezes) == 3)
        await pilot.press("4", "1")
        await pilot.pause(0.05)
    assert len(freezes) == 3


@pytest.mark.slow
async def test_a_view_of_a_dashboard_without_terminal_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_FILL_SECONDS", 0.0)
    before = gc.get_freeze_count()
    app = dashboard(operations())
    async with app.run_test() as pilot:
        await pilot.press("2", "1")
        await pilot.pause(0.05)
    assert gc.get_freeze_count() <= before
