"""Takes a picture of a view without a terminal: the dashboard runs headless until the view has its data."""

from __future__ import annotations

import asyncio
from typing import Any

from textual.pilot import Pilot

from tui.app import Dashboard
from tui.navigation import OpenQueue
from tui.text.svg import independent_of_fonts

_TIMEOUT_SECONDS = 20.0
_STEADY_POLLS = 5
_POLL_SECONDS = 0.05
"""The view is complete once nothing was being read for so many polls: a page may ask for more."""
_SNAPSHOT_WORKER = Dashboard.take_snapshot.__name__


class ScreenshotTimeoutError(Exception):
    """A view did not get its data in time."""


async def take_screenshot(
    dashboard: Dashboard, size: tuple[int, int], *, view: str, queue: str | None, theme: str
) -> str:
    """Show a view, or the page of a queue, in an invisible terminal of ``size``; the picture as SVG.

    Raises ScreenshotTimeoutError.
    """
    picture: list[str] = []

    async def take(pilot: Pilot[Any]) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                dashboard.theme = theme
                await _until_complete(dashboard, pilot)
                if queue is not None:
                    dashboard.post_message(OpenQueue(queue))
                elif dashboard.current_mode != view:
                    dashboard.action_view(view)
                await _until_complete(dashboard, pilot)
            dashboard.clear_notifications()  # they would cover the view
            await pilot.pause()
            title = f"couturecast-tui · {queue or view}"
            picture.append(independent_of_fonts(dashboard.export_screenshot(title=title, simplify=True)))
        except TimeoutError:
            pass
        finally:
            dashboard.exit(0)

    await dashboard.run_async(headless=True, size=size, mouse=False, auto_pilot=take)
    if not picture:
        raise ScreenshotTimeoutError
    return picture[0]


async def _until_complete(dashboard: Dashboard, pilot: Pilot[Any]) -> None:
    steady = 0
    while steady < _STEADY_POLLS:
        await pilot.pause(_POLL_SECONDS)
        steady = 0 if _is_reading(dashboard) else steady + 1


def _is_reading(dashboard: Dashboard) -> bool:
    """Return whether the view lacks something.

    Snapshots are taken again and again, so the first one is enough.
    """
    unread = dashboard.session.snapshot is None
    others = [worker for worker in dashboard.workers if worker.name != _SNAPSHOT_WORKER]
    return unread or any(not worker.is_finished for worker in others)
