"""The key bar: the keys that must be seen are seen, everywhere."""

from __future__ import annotations

from typing import cast

import pytest

from tests.support.dashboards import SIZES
from tests.support.fake_states import STATES
from tests.tui.test_every_key import PLACES, Walker
from tui.app import Dashboard
from tui.screens.base import DashboardScreen
from tui.widgets.key_bar import KeyBar
from workers.operations.operations import Operations


@pytest.mark.slow
@pytest.mark.parametrize("state", ["full", "draining"])
async def test_every_view_and_page_shows_the_keys_that_help_and_quit(state: str) -> None:
    app = Dashboard(cast(Operations, STATES[state]()))
    async with app.run_test(size=SIZES["80x24"]) as pilot:
        walker = Walker(app, pilot)
        await walker.until(lambda: app.session.snapshot)
        for place in PLACES:
            await walker.go(place)
            if isinstance(app.screen, DashboardScreen):
                footer = str(app.screen.query_one(KeyBar).render())
                assert "? Help" in footer, place.name
                assert "q Quit" in footer, place.name
                assert len(footer) <= 80, place.name
