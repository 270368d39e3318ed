"""A dialog that was closed leaves nothing behind, so a dashboard that runs for weeks does not grow."""

from __future__ import annotations

import gc
from typing import Any

from textual._styles_cache import StylesCache
from textual.pilot import Pilot

from tests.support.dashboards import dashboard, settled, until
from tests.support.fake_busy import busy


async def _open_and_close(pilot: Pilot[Any]) -> None:
    for key in ("question_mark", "escape", "a", "escape"):
        await pilot.press(key)
        await settled(pilot)


def _kept_widgets() -> int:
    """Return how many widgets have lines."""
    gc.collect()
    return sum(isinstance(thing, StylesCache) for thing in gc.get_objects())


async def test_closed_screens_are_freed() -> None:
    async with dashboard(busy()).run_test(size=(120, 36)) as pilot:
        await _open_and_close(pilot)
        before = _kept_widgets()
        for _ in range(2):
            await _open_and_close(pilot)
        await until(pilot, lambda: _kept_widgets() <= before)
