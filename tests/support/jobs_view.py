"""The view of jobs: opens it, presses its keys, and answers its questions."""

from __future__ import annotations

from typing import Any, cast

from textual.pilot import Pilot

from tests.support.dashboards import text_of, until
from tui.app import Dashboard
from tui.dialogs.confirm import Confirm
from tui.screens.jobs.list import JobsScreen


async def opened(pilot: Pilot[Any], *keys: str) -> Dashboard:
    """The third view, after some keys."""
    app = cast(Dashboard, pilot.app)
    await until(pilot, lambda: app.session.snapshot)
    await pilot.press("3")
    await until(pilot, lambda: isinstance(app.screen, JobsScreen) and not jobs_screen(app).is_waiting)
    for key in keys:
        await press(pilot, key)
    return app


def jobs_screen(app: Dashboard) -> JobsScreen:
    return cast(JobsScreen, app.screen)


async def press(pilot: Pilot[Any], key: str) -> None:
    """Press a key of the list, and wait for what it reads."""
    await pilot.press(key)
    screen = pilot.app.screen
    if isinstance(screen, JobsScreen):
        await until(pilot, lambda: not screen.is_waiting)
    await pilot.pause()


async def answer(pilot: Pilot[Any], key: str = "y") -> str:
    """Answer a question; return it."""
    app = cast(Dashboard, pilot.app)
    await until(pilot, lambda: isinstance(app.screen, Confirm))
    asked = text_of(app)
    await pilot.press(key)
    return asked
