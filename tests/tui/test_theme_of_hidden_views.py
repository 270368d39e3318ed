"""A view that was hidden while the theme changed has the colours of the new one when it is shown."""

from __future__ import annotations

import pytest
from textual.strip import Strip

from tests.support.dashboards import dashboard, until
from tests.support.letters_view import operations
from tui.widgets.group_table import GroupTable

THEME = "textual-light"


@pytest.mark.slow
async def test_a_hidden_view_gets_the_theme_that_was_chosen_meanwhile() -> None:
    assert await _letters(opened_before=True) == await _letters(opened_before=False)


async def _letters(*, opened_before: bool) -> list[Strip]:
    app = dashboard(operations())
    async with app.run_test(size=(120, 36)) as pilot:
        if opened_before:
            await pilot.press("2", "1")
        app.theme = THEME
        await pilot.press("2")
        await until(pilot, lambda: app.screen.query(GroupTable) and app.screen.query_one(GroupTable).items)
        await pilot.pause()
        return [*app.screen._compositor.render_strips()]
