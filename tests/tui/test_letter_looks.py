"""The view of dead letters looks as before."""

from __future__ import annotations

from typing import Any, cast

import pytest
from textual.pilot import Pilot

from tests.support.dashboards import MIDDLE, SIZES, dashboard, letters_view, settled
from tests.support.letters_view import operations
from tui.app import Dashboard

SCREENS = {
    "filter": ("slash",),
    "filter-set": ("slash", "s t a t e : a l l", "enter"),
    "groups": ("g",),
    "marked": ("space down v down down v",),
    "edit": ("e",),
    "discard": ("space space d",),
}
"""Keys that are pressed in a row; between the rows the screen comes to rest."""


@pytest.mark.parametrize("size", ["80x24", MIDDLE])
@pytest.mark.parametrize("name", SCREENS)
def test_letters(snap_compare: Any, name: str, size: str) -> None:
    async def open_it(pilot: Pilot[Any]) -> None:
        await settled(pilot)
        await letters_view(cast(Dashboard, pilot.app), pilot)
        for keys in SCREENS[name]:
            await pilot.press(*keys.split())
            await settled(pilot)
        await pilot.pause(0.2)

    assert snap_compare(dashboard(operations(230)), terminal_size=SIZES[size], run_before=open_it)


@pytest.mark.slow
@pytest.mark.parametrize("keys", ["", "g", "g s"], ids=["groups", "letters", "sort"])
def test_letters_with_their_preview(snap_compare: Any, keys: str) -> None:
    async def open_it(pilot: Pilot[Any]) -> None:
        await settled(pilot)
        await pilot.press("2", *keys.split())
        await settled(pilot)
        await pilot.pause(0.2)

    assert snap_compare(dashboard(operations(30)), terminal_size=SIZES["160x48"], run_before=open_it)
