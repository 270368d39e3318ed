"""The cache's view: figures, entries by page and by filter, marks, one entry, and what can be evicted."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest
from rich.cells import cell_len
from textual.widgets import Input

from tests.support.cache_view import (
    AWAY,
    KEYS,
    SIZE,
    asked,
    cache_view,
    line,
    many,
    notes,
    settled,
    shown,
    title,
)
from tests.support.dashboards import dashboard, text_of, until, words
from tests.support.fake_cache import CACHE, ENTRIES
from tests.support.fake_moments import HEALTHY, NASTY
from tests.support.fake_operations import CannedOperations
from tests.support.letters_view import says, write
from tui.dialogs.help import Help
from tui.palette import commands
from tui.screens.cache import list as module
from tui.screens.cache.entry import CacheEntryScreen
from tui.screens.cache.list import CacheScreen
from tui.screens.overview import OverviewScreen
from tui.text import cache as cache_text
from tui.text.format import clip_middle, sparkline
from tui.widgets.cache_entry_table import CacheEntryTable
from tui.widgets.filter_bar import FilterBar
from workers.operations.operations import CacheStats


async def test_5_shows_the_figures_and_the_entries_by_key_and_1_goes_back() -> None:
    app = dashboard(CannedOperations(HEALTHY))
    async with app.run_test(size=SIZE) as pilot:
        await cache_view(app, pilot)
        assert shown(app) == KEYS
        assert "6 entries · as of 14:32:07" in title(app)
        head = line(app, "#cache-figures")
        for words_ in ("93.5 %", "45,210 hits", "3,120 misses", "14 stale", "0 errors", "180 MB of 256 MB"):
            assert words_ in head
        assert "(70 %) · 1,204 evicted · volatile-lru · own Redis" in head
        await pilot.press("1")
        await until(pilot, lambda: isinstance(app.screen, OverviewScreen))


async def test_the_palette_opens_the_cache() -> None:
    app = dashboard(CannedOperations(HEALTHY))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        (command,) = [one for one in commands(app, app.screen) if one.name == "Go to Cache"]
        await command.run()
        await until(pilot, lambda: isinstance(app.screen, CacheScreen))


async def test_text_from_keys_and_values_is_shown_and_never_obeyed() -> None:
    app = dashboard(CannedOperations(HEALTHY))
    async with app.run_test(size=SIZE) as pilot:
        table = await cache_view(app, pilot)
        cells = [str(table.get_cell_at((row, 1))) for row in range(len(KEYS))]  # type: ignore[arg-type]
        assert not any("\x1b" in cell or "\u202e" in cell for cell in cells)
        assert "foreign [red]not markup[/] \\x1b[31mnot red" in cells[KEYS.index(f"foreign {NASTY}")]
        await pilot.press("enter")
        await until(pilot, lambda: "preferences" in line(app, "#entry"))
        assert "[red]not markup[/] \\u001b[31m" in line(app, "#entry")


async def test_an_empty_cache_explains_what_it_is_for() -> None:
    canned = many(0)
    canned.cache.now = replace(CACHE, stats=CacheStats(minutes=(None,) * 60), dedicated=False)
    app = dashboard(canned)
    async with app.run_test(size=(80, 24)) as pilot:
        await cache_view(app, pilot)
        assert "nothing is cached" in line(app, "#list-empty")
        assert "It fills as payloads are read" in line(app, "#list-empty")
        assert "hit rate       –" in line(app, "#cache-figures")
        assert "with the jobs" in line(app, "#cache-figures")
        for key in ("x", "enter", "space", "v", "n", "b"):
            await pilot.press(key)
        assert canned.done == []


async def test_while_redis_is_down_the_last_figures_and_entries_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REFRESH_SECONDS", 0.0)
    canned = CannedOperations(HEALTHY)
    app = dashboard(canned)
    async with app.run_test(size=SIZE) as pilot:
        await cache_view(app, pilot)
        canned.cache.error = AWAY
        app.session.refresh()
        await until(pilot, lambda: "▲ the cache's Redis does not answer" in line(app, "#cache-figures"))
        assert "figures of 2026-03-01 14:32:07" in line(app, "#cache-figures")
        assert "93.5 %" in line(app, "#cache-figures")
        await pilot.press("r")
        await until(pilot, lambda: str(AWAY) in notes(app))
        assert shown(app) == KEYS
        await pilot.press("slash")
        await write(pilot, "anna")
        await until(pilot, lambda: "does not answer" in line(app, "#filter-hint"))
        await pilot.press("escape")
        canned.cache.error = None
        app.session.refresh()
        await until(pilot, lambda: "▲" not in line(app, "#cache-figures"))


async def test_the_cache_screen_opens_while_redis_is_down() -> None:
    canned = CannedOperations(HEALTHY)
    canned.cache.error = AWAY
    app = dashboard(canned)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        await pilot.press("5")
        await until(pilot, lambda: isinstance(app.screen, CacheScreen))
        await until(pilot, lambda: "does not answer" in line(app, "#cache-figures"))
        await until(pilot, lambda: "not read: r reads it again" in line(app, "#list-empty"))
        canned.cache.error = None
        await pilot.press("r")
        await until(pilot, lambda: shown(app) == KEYS)


async def test_the_cache_is_not_queried_while_another_screen_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "REFRESH_SECONDS", 0.0)
    canned = CannedOperations(HEALTHY)
    app = dashboard(canned)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        assert canned.cache.asked == []
        await cache_view(app, pilot)
        await pilot.press("1")
        await until(pilot, lambda: isinstance(app.screen, OverviewScreen))
        await settled(pilot)
        before = list(canned.cache.asked)
        for _ in range(3):
            app.session.refresh()
            await pilot.pause(0.05)
        assert canned.cache.asked == before
        await pilot.press("5")
        await until(pilot, lambda: len(canned.cache.asked) > len(before))


@pytest.mark.slow
async def test_figures_are_fetched_every_few_seconds_and_pages_on_request() -> None:
    canned = CannedOperations(HEALTHY)
    app = dashboard(canned)
    async with app.run_test(size=SIZE) as pilot:
        await cache_view(app, pilot)
        for _ in range(5):
            app.session.refresh()
            await pilot.pause(0.05)
        assert sorted(canned.cache.asked) == [("overview",), ("page", "*", None)]
        await pilot.press("r")
        await until(pilot, lambda: len(canned.cache.asked) == 4)
        await asked(app, pilot, "x")
        await pilot.press("n")  # a question that is answered with no reads nothing
        await until(pilot, lambda: isinstance(app.screen, CacheScreen))
        await settled(pilot)
        assert len(canned.cache.asked) == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("written", "pattern", "found"),
    [
        ("anna", "*anna*", KEYS[:2]),
        (" lisboa ", "*lisboa*", [KEYS[0], KEYS[-1]]),
        ("josé", "*jos%C3%A9*", KEYS[-1:]),
        ("anna-1:p*", "anna-1:p*", KEYS[1:2]),
        ("[ab]*", "[ab]*", KEYS[:3]),
    ],
)
async def test_slash_finds_a_part_of_a_key_or_a_pattern(written: str, pattern: str, found: list[str]) -> None:
    canned = CannedOperations(HEALTHY)
    app = dashboard(canned)
    async with app.run_test(size=SIZE) as pilot:
        await cache_view(app, pilot)
        await pilot.press("slash")
        await write(pilot, written)
        await until(pilot, lambda: shown(app) == found)
        assert canned.cache.asked[-1] == ("page", pattern, None)
        assert written.strip() in line(app, "#filter-text")
        await pilot.press("slash")
        assert cast(Input, app.focused).value == written.strip()
        await pilot.press("escape")
        assert app.screen.query_one(CacheEntryTable).has_focus
        await pilot.press("escape")
        await until(pilot, lambda: shown(app) == KEYS)
        assert not app.screen.query_one(FilterBar).display


@pytest.mark.slow
async def test_a_filter_without_matches_is_shown_with_its_pattern() -> None:
    app = dashboard(CannedOperations(HEALTHY))
    async with app.run_test(size=SIZE) as pilot:
        await cache_view(app, pilot)
        await pilot.press("slash")
        await write(pilot, "zoë")
        await until(pilot, lambda: "no key matches *zo%C3%AB*" in line(app, "#list-empty"))


@pytest.mark.slow
async def test_escape_cancels_a_filter_whose_page_has_not_arrived() -> None:
    canned = CannedOperations(HEALTHY)
    app = dashboard(canned)
    async with app.run_test(size=SIZE) as pilot:
        await cache_view(app, pilot)
        canned.cache.door.clear()
        await pilot.press("slash")
        await write(pilot, "anna")
        await until(pilot, lambda: "reading" in line(app, "#filter-hint"))
        await pilot.press("escape")
        canned.cache.door.set()
        await settled(pilot)
        assert shown(app) == KEYS
        assert not app.screen.query_one(FilterBar).display


@pytest.mark.slow
async def test_n_and_b_also_divide_fetches_of_more_rows_than_a_page() -> None:
    canned = many(330)
    canned.cache.page_size = 150
    app = dashboard(canned)
    async with app.run_test(size=SIZE) as pilot:
        await cache_view(app, pilot)
        firsts = []
        for number in range(1, 6):
            await until(pilot, lambda number=number: f"page {number}" in title(app))  # type: ignore[misc]
            await until(pilot, lambda: not cast(CacheScreen, app.screen).is_waiting)
            firsts.append((shown(app)[0][:5], len(shown(app))))
            await pilot.press("n")
        assert firsts == [("u0000", 100), ("u0100", 50), ("u0150", 100), ("u0250", 50), ("u0300", 30)]
        assert "this is the last page" in notes(app)
        pages = [query for query in canned.cache.asked if query[0] == "page"]
        assert [cursor for _, _, cursor in pages] == [None, "150", "300"]
        assert "n more" not in title(app)
        for number in (4, 3, 2, 1):
            await pilot.press("b")
            await until(pilot, lambda number=number: f"page {number}" in title(app))  # type: ignore[misc]
            await until(pilot, lambda: not cast(CacheScreen, app.screen).is_waiting)
        assert shown(app)[0].startswith("u0000")
        await pilot.press("b")
        assert "this is the first page" in notes(app)


async def test_two_quick_presses_of_n_are_one_page() -> None:
    canned = many(350)
    canned.cache.page_size = 100
    app = dashboard(canned)
    async with app.run_test(size=SIZE) as pilot:
        await cache_view(app, pilot)
        canned.cache.door.clear()
        await pilot.press("n", "n", "n")
        canned.cache.door.set()
        await until(pilot, lambda: "page 2" in title(app))
        assert [query[2] for query in canned.cache.asked if query[0] == "page"] == [None, "100"]


@pytest.mark.slow
async def test_the_page_before_replaces_a_page_that_lost_its_rows() -> None:
    canned = many(150)
    app = dashboard(canned)
    async with app.run_test(size=SIZE) as pilot:
        await cache_view(app, pilot)
        await pilot.press("n")
        await until(pilot, lambda: "page 2" in title(app))
        canned.cache.kept = canned.cache.kept[:80]
        cast(CacheScreen, app.screen).refresh_data()
        await until(pilot, lambda: len(shown(app)) == 80)
        assert "80 entries" in title(app)


async def test_a_page_without_entries_that_is_not_the_last_offers_the_next() -> None:
    canned = many(1)
    canned.cache.page_size = 0
    app = dashboard(canned)
    async with app.run_test(size=SIZE) as pilot:
        await cache_view(app, pilot)
        assert "n shows the next one" in line(app, "#list-empty")


@pytest.mark.slow
async def test_enter_shows_one_entry_and_its_keys_act_on_it() -> None:
    canned = CannedOperations(HEALTHY)
    app = dashboard(canned)
    async with app.run_test(size=SIZE) as pilot:
        await cache_view(app, pilot)
        await pilot.press("down", "enter")
        await until(pilot, lambda: '"user_id": "anna-1"' in line(app, "#entry"))
        for words_ in (KEYS[1], "stale: served only if", "1 min 4 s", "13 min 56 s", "1.2 kB (1,204 bytes)"):
            assert words_ in line(app, "#entry")
        canned.cache.value = "no JSON at all \x1b[31m"
        await pilot.press("r")
        await until(pilot, lambda: "no JSON at all \\x1b[31m" in line(app, "#entry"))
        assert "Evict 2 entries?" in await asked(app, pilot, "u")
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, CacheEntryScreen))
        assert "Evict 1 entry?" in await asked(app, pilot, "x")
        await pilot.press("y")
        await until(
            pilot, lambda: isinstance(app.screen, CacheEntryScreen) and "it has gone" in line(app, "#entry")
        )
        assert canned.done == [("evict", (KEYS[1],), None)]
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, CacheScreen))
        await until(pilot, lambda: shown(app) == [KEYS[0], *KEYS[2:]])


async def test_an_unreadable_entry_shows_the_error() -> None:
    canned = CannedOperations(HEALTHY)
    app = dashboard(canned)
    async with app.run_test(size=SIZE) as pilot:
        await cache_view(app, pilot)
        canned.cache.error = AWAY
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, CacheEntryScreen))
        await until(pilot, lambda: "not read: the cache's Redis" in line(app, "#entry"))
        await pilot.press("backspace")
        await until(pilot, lambda: isinstance(app.screen, CacheScreen))


async def test_the_help_explains_keys_and_states() -> None:
    app = dashboard(CannedOperations(HEALTHY))
    async with app.run_test(size=SIZE) as pilot:
        await cache_view(app, pilot)
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, Help))
        for word in ("outdated", "user:location:block"):
            assert word in says(app)
        app.screen.query_one(".dialog").scroll_end(animate=False)
        await until(pilot, lambda: "Evict the marked entries, else the one" in text_of(app))


async def test_the_cache_screen_has_the_header() -> None:
    app = dashboard(CannedOperations(HEALTHY))
    async with app.run_test(size=(80, 24)) as pilot:
        await cache_view(app, pilot)
        assert "all well" in words(app)


@pytest.mark.parametrize("width", [60, 80, 112, 122, 160, 240])
def test_the_figures_fit_every_width(width: int) -> None:
    for overview in (CACHE, replace(CACHE, dedicated=False, memory_limit=None, evicted=None, policy=None)):
        for problem in ("", "x" * 300):
            lines = cache_text.header(overview, width, problem=problem, read_at=0.0).plain.split("\n")
            assert max(map(cell_len, lines)) <= width
            assert len(lines) == (2 if width >= 122 else 3) + bool(problem)


def test_a_full_redis_is_flagged_if_it_holds_the_jobs() -> None:
    full = replace(CACHE, memory_used=250 * 2**20)
    assert "▲" not in cache_text.header(full, 160).plain
    assert "▲ 98 %" in cache_text.header(replace(full, dedicated=False), 160).plain


def test_errors_are_flagged() -> None:
    figures = replace(CACHE.stats, errors=3)
    assert "▲ 3 errors" in cache_text.header(replace(CACHE, stats=figures), 80).plain


def test_hit_rates_are_scaled_to_100_percent() -> None:
    assert sparkline((0.5, 0.5, None, 1.0), 4, scale=1.0) == "▄▄ █"


@pytest.mark.parametrize("most", range(12))
def test_long_keys_keep_both_ends(most: int) -> None:
    found = clip_middle("anna:lisboa:T12", most)
    assert len(found) <= most
    assert clip_middle("short", 5) == "short"
    if most >= 5:
        assert found.startswith("a")
        assert found.endswith("12")


def test_very_long_values_are_cut_with_a_note() -> None:
    text = cache_text.detail(ENTRIES[0], "x" * 250_000, read_at=0.0).plain
    assert "50,000 characters more: couturecast-tui cache get shows them" in text
    assert len(text) < 201_000
