"""The overview and the screens that it opens look as before."""

from __future__ import annotations

from typing import Any

import pytest
from textual.pilot import Pilot

from tests.support.dashboards import (
    MIDDLE,
    SIZES,
    dashboard,
    settled,
    until,
)
from tests.support.fake_busy import BUSY, busy
from tests.support.fake_moments import AWAY, BREACHED, DRAINING, HEALTHY, IDLE
from tests.support.fake_operations import CannedOperations
from tui.screens.queues.queue import QueueScreen
from tui.theme import ANSI, CONTRAST, LIGHT

MOMENTS = {
    "healthy": HEALTHY,
    "idle": IDLE,
    "breached": BREACHED,
    "busy": BUSY,
    "away": AWAY,
    "draining": DRAINING,
}
_QUICK = {*((name, "80x24") for name in MOMENTS), ("busy", "160x48")}
SCREENS = {
    "letters": ("2", "g"),
    "letter": ("2", "g", "enter"),
    "help": ("question_mark",),
    "pause": ("p",),
    "drain": ("D",),
}


@pytest.mark.parametrize(
    ("name", "size"),
    [
        pytest.param(
            name,
            size,
            marks=() if (name, size) in _QUICK else pytest.mark.slow,
        )
        for name in MOMENTS
        for size in SIZES
    ],
)
def test_overview(snap_compare: Any, name: str, size: str) -> None:
    moment = MOMENTS[name]
    operations = busy() if name == "busy" else CannedOperations(moment, moment.dead_letters or 0)
    assert snap_compare(dashboard(operations), terminal_size=SIZES[size], run_before=settled)


@pytest.mark.parametrize("theme", [LIGHT, CONTRAST, ANSI])
def test_overview_in_each_theme(snap_compare: Any, theme: str) -> None:
    async def change(pilot: Pilot[Any]) -> None:
        await settled(pilot)
        pilot.app.theme = theme
        await settled(pilot)

    assert snap_compare(dashboard(busy()), terminal_size=SIZES["80x24"], run_before=change)


def test_overview_without_colours(snap_compare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert snap_compare(dashboard(busy()), terminal_size=SIZES["80x24"], run_before=settled)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["80x24", "160x48", MIDDLE])
def test_queue_page(snap_compare: Any, size: str) -> None:
    async def open_it(pilot: Pilot[Any]) -> None:
        await settled(pilot)
        await pilot.press("down", "down", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, QueueScreen))
        await settled(pilot)

    assert snap_compare(dashboard(busy()), terminal_size=SIZES[size], run_before=open_it)


@pytest.mark.parametrize("size", ["80x24", MIDDLE])
@pytest.mark.parametrize("name", SCREENS)
def test_screens(snap_compare: Any, name: str, size: str) -> None:
    async def open_it(pilot: Pilot[Any]) -> None:
        await settled(pilot)
        await pilot.press(*SCREENS[name])
        await pilot.pause(0.1)
        await settled(pilot)

    app = dashboard(CannedOperations(HEALTHY))
    assert snap_compare(app, terminal_size=SIZES[size], run_before=open_it)


def test_a_terminal_that_is_too_small_says_so(snap_compare: Any) -> None:
    assert snap_compare(dashboard(CannedOperations(HEALTHY)), terminal_size=(50, 12), run_before=settled)
