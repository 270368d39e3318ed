"""The view of the cache looks as before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from tests.support.cache_view import (
    AWAY,
    line,
)
from tests.support.dashboards import SIZES, dashboard, until
from tests.support.fake_cache import CACHE
from tests.support.fake_moments import HEALTHY
from tests.support.fake_operations import CannedOperations
from tui.app import Dashboard
from tui.screens.cache.list import CacheScreen


def away(canned: CannedOperations) -> None:
    canned.cache.error = AWAY


def empty(canned: CannedOperations) -> None:
    canned.cache.kept = []


def shared(canned: CannedOperations) -> None:
    canned.cache.now = replace(CACHE, dedicated=False, url="redis://box-1:6379/0", memory_used=240 * 2**20)


Change = Callable[[CannedOperations], None]
SCREENS: dict[str, tuple[tuple[str, ...], Change | None]] = {
    "entries": (("down", "space", "space"), None),
    "value": (("enter",), None),
    "evict": (("space", "space", "x"), None),
    "filter": (("slash", *"anna"), None),
    "empty": ((), empty),
    "away": ((), away),
    "shared": ((), shared),
    "help": (("question_mark",), None),
}


@pytest.mark.parametrize(
    ("name", "size"),
    [
        *((name, "80x24") for name in SCREENS),
        ("entries", "160x48"),
        *(pytest.param(name, "160x48", marks=pytest.mark.slow) for name in SCREENS if name != "entries"),
    ],
)
def test_cache(snap_compare: Any, name: str, size: str) -> None:
    keys, change = SCREENS[name]
    canned = CannedOperations(HEALTHY)
    if change is not None:
        change(canned)

    async def open_it(pilot: Pilot[Any]) -> None:
        app = cast(Dashboard, pilot.app)
        await until(pilot, lambda: app.session.snapshot)
        await pilot.press("5")
        await until(pilot, lambda: isinstance(app.screen, CacheScreen))
        await pilot.pause()
        await until(
            pilot, lambda: "reading" not in line(app, "#cache-figures") and line(app, "#cache-figures")
        )
        await pilot.press(*keys)
        await pilot.pause(0.1)
        app.clear_notifications()
        await pilot.pause(0.1)
        for field in app.screen.query(Input):
            field.cursor_blink = False
        await pilot.pause()

    assert snap_compare(dashboard(canned), terminal_size=SIZES[size], run_before=open_it)
