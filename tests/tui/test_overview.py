"""The overview and the queue's page: every key, on every row, in every state."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

import pytest

from tests.support.dashboards import dashboard, settled, until
from tests.support.fake_busy import BUSY, EVENTS, busy
from tests.support.fake_letters import letter
from tests.support.fake_moments import AWAY, BREACHED, DRAINING, HEALTHY, IDLE, NASTY
from tests.support.fake_operations import CannedOperations
from tests.support.fake_signals import event
from tui.app import Dashboard
from tui.dialogs.alerts import AlertsDialog
from tui.dialogs.prompt import Prompt
from tui.dialogs.replay_options import ReplayDialog
from tui.screens.cache.list import CacheScreen
from tui.screens.dead_letters.list import DeadLettersScreen
from tui.screens.overview import OverviewScreen
from tui.screens.queues import details
from tui.screens.queues.queue import QueueScreen
from tui.text.charts import FIGURES, RANGES
from tui.widgets.chart_grid import ChartGrid
from tui.widgets.group_list import GroupList
from tui.widgets.letter_table import LetterTable
from tui.widgets.queue_table import QueueTable
from tui.widgets.rule import Rule
from workers.monitoring.snapshot import Pause

SIZE = (160, 48)


def shown(app: Dashboard, name: str) -> str:
    return str(app.screen.query_one(name).render())


async def test_enter_opens_the_queue_under_the_cursor_and_escape_leads_back() -> None:
    app = dashboard(busy())
    async with app.run_test(size=SIZE) as pilot:
        await settled(pilot)
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(app.screen, QueueScreen))
        await settled(pilot)
        assert "alert-fanout" in shown(app, "#queue-title")
        assert "no job of alert-fanout is ready" in shown(app, "#why")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, OverviewScreen))


@pytest.mark.parametrize("row", range(4))
async def test_every_row_can_be_opened_and_paused_or_resumed(row: int) -> None:
    operations = busy()
    app = dashboard(operations)
    async with app.run_test(size=SIZE) as pilot:
        await settled(pilot)
        await pilot.press(*["down"] * row, "enter")
        await until(pilot, lambda: isinstance(app.screen, QueueScreen))
        await pilot.press("p")
        if BUSY.queues[row].paused is None:
            await until(pilot, lambda: isinstance(app.screen, Prompt))
            await pilot.press("enter")
        await until(pilot, lambda: operations.done)
    verb = "resume" if BUSY.queues[row].paused else "pause"
    assert operations.done[0][:2] == (verb, BUSY.queues[row].name)


@pytest.mark.slow
async def test_down_from_the_last_queue_leads_to_the_groups_and_enter_opens_one() -> None:
    operations = busy()
    app = dashboard(operations)
    async with app.run_test(size=SIZE) as pilot:
        await settled(pilot)
        await until(pilot, lambda: app.screen.query_one(GroupList).rows)
        await pilot.press(*["down"] * 4)
        assert isinstance(app.focused, GroupList)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, DeadLettersScreen))
        table = app.screen.query_one(LetterTable)
        await until(pilot, lambda: table.items)
        assert {item.fingerprint for item in table.items} == {"a" * 16}


@pytest.mark.slow
async def test_R_replays_the_group_that_was_shown() -> None:
    operations = busy()
    app = dashboard(operations)
    async with app.run_test(size=SIZE) as pilot:
        await settled(pilot)
        await until(pilot, lambda: app.screen.query_one(GroupList).rows)
        await pilot.press(*["down"] * 5, "R")
        await until(pilot, lambda: isinstance(app.screen, ReplayDialog))
        await until(pilot, lambda: any(what == "preview" for what, _ in operations.letters.asked))
    letters = next(letters for what, letters in operations.letters.asked if what == "preview")
    assert letters.fingerprint == "b" * 16
    assert letters.since is not None


@pytest.mark.slow
async def test_m_shows_every_figure_and_then_the_first_again() -> None:
    app = dashboard(busy())
    async with app.run_test(size=SIZE) as pilot:
        await settled(pilot)
        for figure in (*FIGURES[1:], FIGURES[0]):
            await pilot.press("m")
            await until(pilot, lambda figure=figure: figure.title in shown(app, "#charts-title"))


@pytest.mark.slow
async def test_brackets_change_the_range_until_its_ends() -> None:
    operations = busy()
    app = dashboard(operations)
    async with app.run_test(size=SIZE) as pilot:
        await settled(pilot)
        for words in list(RANGES.values())[2:]:
            await pilot.press("right_square_bracket")
            await until(pilot, lambda words=words: f"last {words}" in shown(app, "#charts-title"))
        assert operations.history.asked[-1] == 86_400
        await pilot.press("right_square_bracket")
        await until(pilot, lambda: app._notifications)
        await pilot.press(*["left_square_bracket"] * 5)
        await until(pilot, lambda: "last 15 min" in shown(app, "#charts-title"))


@pytest.mark.parametrize("key", ["m", "left_square_bracket", "right_square_bracket"])
async def test_without_room_for_charts_their_keys_say_so(key: str) -> None:
    app = dashboard(busy())
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press(key)
        await until(pilot, lambda: app._notifications)
        assert "no room for charts" in next(iter(app._notifications)).message


@pytest.mark.slow
async def test_figure_and_range_are_remembered(tmp_path: Any) -> None:
    for _ in range(2):
        app = Dashboard(cast(Any, busy()), data_dir=tmp_path)
        async with app.run_test(size=SIZE) as pilot:
            await settled(pilot)
            if app.session.state.get("chart_figure") is None:
                await pilot.press("m", "m", "right_square_bracket")
            await until(pilot, lambda app=app: "Done a second, last 3 h" in shown(app, "#charts-title"))


@pytest.mark.slow
async def test_details_are_fetched_rarely_and_never_pile_up() -> None:
    operations = busy()
    operations.letters.slow.clear()
    app = dashboard(operations)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: operations.letters.asked)
        for _ in range(5):
            app.session.refresh()
            await pilot.pause(0.05)
        assert len(operations.letters.asked) == 1
        operations.letters.slow.set()
        await settled(pilot)
        for _ in range(5):
            app.session.refresh()
            await pilot.pause(0.05)
        assert len(operations.letters.asked) == 1


async def test_groups_are_read_again_once_the_snapshot_counts_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(details, "_REFRESH_SECONDS", 3_600)
    app = dashboard(operations := busy())
    async with app.run_test(size=SIZE) as pilot:
        await settled(pilot)
        before = len(operations.letters.asked)
        operations.now = replace(BUSY, dead_letters=313)
        await until(pilot, lambda: len(operations.letters.asked) > before or app.session.refresh())


async def test_nothing_is_painted_again_that_has_not_changed() -> None:
    app = dashboard(busy())
    async with app.run_test(size=SIZE) as pilot:
        await settled(pilot)
        painted: list[str] = []
        for widget in app.screen.query("QueueTable, ChartGrid, GroupList, Rule, Line").results():
            real = widget.refresh

            def note(*arguments: Any, of: Any = widget, real: Any = real, **options: Any) -> Any:
                painted.append(str(of.id))
                return real(*arguments, **options)

            widget.refresh = note  # type: ignore[method-assign]
        before = app.session.snapshot
        for _ in range(3):
            app.session.refresh()
            await pilot.pause(0.05)
        assert app.session.snapshot is before
        assert painted == []


@pytest.mark.parametrize("keys", [(), ("enter",)], ids=["overview", "queue"])
async def test_headings_of_charts_and_ages_of_groups_follow_each_snapshot(keys: tuple[str, ...]) -> None:
    operations = busy()
    app = dashboard(operations)
    async with app.run_test(size=SIZE) as pilot:
        await settled(pilot)
        await pilot.press(*keys)
        await settled(pilot)
        read = operations.letters.asked.copy()
        groups = shown(app, "#groups")
        assert "now 132" in shown(app, "#charts")
        deeper = replace(BUSY.queues[0], depth=149)
        operations.now = replace(BUSY, taken_at=BUSY.taken_at + 3_600, queues=(deeper, *BUSY.queues[1:]))
        app.session.refresh()
        await until(pilot, lambda: app.session.snapshot is operations.now)
        await pilot.pause()
        assert "now 149" in shown(app, "#charts")
        assert shown(app, "#groups") != groups
        assert operations.letters.asked == read


@pytest.mark.slow
async def test_space_holds_what_is_shown_until_it_is_pressed_again() -> None:
    operations = busy()
    app = dashboard(operations)
    async with app.run_test(size=SIZE) as pilot:
        await settled(pilot)
        await pilot.press("space")
        assert "frozen at 2026-03-01 14:32:07" in shown(app, "#banner")
        rows = shown(app, "#queues")
        operations.now = replace(BUSY, queues=(replace(BUSY.queues[0], depth=7), *BUSY.queues[1:]))
        before = operations.snapshots
        app._next_snapshot = 0.0
        app._on_timer()
        await until(pilot, lambda: operations.snapshots > before)
        await pilot.pause(0.1)
        assert shown(app, "#queues") == rows
        await pilot.press("space")
        await until(pilot, lambda: shown(app, "#queues") != rows)
        await until(pilot, lambda: not app.screen.query_one("#banner").display)


@pytest.mark.slow
async def test_a_click_on_a_tab_opens_its_view() -> None:
    app = dashboard(busy())
    async with app.run_test(size=SIZE) as pilot:
        await settled(pilot)
        line = shown(app, "#tabs")
        await pilot.click("#tabs", offset=(line.index("Cache"), 0))
        await until(pilot, lambda: isinstance(app.screen, CacheScreen))


@pytest.mark.slow
async def test_hostile_text_is_shown_literally_in_every_part() -> None:
    operations = busy()
    operations.now = replace(
        BUSY,
        environment=NASTY,
        queues=(replace(BUSY.queues[0], paused=Pause(NASTY, NASTY, None)), *BUSY.queues[1:]),
        alerts=tuple(replace(alert, message=NASTY) for alert in BUSY.alerts),
        workers=tuple(replace(worker, release=NASTY, host=NASTY) for worker in BUSY.workers),
    )
    operations.letters.kept = [letter(1, function=NASTY, error_type=NASTY, error_message=NASTY, job_id=NASTY)]
    operations.events.kept = [event(1, "new-release", NASTY, subject=NASTY, queue=NASTY)]
    app = dashboard(operations)
    async with app.run_test(size=SIZE) as pilot:
        await settled(pilot)
        for keys in ((), ("enter",), ("a",)):
            await pilot.press(*keys)
            await settled(pilot)
            text = "\n".join(
                str(widget.render())
                for widget in app.screen.query("Line, RowList, ChartGrid, Rule").results()
            )
            assert "not markup[/]" in text
            assert not {"\x1b", "\x07", "\u202e", "\t"} & set(text)


KEYS = "a 1 2 5 m p R r [ ] enter tab up down home end escape question_mark"
STATES = {
    "healthy": HEALTHY,
    "idle": IDLE,
    "breached": BREACHED,
    "busy": BUSY,
    "away": AWAY,
    "draining": DRAINING,
}


@pytest.mark.slow
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("first", [(), ("enter",)], ids=["overview", "queue"])
async def test_no_key_breaks_anything_in_any_state_of_a_large_terminal(
    state: str, first: tuple[str, ...]
) -> None:
    app = dashboard(CannedOperations(STATES[state], 2))
    async with app.run_test(size=(160, 48)) as pilot:
        await settled(pilot)
        for key in KEYS.split():
            await pilot.press(*first)
            await pilot.press({"[": "left_square_bracket", "]": "right_square_bracket"}.get(key, key))
            await pilot.pause()
            await pilot.press("escape")
            app.action_view("overview")
            await settled(pilot)
            assert app.is_running
    assert app._exception is None


async def test_a_small_terminal_keeps_alerts_rows_letters_and_events() -> None:
    app = dashboard(busy())
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        region = app.screen.region
        assert not app.screen.query_one("#charts-section").display
        for widget in (QueueTable, GroupList):
            assert region.contains_region(app.screen.query_one(widget).region)
        assert app.screen.query_one("#events-section").region.height >= 3
        assert app.screen.query_one("#events").size.height == len(EVENTS)
        assert "color-extraction" in shown(app, "#verdict")


@pytest.mark.parametrize("size", [(120, 36), (160, 48), (200, 60)])
async def test_a_large_terminal_has_four_charts(size: tuple[int, int]) -> None:
    app = dashboard(busy())
    async with app.run_test(size=size) as pilot:
        await settled(pilot)
        grid = app.screen.query_one(ChartGrid)
        assert all(queue.name in str(grid.render()) for queue in BUSY.queues)
        assert app.screen.query_one("#list-title", Rule).region.bottom < size[1]


@pytest.mark.slow
async def test_resizing_keeps_everything_in_place() -> None:
    app = dashboard(busy())
    async with app.run_test(size=(200, 60)) as pilot:
        await settled(pilot)
        for size in ((80, 24), (60, 16), (50, 10), (160, 48)):
            await pilot.resize_terminal(*size)
            await settled(pilot)
        assert all(queue.name in str(app.screen.query_one(ChartGrid).render()) for queue in BUSY.queues)


@pytest.mark.slow
async def test_a_lists_alerts_above_every_view() -> None:
    app = dashboard(busy())
    async with app.run_test(size=SIZE) as pilot:
        await settled(pilot)
        for view in "125":
            await pilot.press(view)
            await settled(pilot)
            await pilot.press("a")
            await until(pilot, lambda: isinstance(app.screen, AlertsDialog))
            await pilot.press("escape")


@pytest.mark.slow
@pytest.mark.parametrize("size", [(50, 10), (160, 12)])
async def test_the_focus_comes_back_once_the_terminal_is_large_enough(size: tuple[int, int]) -> None:
    app = dashboard(busy())
    async with app.run_test(size=SIZE) as pilot:
        await settled(pilot)
        await pilot.press("down")
        for smaller in (size, (40, 8)):
            await pilot.resize_terminal(*smaller)
            await settled(pilot)
        await pilot.resize_terminal(*SIZE)
        await settled(pilot)
        assert isinstance(app.focused, QueueTable)
        assert app.focused.cursor == 1
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, QueueScreen))


HEADED = {
    "#letters-section": "#list-title",
    "#events-section": "#events-title",
    "#charts-section": "#charts-title",
}


def visible_lines(app: Dashboard, widget: Any) -> int:
    return int(app.screen.region.intersection(widget.region).height) if widget.display else 0


@pytest.mark.slow
@pytest.mark.parametrize("width", [60, 80, 100, 109, 110, 120, 160])
async def test_no_heading_is_without_a_row_and_nothing_overlaps(width: int) -> None:
    app = dashboard(busy())
    async with app.run_test(size=(width, 24)) as pilot:
        await settled(pilot)
        await until(
            pilot, lambda: app.screen.query_one(GroupList).rows and app.screen.query_one("#events").rows
        )
        for height in (16, 17, 18, 19, 20, 24, 28, 29, 30, 31, 32, 34, 36, 40, 48):
            await pilot.resize_terminal(width, height)
            await settled(pilot)
            for section, heading in HEADED.items():
                box, title = app.screen.query_one(section), app.screen.query_one(heading)
                if not box.display:
                    continue
                assert visible_lines(app, title) == 1, (width, height, heading)
                assert box.region.bottom > title.region.bottom, (width, height, heading)
                assert app.screen.region.contains_region(box.region), (width, height, section)
            parts = [
                app.screen.query_one(name).region
                for name in ("#queues", "#charts-section", "#lists", "KeyBar")
            ]
            parts = [part for part in parts if part.height]
            assert all(upper.bottom <= lower.y for upper, lower in pairwise(parts)), (width, height, parts)
            assert app.screen.query_one("#letters-section").display, (width, height)
            assert app.screen.query_one("#events-section").display is (width >= 110 or height >= 18), (
                width,
                height,
            )
