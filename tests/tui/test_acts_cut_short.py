"""An act that is cancelled before it began leaves no coroutine behind that nobody awaits."""

from __future__ import annotations

import gc
import warnings

import pytest

from tests.support.dashboards import dashboard, until
from tests.support.fake_moments import HEALTHY
from tests.support.fake_operations import CannedOperations
from tests.support.letters_view import operations
from tui.screens.cache.list import CacheScreen
from tui.screens.dead_letters.list import DeadLettersScreen
from tui.screens.overview import OverviewScreen
from tui.widgets.cache_entry_table import CacheEntryTable
from tui.widgets.group_list import GroupList
from tui.widgets.letter_table import LetterTable

LETTERS = ["replay", "replay_all", "discard", "restore", "edit", "export"]
CACHE = ["evict", "evict_all", "evict_user"]


@pytest.mark.parametrize(
    ("key", "action"),
    [("1", "replay"), *(("2", action) for action in LETTERS), *(("5", action) for action in CACHE)],
)
async def test_actions_cancelled_before_they_begin_leave_no_coroutine(key: str, action: str) -> None:
    app = dashboard(operations())
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press(key)
        view = {"1": OverviewScreen, "2": DeadLettersScreen, "5": CacheScreen}[key]
        await until(pilot, lambda: isinstance(app.screen, view))
        if view is DeadLettersScreen:
            await pilot.press("g")  # from the groups to the letters
        table = app.screen.query_one({"1": GroupList, "2": LetterTable, "5": CacheEntryTable}[key])
        await until(pilot, lambda: table.selected)
        with warnings.catch_warnings(record=True) as raised:
            warnings.simplefilter("always")
            getattr(app.screen, f"action_{action}")()
            assert any(worker.group == "action" for worker in app.workers)
            app.workers.cancel_all()  # as if the dashboard ends in the same moment
            await pilot.pause()
            gc.collect()
    assert not [str(warning.message) for warning in raised if "never awaited" in str(warning.message)]


@pytest.mark.slow
async def test_held_down_keys_leave_no_coroutine() -> None:
    app = dashboard(CannedOperations(HEALTHY))
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press("2")
        await until(pilot, lambda: isinstance(app.screen, DeadLettersScreen))
        with warnings.catch_warnings(record=True) as raised:
            warnings.simplefilter("always")
            await pilot.press(*("A" * 5), "q")
            gc.collect()
    assert not [str(warning.message) for warning in raised if "never awaited" in str(warning.message)]
