"""Evictions from the view of the cache, by their keys."""

from __future__ import annotations

import pytest

from tests.support.cache_view import (
    AWAY,
    KEYS,
    SIZE,
    asked,
    cache_view,
    many,
    notes,
    settled,
    shown,
    title,
)
from tests.support.dashboards import dashboard, until
from tests.support.fake_cache import entry
from tests.support.fake_moments import HEALTHY
from tests.support.fake_operations import CannedOperations
from tests.support.letters_view import says, write
from tui.dialogs.confirm import Confirm
from tui.dialogs.prompt import Prompt
from tui.screens.cache.list import CacheScreen


@pytest.mark.slow
async def test_x_evicts_the_entry_under_the_cursor_after_a_question() -> None:
    canned = CannedOperations(HEALTHY)
    app = dashboard(canned)
    async with app.run_test(size=SIZE) as pilot:
        await cache_view(app, pilot)
        question = await asked(app, pilot, "down", "x")
        assert "Evict 1 entry?" in question
        assert KEYS[1] in question
        await pilot.press("y")
        await until(pilot, lambda: shown(app) == [KEYS[0], *KEYS[2:]])
        assert canned.done == [("evict", (KEYS[1],), None)]
        assert notes(app) == ["1 entry evicted"]


@pytest.mark.slow
async def test_marks_and_ranges_are_evicted_together() -> None:
    canned = CannedOperations(HEALTHY)
    app = dashboard(canned)
    async with app.run_test(size=SIZE) as pilot:
        table = await cache_view(app, pilot)
        await pilot.press("space", "space", "up", "space")
        assert list(table.marks) == [KEYS[0]]
        await pilot.press("v", "down", "down")
        assert "v marks to here" in title(app)
        await pilot.press("v")
        assert list(table.marks) == [KEYS[0], *KEYS[2:5]]
        assert "4 marked" in title(app)
        await pilot.press("U")
        assert table.marks == {}
        await pilot.press("ctrl+home", "shift+down", "shift+down", "ctrl+end", "shift+up")
        assert list(table.marks) == [*KEYS[:2], KEYS[5]]
        canned.cache.kept.remove(next(entry for entry in canned.cache.kept if entry.key == KEYS[0]))
        assert "Evict 3 entries?" in await asked(app, pilot, "x")
        await pilot.press("y")
        await until(pilot, lambda: shown(app) == KEYS[2:5])
        assert canned.done == [("evict", (*KEYS[:2], KEYS[5]), None)]
        assert notes(app) == ["2 entries evicted; 1 entry had gone already"]
        assert table.marks == {}


@pytest.mark.slow
async def test_marks_go_with_the_filter_and_escape_ends_a_range_first() -> None:
    app = dashboard(CannedOperations(HEALTHY))
    async with app.run_test(size=SIZE) as pilot:
        table = await cache_view(app, pilot)
        await pilot.press("space", "v", "escape")
        assert table.range_start is None
        await pilot.press("slash")
        await write(pilot, "bruno")
        await until(pilot, lambda: shown(app) == KEYS[2:3])
        assert (table.marks, notes(app)) == ({}, ["the filter changed: 1 mark removed"])


async def test_A_evicts_exactly_what_was_counted() -> None:
    canned = CannedOperations(HEALTHY)
    app = dashboard(canned)
    async with app.run_test(size=SIZE) as pilot:
        await cache_view(app, pilot)
        await pilot.press("slash")
        await write(pilot, "anna")
        await until(pilot, lambda: shown(app) == KEYS[:2])
        question = await asked(app, pilot, "A")
        assert "Evict 2 entries?" in question
        assert "*anna*" in question
        canned.cache.kept.append(entry("anna-9:lisboa:2026-03-01T12"))
        await pilot.press("y")
        await until(pilot, lambda: canned.done)
        assert canned.done == [("evict", tuple(KEYS[:2]), "*anna*")]
        await until(pilot, lambda: shown(app) == ["anna-9:lisboa:2026-03-01T12"])
        await pilot.press("escape")
        await until(pilot, lambda: len(shown(app)) == 5)
        assert "All entries of the cache" in await asked(app, pilot, "A")
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, CacheScreen))
        assert len(canned.done) == 1


async def test_A_without_matches_evicts_nothing() -> None:
    canned = many(0)
    app = dashboard(canned)
    async with app.run_test(size=SIZE) as pilot:
        await cache_view(app, pilot)
        await pilot.press("A")
        await until(pilot, lambda: "no entry matches: there is nothing to evict" in notes(app))
        assert canned.done == []


@pytest.mark.slow
async def test_u_evicts_the_user_of_the_row() -> None:
    canned = CannedOperations(HEALTHY)
    app = dashboard(canned)
    async with app.run_test(size=SIZE) as pilot:
        await cache_view(app, pilot)
        question = await asked(app, pilot, "ctrl+end", "u")
        assert "Evict 1 entry?" in question
        assert "All of user josé:x" in question
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, CacheScreen))
        assert "Evict 2 entries?" in await asked(app, pilot, "ctrl+home", "u")
        await pilot.press("y")
        await until(pilot, lambda: shown(app) == KEYS[2:])
        assert canned.done == [("evict user", "anna-1")]
        assert "2 entries of user anna-1 evicted" in notes(app)


@pytest.mark.slow
async def test_u_without_a_row_prompts_for_a_user() -> None:
    canned = CannedOperations(HEALTHY)
    app = dashboard(canned)
    async with app.run_test(size=SIZE) as pilot:
        await cache_view(app, pilot)
        await pilot.press("slash")
        await write(pilot, "nobody at all")
        await until(pilot, lambda: not shown(app))
        await asked(app, pilot, "u", screen=Prompt)
        await write(pilot, "")
        assert "use 1 to 200 characters without NUL" in says(app)
        await write(pilot, "zoë")
        await until(pilot, lambda: "nothing of user zoë is cached" in notes(app))
        await settled(pilot)
        await asked(app, pilot, "u", screen=Prompt)
        await write(pilot, "bruno-2")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: canned.done == [("evict user", "bruno-2")])
        await settled(pilot)
        await asked(app, pilot, "u", screen=Prompt)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, CacheScreen))


@pytest.mark.slow
async def test_read_only_mode_is_refused_before_it_asks() -> None:
    canned = CannedOperations(HEALTHY)
    canned.read_only = True
    app = dashboard(canned)
    async with app.run_test(size=SIZE) as pilot:
        await cache_view(app, pilot)
        for key in ("x", "A", "u"):
            app.clear_notifications()
            await pilot.press(key)
            await until(pilot, lambda: any("read-only: " in note for note in notes(app)))
            await settled(pilot)
        assert (canned.done, shown(app)) == ([], KEYS)


@pytest.mark.slow
async def test_a_failed_eviction_shows_its_error_and_keeps_marks() -> None:
    canned = CannedOperations(HEALTHY)
    app = dashboard(canned)
    async with app.run_test(size=SIZE) as pilot:
        table = await cache_view(app, pilot)
        await asked(app, pilot, "space", "x")
        canned.cache.error = AWAY
        await pilot.press("y")
        await until(pilot, lambda: str(AWAY) in notes(app))
        assert (shown(app), list(table.marks)) == (KEYS, KEYS[:1])
        for key in ("A", "u"):
            app.clear_notifications()
            await pilot.press(key)
            await until(pilot, lambda: str(AWAY) in notes(app))
            await settled(pilot)
