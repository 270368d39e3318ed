"""A dialog that was closed leaves nothing behind, so a dashboard that runs for weeks does not grow."""

from __future__ import annotations

import gc
from typing import Any

from textual._styles_cache import StylesCache
from textual.pilot import Pilot

from tests.support.dashboards import dashboard, settled
from tests.support.fake_busy import busy


async def _open_and_close(pilot: Pilot[Any]) -> int:
    """Open and close two dialogs; return how many widgets have lines afterwards."""
    for key in ("question_mark", "escape", "a", "escape"):
        await pilot.press(key)
        await settled(pilot)
    gc.collect()
    return sum(isinstance(thing, StylesCache) for thing in gc.get_objects())


async def test_closed_screens_are_freed() -> None:
    async with dashboard(busy()).run_test(size=(120, 36)) as pilot:
        before = await _open_and_close(pilot)
        assert await _open_and_close(pilot) == before
