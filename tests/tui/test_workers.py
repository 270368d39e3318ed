"""Views of workers: every key in every state, and what is shown of processes that others described."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from textual.pilot import Pilot

from tests.support.dashboards import dashboard, notices, text_of, until
from tests.support.fake_jobs import job
from tests.support.fake_moments import HEALTHY, NASTY
from tests.support.fake_operations import CannedOperations
from tests.support.fake_signals import event
from tests.support.fake_workers import BLOCKED, DEAD, DRAINING, RUNNING, STANDBY
from tui.app import Dashboard
from tui.dialogs.confirm import Confirm
from tui.screens.jobs.job import JobScreen
from tui.screens.workers.list import WorkersScreen
from tui.screens.workers.worker import WorkerScreen
from tui.widgets.row_list import RowList
from workers.errors import ConflictError
from workers.monitoring.snapshot import DrainSnapshot, Snapshot, WorkerSnapshot

ALL = replace(HEALTHY, workers=(RUNNING, DRAINING, BLOCKED, DEAD, STANDBY))
HOSTILE = replace(
    DRAINING,
    host=NASTY,
    release=NASTY,
    version=NASTY,
    queues=(NASTY,),
    held=(replace(DRAINING.held[0], queue=NASTY),),
    drain=DrainSnapshot(1.0, undoable=True, by=NASTY),
    unready=(NASTY,),
    settings={NASTY: {NASTY: NASTY}},
    blocked_where=NASTY,
)


async def opened(pilot: Pilot[Any], *keys: str, view: str = "4") -> Dashboard:
    """The fourth view, after some keys."""
    app = cast(Dashboard, pilot.app)
    await until(pilot, lambda: app.session.snapshot)
    await pilot.press(view)
    await until(pilot, lambda: isinstance(app.screen, WorkersScreen))
    if app.session.snapshot is not None and app.session.snapshot.workers:
        await until(pilot, lambda: app.screen.query_one("#workers", RowList).rows)
    await pilot.press(*keys)
    return app


def with_workers(*workers: WorkerSnapshot) -> CannedOperations:
    return CannedOperations(replace(HEALTHY, workers=workers))


async def test_each_process_is_a_row_with_its_state_and_why_it_takes_no_jobs() -> None:
    async with dashboard(CannedOperations(ALL)).run_test(size=(160, 48)) as pilot:
        app = await opened(pilot)
        await until(pilot, lambda: "box-5" in text_of(app))
        shown = text_of(app)
    for words in (
        "box-1:991",
        "22 s left",
        "blocked for 12 s by handler shop:f",
        "its 2 jobs wait for a worker",
        "stands by",
        "1 of 5 take jobs",
        "this process",
        "slow: 2 s",
    ):
        assert words in shown, words


async def test_d_asks_once_with_the_number_of_jobs_and_drains_the_focused_one() -> None:
    operations = with_workers(RUNNING, replace(RUNNING, id="other", host="box-7"))
    async with dashboard(operations).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot, "down", "D")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        assert "Drain box-7:991? 3 jobs in flight" in text_of(app)
        await pilot.press("n")
        assert operations.done == []
        await pilot.press("D")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: operations.done)
        await until(pilot, lambda: "drains: 3 jobs in flight, 30 s left" in notices(app))
    assert operations.done == [("drain worker", "other", False)]


async def test_u_undoes_a_drain_without_a_question() -> None:
    operations = with_workers(DRAINING)
    async with dashboard(operations).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot, "u")
        await until(pilot, lambda: "takes jobs" in notices(app))
    assert operations.done == [("undo drain", DRAINING.id)]


async def test_the_exclamation_mark_requeues_the_jobs_after_a_question() -> None:
    operations = with_workers(DRAINING)
    async with dashboard(operations).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot, "exclamation_mark")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        assert "Requeue 8 jobs of box-2:992 now?" in text_of(app)
        await pilot.press("y")
        await until(pilot, lambda: operations.done)
    assert operations.done == [("drain worker", DRAINING.id, True)]


@pytest.mark.parametrize(
    ("worker", "key", "says"),
    [
        (RUNNING, "u", "box-1:991 does not drain: there is nothing to undo"),
        (RUNNING, "exclamation_mark", "box-1:991 does not drain: D drains it"),
        (DRAINING, "D", "box-2:992 drains already: u undoes it, ! requeues its jobs"),
        (DEAD, "D", "box-4:994 is dead: there is nothing to drain"),
        (DEAD, "u", "box-4:994 does not drain"),
        (DEAD, "exclamation_mark", "box-4:994 does not drain"),
        (None, "D", "no process is listed: there is nothing to act on"),
        (None, "u", "no process is listed"),
        (None, "exclamation_mark", "no process is listed"),
        (None, "enter", "no process is listed"),
    ],
)
async def test_a_key_that_does_not_apply_says_why(worker: WorkerSnapshot | None, key: str, says: str) -> None:
    operations = with_workers(*([worker] if worker is not None else []))
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot, key)
        await until(pilot, lambda: says in notices(app))
    assert operations.done == []


@pytest.mark.slow
@pytest.mark.parametrize("worker", [RUNNING, DRAINING, BLOCKED, DEAD, STANDBY])
async def test_enter_opens_every_process_and_escape_leads_back(worker: WorkerSnapshot) -> None:
    async with dashboard(with_workers(worker)).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot, "enter")
        await until(pilot, lambda: isinstance(app.screen, WorkerScreen))
        await until(pilot, lambda: worker.id in text_of(app))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, WorkersScreen))


async def test_the_page_of_a_process_has_its_jobs_settings_and_log() -> None:
    operations = CannedOperations(ALL)
    async with dashboard(operations).run_test(size=(120, 48)) as pilot:
        app = await opened(pilot, "enter")
        await until(pilot, lambda: "slow: 2 s" in text_of(app))
        assert "the same as those of the others" in text_of(app)
        await pilot.press("escape", "down", "enter")
        await until(pilot, lambda: "a line of another process" in text_of(app))
        assert "likely requeued: 1" in text_of(app)
        assert "color-extraction: concurrency 3, usually 5" in text_of(app)


@pytest.mark.slow
async def test_the_page_of_a_process_that_has_ended_says_so_and_acts_on_nothing() -> None:
    operations = with_workers(RUNNING)
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot, "enter")
        await until(pilot, lambda: isinstance(app.screen, WorkerScreen))
        operations.now = replace(HEALTHY, workers=())
        app.session.refresh()
        await until(pilot, lambda: "has ended: these are its last figures" in text_of(app))
        for key in ("D", "u", "exclamation_mark"):
            app.clear_notifications()
            await pilot.press(key)
            await until(pilot, lambda: "the process has ended" in notices(app))
    assert operations.done == []


@pytest.mark.slow
async def test_a_process_that_does_not_confirm_is_a_warning_and_an_error_is_one_line() -> None:
    operations = with_workers(RUNNING, DRAINING)
    operations.workers.problem = f"it does not answer {NASTY}"
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot, "D")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: "it does not answer" in notices(app))
        assert "\x1b" not in notices(app)
        operations.workers.error = ConflictError("box-2:992 is ending: its drain cannot be undone any more")
        await pilot.press("down", "u")
        await until(pilot, lambda: "cannot be undone any more" in notices(app))


def with_jobs_of(*workers: WorkerSnapshot) -> CannedOperations:
    """Each of these processes runs two jobs."""
    operations = with_workers(*workers)
    operations.jobs.kept = [
        job(f"{worker.host}-{number}", worker=worker.id, worker_name=None)
        for worker in workers
        for number in range(2)
    ]
    return operations


@pytest.mark.slow
async def test_the_page_of_a_process_has_the_keys_of_its_jobs_and_their_verbs() -> None:
    operations = with_jobs_of(RUNNING, DRAINING)
    async with dashboard(operations).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot, "down", "enter")
        await until(pilot, lambda: isinstance(app.screen, WorkerScreen) and "box-2-1" in text_of(app))
        assert "box-1-0" not in text_of(app)
        await pilot.press("down", "x")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        assert "Abort 1 job?" in text_of(app)
        await pilot.press("y")
        await until(pilot, lambda: operations.done)
        await until(pilot, lambda: not any(worker.group == "action" for worker in app.workers))
        await pilot.press("home", "space", "space")
        await until(pilot, lambda: "2 marked" in text_of(app))
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        assert "Duplicate 2 jobs?" in text_of(app)
        await pilot.press("y")
        await until(pilot, lambda: len(operations.done) == 2)
        await until(pilot, lambda: "marked" not in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, JobScreen))
        await pilot.press("escape", "s")
        await until(pilot, lambda: "Sort by" in text_of(app))
        await pilot.press("down", "s")
        await until(pilot, lambda: "by job ↑" in text_of(app))
        await pilot.press("u")
        await until(pilot, lambda: ("undo drain", DRAINING.id) in operations.done)
    queue = "color-extraction"
    assert operations.done[:2] == [
        ("abort", queue, [("box-2-1", "v:box-2-1")]),
        ("duplicate", queue, [("box-2-0", "v:box-2-0"), ("box-2-1", "v:box-2-1")]),
    ]


@pytest.mark.slow
async def test_the_log_of_another_process_is_asked_for_and_why_it_is_missing_is_shown() -> None:
    operations = with_jobs_of(RUNNING, DRAINING)
    async with dashboard(operations).run_test(size=(120, 48)) as pilot:
        app = await opened(pilot, "down")
        await until(pilot, lambda: "a line of another process" in text_of(app))
        await pilot.press("up")
        await until(pilot, lambda: "slow: 2 s" in text_of(app))
        operations.workers.error = ConflictError("its process does not answer within 2 s")
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(app.screen, WorkerScreen))
        await until(pilot, lambda: "its process does not answer within 2 s" in text_of(app))


async def test_a_process_with_a_job_newer_than_the_snapshot_is_not_said_to_hold_none() -> None:
    operations = with_jobs_of(replace(RUNNING, held=(), in_flight=0))
    async with dashboard(operations).run_test(size=(120, 48)) as pilot:
        app = await opened(pilot, "enter")
        await until(pilot, lambda: "box-1-0" in text_of(app))
        assert "it holds no jobs" not in text_of(app)
        operations.jobs.kept = []
        await until(pilot, lambda: "it holds no jobs" in text_of(app) or app.session.refresh())


@pytest.mark.slow
@pytest.mark.parametrize("key", ["x", "R", "c", "X", "enter"])
async def test_a_key_about_jobs_says_that_a_process_runs_none(key: str) -> None:
    operations = with_workers(STANDBY)
    operations.jobs.kept = []
    async with dashboard(operations).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot, "enter")
        await until(pilot, lambda: isinstance(app.screen, WorkerScreen))
        await pilot.press(key)
        await until(pilot, lambda: "it runs no job: there is nothing to act on" in notices(app))
    assert operations.done == []


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_text_that_processes_publish_is_shown_and_never_obeyed(size: tuple[int, int]) -> None:
    async with dashboard(with_workers(HOSTILE)).run_test(size=size) as pilot:
        app = await opened(pilot)
        await until(pilot, lambda: "[red]" in text_of(app))
        for screen in (WorkersScreen, WorkerScreen):
            await until(pilot, lambda screen=screen: isinstance(app.screen, screen))
            shown = text_of(app)
            assert "\\x1b[31m" in shown
            assert not {"\x1b", "\x07", "\u202e"} & set(shown)
            await pilot.press("enter")


@pytest.mark.slow
@pytest.mark.parametrize(
    "state",
    [
        replace(ALL, workers=()),
        replace(ALL, redis=replace(ALL.redis, error="refused")),
        replace(ALL, database=replace(ALL.database, error="refused")),
        replace(ALL, drain_deadline_in=22.0),
    ],
)
async def test_every_key_works_in_every_state(state: Snapshot) -> None:
    operations = CannedOperations(state)
    async with dashboard(operations).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot)
        for key in ("down", "up", "home", "end", "enter", "escape", "u", "D", "escape", "exclamation_mark"):
            await pilot.press(key)
            await pilot.pause()
        await pilot.press("escape", "question_mark", "escape", "1", "4")
        await until(pilot, lambda: isinstance(app.screen, WorkersScreen))


def test_workers_look_as_before(snap_compare: Any, size: tuple[int, int]) -> None:
    async def open_it(pilot: Pilot[Any]) -> None:
        app = await opened(pilot)
        await until(pilot, lambda: "box-5" in text_of(app))

    assert snap_compare(dashboard(CannedOperations(ALL)), terminal_size=size, run_before=open_it)


def test_one_worker_looks_as_before(snap_compare: Any, size: tuple[int, int]) -> None:
    async def open_it(pilot: Pilot[Any]) -> None:
        app = await opened(pilot, "down", "enter")
        await until(pilot, lambda: isinstance(app.screen, WorkerScreen) and DRAINING.id in text_of(app))

    assert snap_compare(dashboard(CannedOperations(ALL)), terminal_size=size, run_before=open_it)


@pytest.fixture(params=[(80, 24), (160, 48)], ids=["80x24", "160x48"])
def size(request: pytest.FixtureRequest) -> tuple[int, int]:
    columns, rows = request.param
    return columns, rows


async def test_a_tall_terminal_shows_what_processes_came_and_went_and_reads_that_rarely() -> None:
    operations = CannedOperations(ALL)
    operations.events.kept = [
        event(0, "worker-lost", f"worker 4f0c died {NASTY}"),
        event(1, "queue-paused", "ops paused a queue"),
    ]
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot)
        asked = operations.events.asked
        await pilot.resize_terminal(160, 48)
        await until(pilot, lambda: "worker 4f0c died" in text_of(app))
        assert "paused a queue" not in text_of(app)
        assert not {"\x1b", "\x07", "\u202e"} & set(text_of(app))
        for _ in range(3):
            app.session.refresh()
            await pilot.pause(0.02)
        assert operations.events.asked == asked + 1
