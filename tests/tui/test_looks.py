"""Every view in the light theme, and some in the others: each has what the overview has in every theme."""

from __future__ import annotations

from typing import Any

import pytest
from textual.pilot import Pilot

from tests.support.dashboards import dashboard, settled
from tests.support.fake_busy import busy
from tui.theme import ANSI, CONTRAST, LIGHT

pytestmark = pytest.mark.slow

VIEWS = {
    "queue": ("down", "down", "enter"),
    "groups": ("2",),
    "letters": ("2", "g"),
    "replay": ("2", "R"),
    "plans": ("2", "P"),
    "jobs": ("3",),
    "enqueue": ("3", "e"),
    "workers": ("4",),
    "cache": ("5",),
    "events": ("6",),
    "alerts": ("a",),
    "help": ("question_mark",),
}
SOME = ("queue", "groups", "jobs", "workers")
_SIZE = (120, 36)


async def show(pilot: Pilot[Any], view: str, theme: str | None = None) -> None:
    await settled(pilot)
    if theme is not None:
        pilot.app.theme = theme
    for key in VIEWS[view]:
        await pilot.press(key)
        await settled(pilot)


@pytest.mark.parametrize(
    ("view", "theme"),
    [*((view, LIGHT) for view in VIEWS), *((view, theme) for theme in (CONTRAST, ANSI) for view in SOME)],
)
def test_a_view_in_a_theme_looks_as_before(snap_compare: Any, view: str, theme: str) -> None:
    assert snap_compare(
        dashboard(busy()), terminal_size=_SIZE, run_before=lambda pilot: show(pilot, view, theme)
    )


@pytest.mark.parametrize("view", SOME)
def test_a_view_without_colours_looks_as_before(
    snap_compare: Any, view: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert snap_compare(dashboard(busy()), terminal_size=_SIZE, run_before=lambda pilot: show(pilot, view))
