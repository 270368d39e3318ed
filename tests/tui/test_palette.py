"""The palette has what can be done here, and jump mode goes to each part of the screen."""

from __future__ import annotations

from typing import Any, cast

import pytest
from textual.command import CommandPalette
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Input

from tests.support.dashboards import until
from tests.support.fake_moments import NASTY
from tests.support.fake_operations import CannedOperations
from tests.support.fake_states import full
from tests.support.letters_view import says, write
from tui.app import Dashboard
from tui.dialogs.confirm import Confirm
from tui.dialogs.enqueue import EnqueueDialog
from tui.dialogs.prompt import Prompt
from tui.dialogs.replay_options import ReplayDialog
from tui.keymap import is_listed
from tui.palette import commands
from tui.screens.cache.list import CacheScreen
from tui.screens.dead_letters.list import DeadLettersScreen
from tui.screens.jobs.list import JobsScreen
from tui.screens.overview import OverviewScreen
from tui.screens.queues.queue import QueueScreen
from tui.screens.workers.list import WorkersScreen
from tui.theme import LIGHT
from tui.widgets.event_list import EventList
from tui.widgets.group_list import GroupList
from tui.widgets.job_table import JobTable
from tui.widgets.jump import JumpDialog
from workers.operations.operations import Operations

SIZE = (120, 36)


def names(app: Dashboard) -> list[str]:
    return [command.name for command in commands(app, app.screen)]


def notes(app: Dashboard) -> str:
    return "\n".join(note.message for note in app._notifications)


async def jobs_view(app: Dashboard, pilot: Pilot[Any]) -> None:
    """The third view, with its first page."""
    await pilot.press("3")
    await until(pilot, lambda: isinstance(app.screen, JobsScreen))
    await until(pilot, lambda: app.screen.query_one(JobTable).items)


async def run(app: Dashboard, pilot: Pilot[Any], name: str) -> None:
    """Open the palette, write a command, and choose the first one that is found."""
    await pilot.press("colon")
    await until(pilot, lambda: CommandPalette.is_open(app))
    app.screen.query_one(Input).value = name
    palette = cast(CommandPalette, app.screen)
    await until(pilot, lambda: palette._list_visible and palette._hit_count == 1)
    await pilot.press("down", "enter")
    await until(pilot, lambda: not CommandPalette.is_open(app))


@pytest.mark.parametrize("key", ["colon", "ctrl+p"])
async def test_both_keys_open_the_palette(key: str) -> None:
    app = Dashboard(cast(Operations, full()))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        await pilot.press(key)
        await until(pilot, lambda: CommandPalette.is_open(app))


@pytest.mark.slow
async def test_the_palette_names_the_row_each_queue_view_worker_and_theme() -> None:
    operations = full()
    app = Dashboard(cast(Operations, operations))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        await pilot.press("down")
        found = names(app)
        for name in (
            "Open alert-fanout",
            "Open queue color-extraction",
            "Pause color-extraction",
            "Resume moderation-review",
            "Go to Dead letters",
            "Drain worker box-1:991",
            "Undo the drain of box-2:992",
            "Archive old dead letters",
            "Replay dead letters",
            "Export dead letters",
            "Replay plans",
            "Enqueue in color-extraction",
            "Evict cache entries",
            "Evict a user",
            "Drain every process",
            f"Theme {LIGHT}",
            "Help",
            "Alerts",
        ):
            assert name in found, name
        assert len(found) == len(set(found))
        shown = {active.binding.id for active in app.screen.active_bindings.values() if is_listed(active)}
        assert {"app.freeze", "queues.figure", "app.drain"} <= shown
        await jobs_view(app, pilot)
        assert "Abort dress-17" in names(app)
        await pilot.press("space", "space")
        assert "Abort 2 marked rows" in names(app)


@pytest.mark.slow
async def test_commands_of_the_palette_do_what_the_keys_do() -> None:
    operations = full()
    app = Dashboard(cast(Operations, operations))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        await jobs_view(app, pilot)
        await run(app, pilot, "Abort dress")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("n")
        await run(app, pilot, "Pause color")
        await until(pilot, lambda: isinstance(app.screen, Prompt))
        assert isinstance(app.screen_stack[0], OverviewScreen)
        await pilot.press("escape")
        await run(app, pilot, "Drain worker box-1:")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        assert isinstance(app.screen_stack[0], WorkersScreen)
        await pilot.press("y")
        await until(pilot, lambda: operations.done)
        await run(app, pilot, f"Theme {LIGHT}")
        await until(pilot, lambda: app.theme == LIGHT)
    assert operations.done[0][0] == "drain worker"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "view", "dialog"),
    [
        ("Enqueue in color", JobsScreen, EnqueueDialog),
        ("Replay dead", DeadLettersScreen, ReplayDialog),
        ("Export dead", DeadLettersScreen, Prompt),
        ("Evict cache", CacheScreen, Confirm),
        ("Evict a user", CacheScreen, Prompt),
    ],
)
async def test_actions_of_other_views_begin_there(
    name: str, view: type[Screen[Any]], dialog: type[Screen[Any]]
) -> None:
    operations = full()
    app = Dashboard(cast(Operations, operations))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        await run(app, pilot, name)
        await until(pilot, lambda: isinstance(app.screen, dialog))
        assert isinstance(app.screen_stack[0], view)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, view))
    assert operations.done == []


@pytest.mark.slow
async def test_old_dead_letters_are_archived_after_their_number_was_shown() -> None:
    operations = full()
    app = Dashboard(cast(Operations, operations))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        number = len(operations.letters.kept)
        await run(app, pilot, "Archive old")
        await until(pilot, lambda: isinstance(app.screen, Prompt))
        assert isinstance(app.screen_stack[0], DeadLettersScreen)
        await write(pilot, "some")
        await until(pilot, lambda: "use a whole number of days, up to 36,500" in says(app))
        await write(pilot, "30")
        await until(pilot, lambda: "there is no letter older than 30 days" in notes(app))
        await run(app, pilot, "Archive old")
        await until(pilot, lambda: isinstance(app.screen, Prompt))
        await write(pilot, "0")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        assert f"Archive {number} letters?" in says(app)
        assert operations.done == []
        await pilot.press("y")
        await until(pilot, lambda: f"{number} letters archived" in notes(app))
    assert operations.done == [("archive", 0)]


@pytest.mark.slow
async def test_every_process_is_drained_after_one_question_and_what_does_not_confirm_is_named() -> None:
    operations = full()
    operations.workers.problem = "it is not connected to Redis"
    app = Dashboard(cast(Operations, operations))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        living = [worker for worker in operations.now.workers if worker.state != "dead"]
        jobs = sum(worker.in_flight for worker in living)
        await run(app, pilot, "Drain every")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        assert isinstance(app.screen_stack[0], WorkersScreen)
        assert f"Drain {len(living)} processes? {jobs} jobs in flight" in says(app)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, WorkersScreen))
        assert operations.done == []
        await run(app, pilot, "Drain every")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: "the drain of 2 processes was requested" in notes(app))
        assert "it is not connected to Redis" in notes(app)
    assert operations.done == [("drain all workers",)]


async def test_names_from_jobs_are_shown_literally_in_the_palette() -> None:
    operations = full()
    operations.cache.kept = [operations.cache.kept[0].__class__(f"foreign {NASTY}", "fresh", 1.0, 2.0, 3)]
    app = Dashboard(cast(Operations, operations))
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        await pilot.press("5")
        await until(pilot, lambda: any(name.startswith("Evict foreign") for name in names(app)))
        await run(app, pilot, "Evict foreign")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        name = next(name for name in names_below(app) if name.startswith("Evict foreign"))
        assert "\x1b" not in name


def names_below(app: Dashboard) -> list[str]:
    return [command.name for command in commands(app, app.screen_stack[0])]


@pytest.mark.slow
async def test_a_letter_goes_to_each_part_of_the_screen() -> None:
    app = Dashboard(cast(Operations, full()))
    async with app.run_test(size=(160, 48)) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        await until(pilot, lambda: app.screen.query_one(EventList).rows)
        await until(pilot, lambda: app.screen.query_one(GroupList).rows)
        await pilot.pause()
        reached = set()
        for index in range(3):
            await pilot.press("J")
            await until(pilot, lambda: isinstance(app.screen, JumpDialog))
            letters = list(cast(JumpDialog, app.screen).targets)
            assert len(letters) == 6 + 3
            await pilot.press(letters[6 + index])
            await until(pilot, lambda: isinstance(app.screen, OverviewScreen))
            await pilot.pause()
            reached.add(app.focused.id if app.focused is not None else None)
        assert reached == {"queues", "groups", "events"}
        await pilot.press("ctrl+o")
        await until(pilot, lambda: isinstance(app.screen, JumpDialog))
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, JobsScreen))


async def test_enter_opens_what_an_event_on_the_overview_is_about() -> None:
    operations: CannedOperations = full()
    app = Dashboard(cast(Operations, operations))
    async with app.run_test(size=(160, 48)) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        events = app.screen.query_one(EventList)
        await until(pilot, lambda: events.rows)
        events.focus()
        events.cursor = [row.item.kind for row in events.rows].index("queue-paused")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, QueueScreen))
