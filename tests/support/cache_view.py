"""The view of the cache: opens it, and reads what it shows."""

from __future__ import annotations

from typing import Any, cast

from textual.pilot import Pilot

from tests.support.dashboards import messages_handled, until
from tests.support.fake_cache import ENTRIES, entry
from tests.support.fake_moments import HEALTHY
from tests.support.fake_operations import CannedOperations
from tests.support.letters_view import says
from tui.app import Dashboard
from tui.dialogs.confirm import Confirm
from tui.screens.cache.list import CacheScreen
from tui.widgets.cache_entry_table import CacheEntryTable
from workers.errors import WorkersError

SIZE = (120, 36)
AWAY = WorkersError("the cache's Redis does not answer: connection refused")
KEYS = sorted(entry.key for entry in ENTRIES)


def many(number: int) -> CannedOperations:
    canned = CannedOperations(HEALTHY)
    canned.cache.kept = [entry(f"u{n:04}:lisboa:2026-03-01T12") for n in range(number)]
    return canned


def shown(app: Dashboard) -> list[str]:
    return [entry.key for entry in app.screen.query_one(CacheEntryTable).items]


def line(app: Dashboard, name: str) -> str:
    return str(app.screen.query_one(name).render())


def title(app: Dashboard) -> str:
    return line(app, "#list-title")


def notes(app: Dashboard) -> list[str]:
    return [note.message for note in app._notifications]


async def cache_view(app: Dashboard, pilot: Pilot[Any]) -> CacheEntryTable:
    """The fifth view, with its first page and its figures."""
    await until(pilot, lambda: app.session.snapshot)
    await pilot.press("5")
    await until(pilot, lambda: isinstance(app.screen, CacheScreen))
    screen = cast(CacheScreen, app.screen)
    await until(pilot, lambda: screen.page is not None and "hit rate" in line(app, "#cache-figures"))
    return screen.query_one(CacheEntryTable)


async def asked(app: Dashboard, pilot: Pilot[Any], *keys: str, screen: type = Confirm) -> str:
    """Press these keys, and return the question that they open."""
    await pilot.press(*keys)
    await until(pilot, lambda: isinstance(app.screen, screen))
    return says(app)


async def settled(pilot: Pilot[Any]) -> None:
    """Wait until nothing is being read."""
    app = pilot.app
    await until(
        pilot, lambda: not any(worker.is_running for worker in app.workers if worker.group != "default")
    )
    await messages_handled(pilot)
