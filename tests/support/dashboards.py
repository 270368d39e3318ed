"""The dashboard on made-up operations: opens it, waits for it, and reads what it has painted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static, TextArea

from tests.support.fake_operations import CannedOperations
from tui.app import Dashboard
from tui.screens.dead_letters.list import DeadLettersScreen
from tui.widgets.letter_table import LetterTable
from tui.widgets.rule import Rule
from workers.operations.operations import Operations

SIZES = {"80x24": (80, 24), "120x36": (120, 36), "160x48": (160, 48), "200x60": (200, 60)}
MIDDLE = pytest.param("120x36", marks=pytest.mark.slow)  # what fits both others fits it
_QUIET_SECONDS = 0.01
"""Between two checks that no widget has a message left; a busy process handles all that it has before."""
_READS = (
    "page",
    "details",
    "histories",
    "letters",
    "letter",
    "count",
    "groups",
    "preview",
    "plan",
    "plans",
    "items",
)


def dashboard(operations: CannedOperations) -> Dashboard:
    return Dashboard(cast(Operations, operations))


async def until(pilot: Pilot[Any], condition: Callable[[], object]) -> None:
    """Wait for the condition, and until what follows from it is on the screen."""
    async with asyncio.timeout(30):
        while not condition():
            await pilot.pause(0.01)
        await messages_handled(pilot)


def words(app: Dashboard) -> str:
    """Return the text of the header, the verdict and the banner."""
    return " ".join(
        str(app.screen.query_one(name, Static).render()) for name in ("#header", "#verdict", "#banner")
    )


def text_of(app: Dashboard) -> str:
    """All text on the screen."""
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


def title(app: Dashboard) -> str:
    """Return the title above the letters."""
    return str(app.screen.query_one("#list-title", Rule).render())


async def letters_view(app: Dashboard, pilot: Pilot[Any]) -> LetterTable:
    """The letters in the second view, with their first page."""
    await pilot.press("2")
    await until(pilot, lambda: isinstance(app.screen, DeadLettersScreen))
    if cast(DeadLettersScreen, app.screen).target_state.grouped:
        await pilot.press("g")
    table = app.screen.query_one(LetterTable)
    await until(pilot, lambda: table.items)
    return table


def notices(app: Dashboard) -> str:
    """The notices that are shown."""
    return "\n".join(notice.message for notice in app._notifications)


async def messages_handled(pilot: Pilot[Any]) -> None:
    """No widget has a message left, three times in a row.

    Textual's own pause ends when the process uses no CPU; on a busy machine it may only have got none.
    """
    quiet = 0
    async with asyncio.timeout(30):
        while quiet < 3 and pilot.app.is_running:
            app = pilot.app
            pumps = (app, *app.screen_stack, *app.screen.walk_children())
            is_busy = any(pump.message_queue_size or pump._next_callbacks for pump in pumps)
            quiet = 0 if is_busy else quiet + 1
            await asyncio.sleep(_QUIET_SECONDS)


async def settled(pilot: Pilot[Any]) -> None:
    """The first snapshot and the letters are on the screen, and no cursor blinks."""
    app = cast(Dashboard, pilot.app)
    await until(pilot, lambda: app.session.snapshot is not None)
    await pilot.pause()
    await until(
        pilot, lambda: not any(worker.group in _READS and worker.is_running for worker in app.workers)
    )
    fields = (*app.screen.query(Input), *app.screen.query(TextArea))
    await until(pilot, lambda: all(field.is_mounted for field in fields))  # else the timer still starts
    for field in fields:
        field.cursor_blink = False
    await messages_handled(pilot)
