"""Every key of the dashboard, and what it makes happen."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
from structlog.testing import capture_logs
from textual.events import Event, Key
from textual.pilot import Pilot
from textual.widgets import Input, Static, TextArea

import tui.app
from tests.support.fake_busy import BUSY, busy
from tests.support.fake_operations import AWAY, BREACHED, DRAINING, HEALTHY, IDLE, CannedOperations, letter
from tui.app import Dashboard
from tui.dialogs.confirm import Confirm
from tui.dialogs.help import Help
from tui.dialogs.prompt import Prompt
from tui.screens.dead_letters.letter import LetterScreen
from tui.screens.dead_letters.list import DeadLettersScreen
from tui.screens.overview import OverviewScreen
from tui.screens.queues.queue import QueueScreen
from tui.theme import ANSI, CONTRAST, LIGHT
from tui.widgets.key_bar import KeyBar
from tui.widgets.letter_table import LetterTable
from tui.widgets.queue_table import QueueTable
from tui.widgets.rule import Rule
from workers.errors import ConflictError
from workers.monitoring.snapshot import Snapshot
from workers.operations.operations import Operations

SIZES = {"80x24": (80, 24), "120x36": (120, 36), "160x48": (160, 48), "200x60": (200, 60)}
MIDDLE = pytest.param("120x36", marks=pytest.mark.slow)  # what fits both others fits it
MOMENTS = {
    "healthy": HEALTHY,
    "idle": IDLE,
    "breached": BREACHED,
    "busy": BUSY,
    "away": AWAY,
    "draining": DRAINING,
}
_QUICK = {*((name, "80x24") for name in MOMENTS), ("busy", "160x48")}
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
SCREENS = {
    "letters": ("2", "g"),
    "letter": ("2", "g", "enter"),
    "help": ("question_mark",),
    "pause": ("p",),
    "drain": ("D",),
}


def dashboard(operations: CannedOperations) -> Dashboard:
    return Dashboard(cast(Operations, operations))


async def until(pilot: Pilot[Any], condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await pilot.pause(0.01)


def words(app: Dashboard) -> str:
    """What stands on the header, the verdict and the banner."""
    return " ".join(
        str(app.screen.query_one(name, Static).render()) for name in ("#header", "#verdict", "#banner")
    )


def text_of(app: Dashboard) -> str:
    """All text on the screen."""
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


def title(app: Dashboard) -> str:
    """What stands above the letters."""
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


async def test_a_letter_is_opened_and_replayed_after_a_question() -> None:
    operations = CannedOperations(HEALTHY)
    app = dashboard(operations)
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(app.screen, LetterScreen))
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, LetterScreen))
        assert operations.done == []
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: operations.done)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, DeadLettersScreen))
    assert operations.done == [("replay", 2)]


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


async def test_2_lists_all_letters_by_page_and_1_goes_back() -> None:
    app = dashboard(CannedOperations(HEALTHY, letters=230))
    async with app.run_test(size=(120, 36)) as pilot:
        table = await letters_view(app, pilot)
        await pilot.press("n")
        await until(pilot, lambda: table.items[0].id == 101)
        await pilot.press("n")
        await until(pilot, lambda: table.items[0].id == 201)
        assert len(table.items) == 30
        await pilot.press("b")
        await until(pilot, lambda: table.items[0].id == 101)
        await pilot.press("1")
        await until(pilot, lambda: isinstance(app.screen, OverviewScreen))


async def test_two_quick_presses_of_n_are_one_page() -> None:
    operations = CannedOperations(HEALTHY, letters=430)
    app = dashboard(operations)
    async with app.run_test(size=(120, 36)) as pilot:
        table = await letters_view(app, pilot)
        operations.letters.door.clear()
        await pilot.press("n", "n", "n")
        assert "page 1" in title(app)
        operations.letters.door.set()
        await until(pilot, lambda: table.items[0].id == 101)
        assert "page 2" in title(app)
        assert operations.letters.read[-2:] == [None, "100"]
        await pilot.press("b")
        await until(pilot, lambda: table.items[0].id == 1)
        assert "page 1" in title(app)


async def test_the_shown_page_stays_if_another_cannot_be_fetched() -> None:
    operations = CannedOperations(HEALTHY, letters=230)
    app = dashboard(operations)
    async with app.run_test(size=(120, 36)) as pilot:
        table = await letters_view(app, pilot)
        await pilot.press("n")
        await until(pilot, lambda: table.items[0].id == 101)
        operations.error = ConflictError("away")
        for key in ("n", "b", "r"):
            app.clear_notifications()
            await pilot.press(key)
            await until(pilot, lambda: app._notifications)
            assert (table.items[0].id, "page 2" in title(app)) == (101, True)
        operations.error = None
        await pilot.press("n")
        await until(pilot, lambda: table.items[0].id == 201)
        assert "page 3" in title(app)
        await pilot.press("n")
        assert "page 3" in title(app)


async def test_a_replayed_letter_leaves_the_list_and_the_total() -> None:
    app = dashboard(CannedOperations(HEALTHY, letters=3))
    async with app.run_test(size=(120, 36)) as pilot:
        table = await letters_view(app, pilot)
        await pilot.press("down", "R")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: [letter.id for letter in table.items] == [1, 3])
        await until(pilot, lambda: "Dead letters · 2 letters ·" in title(app))
        assert table.selected is not None
        assert table.selected.id == 3


async def test_a_letter_replayed_from_its_detail_is_gone_when_the_list_is_shown_again() -> None:
    app = dashboard(CannedOperations(HEALTHY, letters=3))
    async with app.run_test(size=(120, 36)) as pilot:
        table = await letters_view(app, pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, LetterScreen))
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: isinstance(app.screen, LetterScreen))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, DeadLettersScreen))
        await until(pilot, lambda: [letter.id for letter in table.items] == [2, 3])
        await until(pilot, lambda: "Dead letters · 2" in title(app))


async def test_the_page_before_replaces_a_page_whose_letters_were_all_replayed() -> None:
    operations = CannedOperations(HEALTHY, letters=101)
    app = dashboard(operations)
    async with app.run_test(size=(120, 36)) as pilot:
        table = await letters_view(app, pilot)
        await pilot.press("n")
        await until(pilot, lambda: table.items[0].id == 101)
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: len(table.items) == 100)
        assert "page 1" in title(app)


async def test_a_job_key_of_thousands_of_characters_keeps_the_buttons_visible() -> None:
    operations = CannedOperations(HEALTHY)
    operations.letters.kept = [letter(1, job_id="k" * 3_000)]
    app = dashboard(operations)
    async with app.run_test(size=(80, 24)) as pilot:
        await letters_view(app, pilot)
        await pilot.press("R")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.pause()
        assert app.screen.region.contains_region(app.screen.query_one("#yes").region)
        assert await pilot.click("#yes")
        await until(pilot, lambda: operations.done)


async def test_letters_are_not_called_none_while_the_database_is_down() -> None:
    app = dashboard(CannedOperations(AWAY))
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert "not read yet" in str(app.screen.query_one("#list-empty", Static).render())


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
async def test_the_footer_has_whole_keys_and_always_the_help(width: int) -> None:
    app = dashboard(CannedOperations(HEALTHY))
    async with app.run_test(size=(width, 30)) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        await pilot.pause()
        footer = str(app.screen.query_one(KeyBar).render()).split("  ")
        keys = [part.strip() for part in footer if part.strip()]
        named = {active.binding.description for active in app.screen.active_bindings.values()}
        assert all(key.split(" ", 1)[1] in named for key in keys), keys
        assert "? Help" in keys
        assert ("q Quit" in keys) is (width == 160)
        await pilot.click(KeyBar, offset=(str(app.screen.query_one(KeyBar).render()).index("? Help"), 0))
        await until(pilot, lambda: isinstance(app.screen, Help))


async def test_old_figures_tell_their_age() -> None:
    operations = CannedOperations(HEALTHY)
    app = dashboard(operations)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        operations.error = ConflictError("no answer")
        app.session.refresh()
        await until(pilot, lambda: app.session.snapshot_error)
        await until(pilot, lambda: re.search(r"these figures are \d.* old: ConflictError", words(app)))
        assert app.screen.has_class("-old")


async def test_an_action_that_has_not_ended_is_named_when_another_one_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tui.screens.base._SLOW_SECONDS", 0.0)
    operations = CannedOperations(BREACHED)
    door = asyncio.Event()

    async def hang(queue: str) -> bool:
        return await door.wait()

    operations.resume = hang  # type: ignore[method-assign]
    app = dashboard(operations)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        await pilot.press("down", "down", "down", "p", "p")
        await until(pilot, lambda: app._notifications)
        assert [note.message for note in app._notifications] == ["the action before has not ended yet"]
        door.set()


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


@pytest.mark.parametrize(
    ("name", "size"),
    [
        pytest.param(
            name,
            size,
            marks=() if (name, size) in _QUICK else pytest.mark.slow,
        )
        for name in MOMENTS
        for size in SIZES
    ],
)
def test_overview(snap_compare: Any, name: str, size: str) -> None:
    moment = MOMENTS[name]
    operations = busy() if name == "busy" else CannedOperations(moment, moment.dead_letters or 0)
    assert snap_compare(dashboard(operations), terminal_size=SIZES[size], run_before=settled)


@pytest.mark.parametrize("theme", [LIGHT, CONTRAST, ANSI])
def test_overview_in_each_theme(snap_compare: Any, theme: str) -> None:
    async def change(pilot: Pilot[Any]) -> None:
        await settled(pilot)
        pilot.app.theme = theme
        await settled(pilot)

    assert snap_compare(dashboard(busy()), terminal_size=SIZES["80x24"], run_before=change)


def test_overview_without_colours(snap_compare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert snap_compare(dashboard(busy()), terminal_size=SIZES["80x24"], run_before=settled)


@pytest.mark.parametrize("size", ["80x24", "160x48", MIDDLE])
def test_queue_page(snap_compare: Any, size: str) -> None:
    async def open_it(pilot: Pilot[Any]) -> None:
        await settled(pilot)
        await pilot.press("down", "down", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, QueueScreen))
        await settled(pilot)

    assert snap_compare(dashboard(busy()), terminal_size=SIZES[size], run_before=open_it)


@pytest.mark.parametrize("size", ["80x24", MIDDLE])
@pytest.mark.parametrize("name", SCREENS)
def test_screens(snap_compare: Any, name: str, size: str) -> None:
    async def open_it(pilot: Pilot[Any]) -> None:
        await settled(pilot)
        await pilot.press(*SCREENS[name])
        await pilot.pause(0.1)
        await settled(pilot)

    app = dashboard(CannedOperations(HEALTHY))
    assert snap_compare(app, terminal_size=SIZES[size], run_before=open_it)


def test_a_terminal_that_is_too_small_says_so(snap_compare: Any) -> None:
    assert snap_compare(dashboard(CannedOperations(HEALTHY)), terminal_size=(50, 12), run_before=settled)


async def messages_handled(pilot: Pilot[Any]) -> None:
    """No widget has a message left, three times in a row.

    Textual's own pause ends when the process uses no CPU; on a busy machine it may only have got none.
    """
    quiet = 0
    async with asyncio.timeout(30):
        while quiet < 3:
            app = pilot.app
            pumps = (app, *app.screen_stack, *app.screen.walk_children())
            is_busy = any(pump.message_queue_size or pump._next_callbacks for pump in pumps)
            quiet = 0 if is_busy else quiet + 1
            await asyncio.sleep(0.02)


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
