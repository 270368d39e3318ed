"""Every key of the dashboard, and what it makes happen."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
from structlog.testing import capture_logs
from textual.events import Event, Key
from textual.widgets import Input, Static

import tui.app
from tests.support.dashboards import (
    dashboard,
    letters_view,
    text_of,
    until,
    words,
)
from tests.support.fake_moments import BREACHED, DRAINING, HEALTHY
from tests.support.fake_operations import CannedOperations
from tui.app import Dashboard
from tui.dialogs.confirm import Confirm
from tui.dialogs.help import Help
from tui.dialogs.prompt import Prompt
from tui.screens.overview import OverviewScreen
from tui.widgets.key_bar import KeyBar
from tui.widgets.queue_table import QueueTable
from tui.widgets.rule import Rule
from workers.errors import ConflictError
from workers.monitoring.snapshot import Snapshot
from workers.operations.operations import Operations


async def test_p_pauses_the_queue_under_the_cursor_with_a_reason() -> None:
    operations = CannedOperations(HEALTHY)
    app = dashboard(operations)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        await pilot.press("down", "down", "p")
        await until(pilot, lambda: isinstance(app.screen, Prompt))
        app.screen.query_one(Input).value = "model rollout"
        await pilot.press("enter")
        await until(pilot, lambda: operations.done)
    assert operations.done == [("pause", "color-extraction", "model rollout")]


async def test_a_defect_is_logged_and_the_dashboard_goes_on() -> None:
    class Broken(CannedOperations):
        async def snapshot(self) -> Snapshot:
            raise AssertionError("a defect")

    app = dashboard(Broken(HEALTHY))
    with capture_logs() as lines:
        running = asyncio.create_task(app.run_async(headless=True))
        async with asyncio.timeout(30):
            while len(lines) < 2:  # noqa: ASYNC110 - the second snapshot comes after the first one failed
                await asyncio.sleep(0.05)
        assert app.is_running
        assert [str(line["exc_info"]) for line in lines[:2]] == ["a defect", "a defect"]
        app.exit(0)
        await running
    assert not app.failed


async def test_a_tick_of_the_timer_while_the_screens_are_removed_does_nothing() -> None:
    app = dashboard(CannedOperations(HEALTHY))
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.session.snapshot)
    app._on_timer()


async def test_a_flood_of_input_leaves_turns_of_the_event_loop_to_the_workers() -> None:
    turns = 0
    turns_at: list[int] = []

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    class Counting(Dashboard):
        CSS_PATH: ClassVar[Any] = [*Path(tui.app.__file__).with_name("styles").glob("*.tcss")]

        async def on_event(self, event: Event) -> None:
            if isinstance(event, Key):
                turns_at.append(turns)
            else:
                await super().on_event(event)

    app = Counting(cast(Operations, CannedOperations(HEALTHY)))
    async with app.run_test() as pilot:
        counting = asyncio.create_task(count_turns())
        for _ in range(100):
            app.post_message(Key("z", "z"))
        await until(pilot, lambda: len(turns_at) == 100)
        counting.cancel()
    assert turns_at[-1] - turns_at[0] >= 99


@pytest.mark.slow
async def test_endless_defects_close_the_dashboard() -> None:
    class Broken(Dashboard):
        CSS_PATH: ClassVar[Any] = [*Path(tui.app.__file__).with_name("styles").glob("*.tcss")]

        def on_mount(self) -> None:
            self.set_interval(0.01, self.fail)

        def fail(self) -> None:
            raise AssertionError("a defect")

    app = Broken(cast(Operations, CannedOperations(HEALTHY)))
    with capture_logs() as lines:
        async with asyncio.timeout(30):
            await app.run_async(headless=True)
    assert app.failed
    assert app.return_code == 1
    assert len(lines) >= 20


@pytest.mark.slow
async def test_escape_leaves_the_queue_alone_and_p_resumes_a_paused_one() -> None:
    operations = CannedOperations(BREACHED)
    app = dashboard(operations)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        await pilot.press("p")
        await until(pilot, lambda: isinstance(app.screen, Prompt))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, OverviewScreen))
        await pilot.press("down", "down", "down", "p")
        await until(pilot, lambda: operations.done)
    assert operations.done == [("resume", "moderation-review")]


@pytest.mark.slow
async def test_a_failed_operation_shows_its_error() -> None:
    operations = CannedOperations(HEALTHY)
    app = dashboard(operations)
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        operations.error = ConflictError("a job with the key [b]x[/b] is queued already")
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: app._notifications)
        assert {note.message for note in app._notifications} == {str(operations.error)}
        app.session.refresh()
        await until(pilot, lambda: app.session.snapshot_error)
        assert "ConflictError" in words(app)
        operations.error = None
        app.session.refresh()
        await until(pilot, lambda: app.session.snapshot_error is None)


async def test_m_switches_the_metric() -> None:
    app = dashboard(CannedOperations(HEALTHY))
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        title = app.screen.query_one("#charts-title", Rule)
        await until(pilot, lambda: "Depth, last hour" in str(title.render()))
        await pilot.press("m")
        await until(pilot, lambda: "In flight, last hour" in str(title.render()))


async def test_D_drains_after_a_question_about_the_consequence() -> None:
    operations = CannedOperations(HEALTHY)
    app = dashboard(operations)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        await pilot.press("D")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        shown = " ".join(str(widget.render()) for widget in app.screen.query(Static))
        assert "deletes nothing" in shown
        await pilot.press("y")
        await until(pilot, lambda: operations.done == [("drain", False)])
        operations.now = DRAINING
        app.session.refresh()
        await until(pilot, lambda: "22 s left" in words(app))
        await pilot.press("exclamation_mark")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: operations.done[-1] == ("drain", True))
        app.on_drained()
        await until(pilot, lambda: not app.is_running)


async def test_q_drains_an_idle_process_at_once() -> None:
    operations = CannedOperations(HEALTHY)
    operations.in_flight = 0
    app = dashboard(operations)
    async with app.run_test() as pilot:
        await pilot.press("q")
        await until(pilot, lambda: operations.done == [("drain", False)])


async def test_q_quits_at_once_without_workers() -> None:
    operations = CannedOperations(HEALTHY)
    operations.has_workers = False
    app = dashboard(operations)
    async with app.run_test() as pilot:
        await pilot.press("q")
    assert app.return_value == 0
    assert operations.done == []


async def test_help_lists_the_keys_that_work_here() -> None:
    app = dashboard(CannedOperations(HEALTHY))
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, Help))
        await pilot.pause()
        shown = text_of(app)
        for word in ("Pause", "Drain", "Dead letters", "Show all of the queue under the cursor."):
            assert word in shown
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, OverviewScreen))


@pytest.mark.parametrize("width", [60, 80, 160])
async def test_the_footer_has_whole_keys_and_always_help_and_quit(width: int) -> None:
    app = dashboard(CannedOperations(HEALTHY))
    async with app.run_test(size=(width, 30)) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        await pilot.pause()
        whole = str(app.screen.query_one(KeyBar).render())
        assert len(whole) <= width
        footer = whole.split("  ")
        keys = [part.strip() for part in footer if part.strip()]
        named = {active.binding.description for active in app.screen.active_bindings.values()}
        assert all(key.split(" ", 1)[1] in named for key in keys), keys
        assert "? Help" in keys
        assert "q Quit" in keys
        await pilot.click(KeyBar, offset=(str(app.screen.query_one(KeyBar).render()).index("? Help"), 0))
        await until(pilot, lambda: isinstance(app.screen, Help))


async def test_old_figures_show_their_age() -> None:
    operations = CannedOperations(HEALTHY)
    app = dashboard(operations)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        operations.error = ConflictError("no answer")
        app.session.refresh()
        await until(pilot, lambda: app.session.snapshot_error)
        await until(pilot, lambda: re.search(r"these figures are \d.* old: ConflictError", words(app)))
        assert app.screen.has_class("-old")


@pytest.mark.slow
async def test_a_silent_redis_is_named_and_the_age_of_the_figures_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tui.session._SNAPSHOT_TIMEOUT_SECONDS", 0.05)
    operations = CannedOperations(HEALTHY)
    door = asyncio.Event()
    door.set()
    real = operations.snapshot

    async def hang() -> Snapshot:
        await door.wait()
        return await real()

    operations.snapshot = hang  # type: ignore[method-assign]
    app = dashboard(operations)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        assert "✔ all well" in words(app)
        door.clear()
        app.session.refresh()
        await until(pilot, lambda: "Redis has not answered since 14:32:07" in words(app))
        assert "redis ▲ down" in words(app)
        assert "well" not in str(app.screen.query_one("#banner", Static).render())
        assert app.screen.has_class("-old")
        assert any("Redis does not answer" in note.message for note in app._notifications)
        monkeypatch.setattr("tui.session._SNAPSHOT_TIMEOUT_SECONDS", 60)
        app.session.refresh()  # it is under way for all that follows
        for seconds in (3, 4, 5):
            app.session._snapshot_at = time.monotonic() - seconds
            app._on_timer()
            await until(pilot, lambda seconds=seconds: f"figures are {seconds} s old" in words(app))
        door.set()
        await until(pilot, lambda: "✔ all well" in words(app))
        assert not app.screen.has_class("-old")


async def test_the_first_snapshot_that_is_missing_names_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.session._SNAPSHOT_TIMEOUT_SECONDS", 0.05)
    operations = CannedOperations(HEALTHY)

    async def hang() -> Snapshot:
        await asyncio.Event().wait()
        raise AssertionError

    operations.snapshot = hang  # type: ignore[method-assign]
    app = dashboard(operations)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: "Redis does not answer" in words(app))


async def test_a_frozen_screen_shows_its_age_and_a_new_worst_alert() -> None:
    operations = CannedOperations(HEALTHY)
    app = dashboard(operations)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        await pilot.press("space")
        await until(pilot, lambda: "frozen at" in words(app))
        rows = str(app.screen.query_one(QueueTable).render())
        operations.now = replace(BREACHED, taken_at=HEALTHY.taken_at + 22)
        app._next_snapshot = 0.0
        app._on_timer()
        await until(pilot, lambda: "frozen at 2026-03-01 14:32:07, 22 s ago: space goes on" in words(app))
        assert "▲ moderation-review  7.1 % of attempts failed" in words(app)
        assert any("moderation-review: 7.1 %" in note.message for note in app._notifications)
        assert str(app.screen.query_one(QueueTable).render()) == rows
        await pilot.press("space")
        await until(pilot, lambda: str(app.screen.query_one(QueueTable).render()) != rows)


async def test_an_action_under_way_is_named_when_another_one_is_requested(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tui.screens.base._SLOW_SECONDS", 0.0)
    operations = CannedOperations(BREACHED)
    door = asyncio.Event()

    async def hang(queue: str) -> bool:
        return await door.wait()

    operations.queues.resume = hang  # type: ignore[method-assign]
    app = dashboard(operations)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        await pilot.press("down", "down", "down", "p", "p")
        await until(pilot, lambda: app._notifications)
        assert [note.message for note in app._notifications] == ["the action before has not ended yet"]
        door.set()


@pytest.mark.slow
async def test_what_was_frozen_goes_on_with_another_view() -> None:
    app = dashboard(CannedOperations(HEALTHY))
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        await pilot.press("4", "space")
        await until(pilot, lambda: "14:32:07: space goes on" in words(app))
        await pilot.press("space")
        await until(pilot, lambda: "frozen" not in words(app))
        await pilot.press("space", "1")
        await until(pilot, lambda: isinstance(app.screen, OverviewScreen) and not app.session.frozen)


async def test_a_click_selects_a_queue() -> None:
    app = dashboard(CannedOperations(BREACHED))
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        await pilot.click(QueueTable, offset=(10, 3))
        assert app.screen.query_one(QueueTable).cursor == 2


async def test_slow_snapshots_do_not_pile_up() -> None:
    operations = CannedOperations(HEALTHY)
    calls, release = 0, asyncio.Event()
    real = operations.snapshot

    async def slow() -> Any:
        nonlocal calls
        calls += 1
        await release.wait()
        return await real()

    operations.snapshot = slow  # type: ignore[method-assign]
    app = dashboard(operations)
    async with app.run_test() as pilot:
        for _ in range(5):
            app.session.refresh()
            await pilot.pause()
        assert calls == 1
        release.set()
        await until(pilot, lambda: app.session.snapshot)


@pytest.mark.slow
async def test_an_economical_dashboard_takes_snapshots_rarely_on_r_and_while_draining() -> None:
    operations = CannedOperations(HEALTHY)
    app = Dashboard(cast(Operations, operations), interval=60)
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause(2.5)
        assert operations.snapshots == 1
        assert any("every 60 s" in note.message for note in app._notifications)
        await pilot.press("r")
        await until(pilot, lambda: operations.snapshots == 2)
        operations.draining = True
        await until(pilot, lambda: operations.snapshots > 3)
