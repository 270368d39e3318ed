"""The view of events: pages, filter, what enter opens, and the panel of a drain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Input

from storage.database.events import EVENT_KINDS
from storage.errors import DatabaseUnavailableError, InvalidFilterError
from tests.support.dashboards import dashboard, notices, text_of, until
from tests.support.fake_letters import plan
from tests.support.fake_moments import HEALTHY, NASTY
from tests.support.fake_operations import CannedOperations
from tests.support.fake_signals import event
from tests.support.fake_workers import DEAD, DRAINING, RUNNING
from tui.app import Dashboard
from tui.dialogs.alerts import AlertsDialog
from tui.dialogs.confirm import Confirm
from tui.dialogs.plan import PlanDialog
from tui.screens.cache.list import CacheScreen
from tui.screens.dead_letters.letter import LetterScreen
from tui.screens.dead_letters.list import DeadLettersScreen
from tui.screens.events import list as module
from tui.screens.events.list import EventsScreen
from tui.screens.queues.queue import QueueScreen
from tui.screens.workers.list import WorkersScreen
from tui.screens.workers.worker import WorkerScreen
from tui.widgets.event_table import EventTable
from workers.operations.event_filters import filter_text, parse_filter
from workers.operations.operations import Event, EventFilter

QUEUE = "color-extraction"
KEPT = [
    event(0, "worker-draining", "ops drains worker 2f0c2d9e (box-2, pid 992)", subject=DRAINING.id),
    event(1, "alert-fired", "Backlog: 132 queued, limit 100", queue="weather-ingestion"),
    event(12, "queue-paused", f"ops paused {QUEUE}: {NASTY}", queue=QUEUE),
    event(2_000, "new-release", "release v2 runs for the first time", subject="v2"),
]
DRAINS = replace(HEALTHY, workers=(RUNNING, DRAINING))


def canned(*events: Event, snapshot: Any = HEALTHY) -> CannedOperations:
    operations = CannedOperations(snapshot)
    operations.events.kept = list(events)
    return operations


def kinds(app: Dashboard) -> list[str]:
    return [event.kind for event in app.screen.query_one(EventTable).items]


async def opened(pilot: Pilot[Any], *keys: str) -> Dashboard:
    """The sixth view, with its first page, after some keys."""
    app = cast(Dashboard, pilot.app)
    await until(pilot, lambda: app.session.snapshot)
    await pilot.press("6")
    await until(pilot, lambda: isinstance(app.screen, EventsScreen))
    await until(pilot, lambda: cast(EventsScreen, app.screen).page is not None)
    await pilot.press(*keys)
    return app


async def test_what_happened_is_listed_newest_first_and_shown_literally() -> None:
    async with dashboard(canned(*KEPT)).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot)
        await until(pilot, lambda: "Backlog" in text_of(app))
        assert kinds(app) == [event.kind for event in KEPT]
        assert "\\x1b[31m" in text_of(app)
        assert not {"\x1b", "\x07", "\u202e"} & set(text_of(app))


async def test_the_newest_event_is_the_first_row_after_another_view() -> None:
    operations = canned(*[event(number, "queue-resumed", f"event {number}") for number in range(2, 80)])
    async with dashboard(operations).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot, "1")
        operations.events.kept.insert(0, event(1, "queue-resumed", "the newest"))
        await pilot.press("6", "r")
        await until(pilot, lambda: "the newest" in text_of(app))
        table = app.screen.query_one(EventTable)
        assert table.selected is not None
        assert table.selected.message == "the newest"


@pytest.mark.slow
async def test_tab_completes_the_kinds_and_queues_of_a_filter() -> None:
    async with dashboard(canned(*KEPT)).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot, "slash", *"kind:worker-dra", "tab")
        await until(pilot, lambda: app.screen.query_one(Input).value == "kind:worker-drained")
        await pilot.press(*" queue:col", "tab")
        await until(pilot, lambda: app.screen.query_one(Input).value.endswith(f"queue:{QUEUE}"))


OPENED: dict[str, tuple[type[Screen[Any]], dict[str, Any]]] = {
    "alert-fired": (AlertsDialog, {}),
    "alert-resolved": (AlertsDialog, {"queue": QUEUE}),
    "cache-evicted": (CacheScreen, {}),
    "jobs-enqueued": (QueueScreen, {"queue": QUEUE}),
    "keys-repaired": (QueueScreen, {"queue": QUEUE}),
    "letters-discarded": (DeadLettersScreen, {}),
    "letters-replayed": (LetterScreen, {"subject": "1"}),
    "new-group": (DeadLettersScreen, {"subject": "f" * 16, "queue": QUEUE}),
    "new-release": (WorkersScreen, {"subject": "v2"}),
    "queue-paused": (QueueScreen, {"queue": QUEUE}),
    "worker-lost": (WorkerScreen, {"subject": "gone"}),
    "worker-started": (WorkerScreen, {"subject": RUNNING.id}),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", OPENED)
async def test_enter_opens_what_the_event_is_about(kind: str) -> None:
    screen, fields = OPENED[kind]
    operations = canned(event(0, kind, "it happened", **fields), snapshot=DRAINS)
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot, "enter")
        await until(pilot, lambda: isinstance(app.screen, screen))


@pytest.mark.slow
async def test_enter_on_a_plan_opens_the_plan() -> None:
    operations = canned(event(0, "plan-halted", "plan 3 halted", subject="3"))
    operations.letters.kept_plans = [plan(3)]
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot, "enter")
        await until(pilot, lambda: isinstance(app.screen, PlanDialog))


@pytest.mark.parametrize("kind", EVENT_KINDS)
async def test_enter_on_an_event_without_a_subject_opens_something_or_says_why_not(kind: str) -> None:
    async with dashboard(canned(event(0, kind, "it happened"))).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot, "enter")
        await until(pilot, lambda: not isinstance(app.screen, EventsScreen) or "in its line" in notices(app))


@pytest.mark.slow
async def test_the_filter_selects_by_kind_and_queue_and_escape_leaves_it() -> None:
    async with dashboard(canned(*KEPT)).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot, "slash")
        app.screen.query_one(Input).value = "color"
        await pilot.press("enter")
        await until(pilot, lambda: "'color' is not a condition" in text_of(app))
        app.screen.query_one(Input).value = f"kind:queue-paused queue:{QUEUE}"
        await pilot.press("enter")
        await until(pilot, lambda: kinds(app) == ["queue-paused"])
        assert f"/ kind:queue-paused queue:{QUEUE}" in text_of(app)
        await pilot.press("escape")
        await until(pilot, lambda: len(kinds(app)) == len(KEPT))
        app.screen.query_one(EventTable)


@pytest.mark.slow
async def test_pages_follow_by_key_and_the_ends_say_so() -> None:
    many = [event(number, "jobs-enqueued", f"number {number}") for number in range(150)]
    operations = canned(*many)
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot, "b")
        await until(pilot, lambda: "this is the first page" in notices(app))
        await pilot.press("n")
        await until(pilot, lambda: len(kinds(app)) == 50)
        await pilot.press("n")
        await until(pilot, lambda: "this is the last page" in notices(app))
        await pilot.press("b")
        await until(pilot, lambda: len(kinds(app)) == 100)


@pytest.mark.slow
async def test_events_are_read_rarely_and_never_while_another_view_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    operations = canned(*KEPT)
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot)
        asked = operations.events.asked
        for _ in range(5):
            app.session.refresh()
            await pilot.pause(0.02)
        assert operations.events.asked == asked
        monkeypatch.setattr(module, "_REFRESH_SECONDS", 0.0)
        await pilot.press("r")
        await until(pilot, lambda: operations.events.asked > asked)
        await pilot.press("4")
        await until(pilot, lambda: isinstance(app.screen, WorkersScreen))
        await pilot.pause(0.1)
        asked = operations.events.asked
        for _ in range(3):
            app.session.refresh()
            await pilot.pause(0.02)
        assert operations.events.asked == asked


@pytest.mark.slow
async def test_while_a_process_drains_the_panel_counts_down_and_its_keys_work() -> None:
    operations = canned(*KEPT, snapshot=DRAINS)
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot)
        await until(pilot, lambda: "Graceful drain of box-2:992" in text_of(app))
        assert "22 s left ▕" in text_of(app)
        assert "likely requeued: 1" in text_of(app)
        await pilot.press("exclamation_mark")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("n")
        await pilot.press("u")
        await until(pilot, lambda: operations.done)
        operations.now = HEALTHY
        app.session.refresh()
        await until(pilot, lambda: "Graceful drain" not in text_of(app))
        await pilot.press("u")
        await until(pilot, lambda: "no process drains" in notices(app))
    assert operations.done == [("undo drain", DRAINING.id)]


async def test_of_several_drains_the_one_that_ends_first_is_shown_and_a_key_asks_to_choose() -> None:
    other = replace(DRAINING, id="other", host="box-8")
    operations = canned(*KEPT, snapshot=replace(HEALTHY, workers=(DRAINING, other, DEAD)))
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot)
        await until(pilot, lambda: "1 other process drains, too: 4 shows it" in text_of(app))
        await pilot.press("u")
        await until(pilot, lambda: "2 processes drain: choose one of them in view 4" in notices(app))
    assert operations.done == []


@pytest.mark.slow
async def test_without_events_it_says_what_they_are_and_without_a_database_why() -> None:
    operations = canned()
    async with dashboard(operations).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot)
        await until(pilot, lambda: "nothing has happened yet" in text_of(app))
    operations.events.error = DatabaseUnavailableError("the database does not answer")
    async with dashboard(operations).run_test(size=(80, 24)) as pilot:
        app = cast(Dashboard, pilot.app)
        await until(pilot, lambda: app.session.snapshot)
        await pilot.press("6")
        await until(pilot, lambda: "not read: r reads again" in text_of(app))
        await until(pilot, lambda: "the database does not answer" in notices(app))


@pytest.mark.parametrize(
    "written", ["", "kind:worker-lost", f"queue:{QUEUE}", f"kind:plan-halted queue:{QUEUE}"]
)
def test_a_filter_is_read_as_it_is_written(written: str) -> None:
    assert filter_text(parse_filter(f" {written} ")) == written
    assert isinstance(parse_filter(written), EventFilter)
    assert filter_text(parse_filter("since:2026-03-01T12:00")).startswith("since:2026-03-01T12:00:00")


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("color", "'color' is not a condition"),
        ("kind:", "'kind:' is not a condition"),
        ("kind:explosion", "there is no such kind"),
        ("kind:new-group kind:new-group", "is given twice"),
        ("since:yesterday-ish", "since"),
        ("who:me", "'who:me' is not a condition"),
    ],
)
def test_a_wrong_filter_is_one_line(written: str, says: str) -> None:
    with pytest.raises(InvalidFilterError, match=says) as raised:
        parse_filter(written)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("size", [(80, 24), (160, 48)], ids=["80x24", "160x48"])
def test_events_look_as_before(snap_compare: Any, size: tuple[int, int]) -> None:
    async def open_it(pilot: Pilot[Any]) -> None:
        app = await opened(pilot)
        await until(pilot, lambda: "Graceful drain" in text_of(app) and "Backlog" in text_of(app))

    operations = canned(*KEPT, snapshot=DRAINS)
    assert snap_compare(dashboard(operations), terminal_size=size, run_before=open_it)


async def test_a_long_list_of_events_scrolls_up_and_down_only() -> None:
    operations = canned(*[event(number, "queue-resumed", f"event {number}" * 20) for number in range(2, 80)])
    async with dashboard(operations).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot)
        table = app.screen.query_one(EventTable)
        await until(pilot, lambda: table.show_vertical_scrollbar)
        await pilot.pause()
        assert not table.show_horizontal_scrollbar
