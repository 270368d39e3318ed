"""The view of jobs: every key in every state, and what is shown of jobs that others wrote."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from textual.pilot import Pilot
from textual.widgets import Input

from tests.support.fake_jobs import SCHEDULES, job
from tests.support.fake_operations import AWAY, BREACHED, DRAINING, HEALTHY, NASTY, CannedOperations
from tui.app import Dashboard
from tui.dialogs.confirm import Confirm
from tui.dialogs.prompt import Prompt
from tui.screens.jobs.job import JobScreen
from tui.screens.jobs.list import JobsScreen
from tui.text.job_page import payload
from tui.widgets.state_bar import StateBar
from workers.operations.jobs import JobDetail
from workers.operations.operations import Operations


async def until(pilot: Pilot[Any], condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await pilot.pause(0.01)


def dashboard(operations: CannedOperations) -> Dashboard:
    return Dashboard(cast(Operations, operations))


def text(app: Dashboard) -> str:
    """All that is painted."""
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


def notices(app: Dashboard) -> str:
    return "\n".join(notice.message for notice in app._notifications)


async def opened(pilot: Pilot[Any], *keys: str) -> Dashboard:
    """The third view, after some keys."""
    app = cast(Dashboard, pilot.app)
    await until(pilot, lambda: app.session.snapshot)
    await pilot.press("3")
    await until(pilot, lambda: isinstance(app.screen, JobsScreen) and not jobs_screen(app).is_waiting)
    for key in keys:
        await press(pilot, key)
    return app


def jobs_screen(app: Dashboard) -> JobsScreen:
    return cast(JobsScreen, app.screen)


async def press(pilot: Pilot[Any], key: str) -> None:
    """Press a key of the list, and wait for what it reads."""
    await pilot.press(key)
    screen = pilot.app.screen
    if isinstance(screen, JobsScreen):
        await until(pilot, lambda: not screen.is_waiting)
    await pilot.pause()


async def answer(pilot: Pilot[Any], key: str = "y") -> str:
    """Answer a question; return it."""
    app = cast(Dashboard, pilot.app)
    await until(pilot, lambda: isinstance(app.screen, Confirm))
    asked = text(app)
    await pilot.press(key)
    return asked


async def test_jobs_are_listed_by_state_with_counts_and_the_focused_one_says_why() -> None:
    async with dashboard(CannedOperations(HEALTHY)).run_test(size=(160, 48)) as pilot:
        app = await opened(pilot)
        await until(pilot, lambda: "has run on box-2:4121" in text(app))
        shown = text(app)
        for words in ("Running 3", "Ready 250", "Scheduled 1", "Done 1", "Failed 1", "Schedules 2"):
            assert words in shown, words
        for words in ("dress-17", "1/4", "31 s", "29 s", "62 %", "28 times as long as usual", '"item_id"'):
            assert words in shown, words
        await press(pilot, "right")
        await until(pilot, lambda: "wx-porto-0" in text(app))
        assert "before it" in text(app)
        await press(pilot, "left")
        await press(pilot, "left")
        await until(pilot, lambda: "weather-hourly" in text(app))
        assert "ops@box-2: model rollout" in text(app)


async def test_a_click_on_a_state_lists_it() -> None:
    async with dashboard(CannedOperations(HEALTHY)).run_test(size=(160, 48)) as pilot:
        app = await opened(pilot)
        column = jobs_screen(app).query_one(StateBar).columns["failed"].start
        await pilot.click(StateBar, offset=(column + 1, 0))
        await until(pilot, lambda: "boots-9" in text(app))


async def test_only_the_page_that_is_shown_is_read_and_nothing_while_another_view_is_shown() -> None:
    operations = CannedOperations(HEALTHY)
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot, "right", "n")
        await until(pilot, lambda: "page 2" in text(app))
        assert ("ready", "100") in {(state, cursor) for _, state, cursor in operations.jobs.read}
        await pilot.press("1")
        await until(pilot, lambda: not isinstance(app.screen, JobsScreen))
        before = len(operations.jobs.read)
        for _ in range(3):
            snapshots = operations.snapshots
            app.session.refresh()
            await until(pilot, lambda before=snapshots: operations.snapshots > before)
        assert len(operations.jobs.read) == before


async def test_reads_do_not_pile_up() -> None:
    operations = CannedOperations(HEALTHY)
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot)
        operations.jobs.door.clear()
        before = len(operations.jobs.read)
        for _ in range(4):
            app.session.refresh()
            await pilot.pause(0.02)
        assert len(operations.jobs.read) <= before + 1
        operations.jobs.door.set()


async def test_the_filter_lists_one_queue_and_names_an_unknown_one() -> None:
    async with dashboard(CannedOperations(HEALTHY)).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot, "slash")
        await pilot.press(*"queue:weather-ingestion", "enter")
        await until(pilot, lambda: "coat-4" not in text(app) and "wx-lisboa-931" in text(app))
        await until(pilot, lambda: "Running 1" in text(app))
        await press(pilot, "escape")
        await until(pilot, lambda: "coat-4" in text(app))
        await pilot.press("slash", *"queue:nowhere", "enter")
        await until(pilot, lambda: "nowhere" in text(app) and "weather-ingestion" in text(app))


@pytest.mark.parametrize(
    ("key", "verb", "title"),
    [("x", "abort", "Abort 1 job?"), ("R", "run-now", "Run now 1 job?"), ("X", "remove", "Remove 1 job?")],
)
async def test_a_verb_asks_once_with_the_job_and_gets_what_was_shown(key: str, verb: str, title: str) -> None:
    operations = CannedOperations(HEALTHY)
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot, key)
        assert title in await answer(pilot, "n")
        assert operations.done == []
        await until(pilot, lambda: isinstance(app.screen, JobsScreen))
        await pilot.press(key)
        assert "dress-17" in await answer(pilot)
        await until(pilot, lambda: operations.done)
        await until(pilot, lambda: f"dress-17: {verb} done" in notices(app))
    assert operations.done == [(verb, "color-extraction", [("dress-17", "v:dress-17")])]


async def test_c_duplicates_one_job_without_a_question_and_several_after_one() -> None:
    operations = CannedOperations(HEALTHY)
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot, "c")
        await until(pilot, lambda: len(operations.done) == 1)
        await until(pilot, lambda: not any(worker.group == "action" for worker in app.workers))
        for key in ("home", "space", "space", "space"):
            await press(pilot, key)
        await until(pilot, lambda: "3 marked" in text(app))
        await pilot.press("c")
        assert "Duplicate 3 jobs?" in await answer(pilot)
        await until(pilot, lambda: len(operations.done) == 3)
        await until(pilot, lambda: "3 jobs duplicated" in notices(app))
        await until(pilot, lambda: "marked" not in text(app))
    assert {queue for _, queue, _ in operations.done} == {"color-extraction", "weather-ingestion"}


async def test_a_verb_that_does_not_apply_says_why_and_asks_nothing() -> None:
    operations = CannedOperations(HEALTHY)
    operations.jobs.refused = {"dress-17": "runs already"}
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot, "R")
        await until(pilot, lambda: "dress-17: runs already" in notices(app))
        assert isinstance(app.screen, JobsScreen)
        for key in ("v", "down", "down", "v"):
            await press(pilot, key)
        await pilot.press("R")
        asked = await answer(pilot)
        assert "Run now 2 jobs?" in asked
        assert "Left as they are: dress-17: runs already" in " ".join(asked.replace("│", " ").split())
        await until(pilot, lambda: "2 jobs run next · dress-17: runs already" in notices(app))


async def test_an_empty_list_says_for_each_queue_why_nothing_starts() -> None:
    operations = CannedOperations(BREACHED)
    operations.jobs.kept = []
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot)
        await until(pilot, lambda: "moderation-review is paused by ops@box-2" in text(app))
        assert "weather-ingestion is full: 10 of 10" in text(app)
        assert "\x1b" not in text(app)
        await press(pilot, "left")
        assert "paused by" not in text(app)


@pytest.mark.parametrize("key", ["x", "R", "c", "X", "enter"])
@pytest.mark.parametrize("lists", range(5))
async def test_a_key_on_an_empty_list_says_so(key: str, lists: int) -> None:
    operations = CannedOperations(HEALTHY)
    operations.jobs.kept = []
    async with dashboard(operations).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot, *["right"] * lists, key)
        await until(pilot, lambda: "no job is listed" in notices(app))
    assert operations.done == []


@pytest.mark.parametrize("key", ["x", "R", "c", "X"])
async def test_in_read_only_mode_a_verb_is_refused_before_it_asks(key: str) -> None:
    operations = CannedOperations(HEALTHY)
    operations.read_only = True
    async with dashboard(operations).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot, key)
        await until(pilot, lambda: notices(app).count("read-only: nothing can be changed") > 1)
        assert isinstance(app.screen, JobsScreen)
    assert operations.done == []


async def test_schedules_run_now_and_are_disabled_and_enabled() -> None:
    operations = CannedOperations(HEALTHY)
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot, "left", "R")
        assert "Run schedule weather-hourly now?" in await answer(pilot)
        await until(pilot, lambda: "weather-hourly: 2 of 3 jobs enqueued" in notices(app))
        await until(pilot, lambda: not any(worker.group == "action" for worker in app.workers))
        await pilot.press("p")
        await until(pilot, lambda: isinstance(app.screen, Prompt))
        await pilot.press(*"why", "enter")
        await until(pilot, lambda: ("disable", "weather-hourly", "why") in operations.done)
        await until(pilot, lambda: not any(worker.group == "action" for worker in app.workers))
        await until(pilot, lambda: "weather-hourly is disabled" in notices(app))
        await press(pilot, "down")
        await pilot.press("p")
        await until(pilot, lambda: ("enable", "colors-nightly") in operations.done)
        for key in ("x", "c", "X", "enter"):
            app.clear_notifications()
            await pilot.press(key)
            if key != "enter":
                await until(pilot, lambda: "applies to jobs" in notices(app))
        await press(pilot, "right")
        await pilot.press("p")
        await until(pilot, lambda: "the last list has them" in notices(app))


async def test_enter_opens_all_of_a_job_with_its_stack_and_log_and_verbs_work_there() -> None:
    operations = CannedOperations(HEALTHY)
    async with dashboard(operations).run_test(size=(120, 48)) as pilot:
        app = await opened(pilot, "enter")
        await until(pilot, lambda: "httpx/_transports/default.py:394" in text(app))
        shown = text(app)
        for words in (
            "has run on box-2:4121",
            '"item_id": "dress-17"',
            "download https://",
            "no attempt has",
        ):
            assert words in shown, words
        await pilot.press("x")
        assert "Abort 1 job?" in await answer(pilot)
        await until(pilot, lambda: operations.done)
        operations.jobs.kept = []
        await pilot.press("r")
        await until(pilot, lambda: "has no job 'dress-17'" in text(app))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, JobsScreen))


@pytest.mark.parametrize("state", [AWAY, DRAINING, replace(HEALTHY, queues=(), workers=())])
@pytest.mark.parametrize("fails", [False, True])
async def test_every_key_works_in_every_state(state: Any, fails: bool) -> None:
    operations = CannedOperations(state)
    if fails:
        operations.jobs.error = RedisConnectionError("refused")
    keys = ("down", "up", "home", "end", "space", "v", "v", "U", "n", "b", "r", "p", "left", "right", "s")
    asked = ("e", "o", "enter", "x", "R", "c", "X", "slash")
    async with dashboard(operations).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot)
        pressed = [*keys, "escape", *(key for verb in asked for key in (verb, "escape"))]
        for key in pressed:
            await pilot.press(key)
            await pilot.pause()
        await pilot.press("question_mark", "escape", "1", "3")
        await until(pilot, lambda: isinstance(app.screen, JobsScreen))


async def test_while_redis_is_unavailable_the_list_stays_and_one_error_is_shown() -> None:
    operations = CannedOperations(HEALTHY)
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot)
        operations.now = replace(HEALTHY, redis=AWAY.redis)
        app.session.refresh()
        await until(pilot, lambda: app.session.figures_are_old)
        before = len(operations.jobs.read)
        for _ in range(3):
            app.session.refresh()
            await pilot.pause(0.05)
        assert len(operations.jobs.read) <= before + 1
        assert "dress-17" in text(app)


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_text_from_jobs_is_shown_and_never_obeyed(size: tuple[int, int]) -> None:
    operations = CannedOperations(HEALTHY)
    hostile = job(NASTY, function=NASTY, worker_name=NASTY, error=NASTY, problem=NASTY)
    operations.jobs.kept = [hostile]
    operations.jobs.payload = {NASTY: NASTY}
    operations.jobs.why_sentence = NASTY
    operations.jobs.refused = {NASTY: NASTY}
    operations.schedules.kept = [replace(SCHEDULES[1], name=NASTY, expression=NASTY, disabled_reason=NASTY)]
    bad = {"\x1b", "\x07", "\u202e"}
    async with dashboard(operations).run_test(size=size) as pilot:
        app = await opened(pilot)
        await until(pilot, lambda: "why" in text(app))
        assert "[red]" in text(app)
        assert not bad & set(text(app))
        await pilot.press("R")
        await until(pilot, lambda: "not markup" in notices(app))
        assert not bad & set(notices(app))
        operations.jobs.refused = {}
        await pilot.press("x")
        asked = await answer(pilot, "n")
        assert "[red]" in asked
        assert not bad & set(asked)
        await until(pilot, lambda: isinstance(app.screen, JobsScreen))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, JobScreen) and "handler.py" in text(app))
        assert "\\x1b[31m" in text(app)
        assert not bad & set(text(app))
        await pilot.press("escape", "left")
        await until(pilot, lambda: isinstance(app.screen, JobsScreen) and "Schedules 1" in text(app))
        await until(pilot, lambda: "1 schedule" in text(app))
        assert "[red]" in text(app)
        assert not bad & set(text(app))
        await pilot.press("R")
        asked = await answer(pilot, "n")
        assert not bad & set(asked)


async def test_a_job_that_has_ended_is_read_once_and_the_last_one_shown_is_the_one_under_the_cursor() -> None:
    operations = CannedOperations(HEALTHY)
    operations.jobs.kept = [job("a", "failed"), job("b", "failed"), job("c", "failed")]
    async with dashboard(operations).run_test(size=(160, 48)) as pilot:
        app = await opened(pilot, "right", "right", "right", "right")
        await until(pilot, lambda: "7: view 2 has it" in text(app))
        await press(pilot, "left")
        await press(pilot, "right")
        before = operations.jobs.details
        for _ in range(3):
            snapshots = operations.snapshots
            app.session.refresh()
            await until(pilot, lambda before=snapshots: operations.snapshots > before)
            await until(pilot, lambda: not jobs_screen(app).is_waiting)
        assert operations.jobs.details <= before + 1
        await pilot.press("down", "down")
        await until(pilot, lambda: " c · color-extraction" in text(app) and "7: view 2" in text(app))


def test_of_a_large_payload_only_the_beginning_is_encoded() -> None:
    class Counted(list[int]):
        read = 0

        def __iter__(self) -> Any:
            for number in range(1_000_000):
                Counted.read += 1
                yield number

    detail = JobDetail("color-extraction", "k", "ready", "v", payload=Counted([1]))
    assert payload(detail).plain.endswith("…")
    assert Counted.read < 10_000
    deep: list[Any] = []
    for _ in range(5_000):
        deep = [deep]
    assert payload(replace(detail, payload=deep), whole=True).plain.endswith("…")


SIZES = [
    (80, 24),
    (160, 48),
    pytest.param((120, 36), marks=pytest.mark.slow),
    pytest.param((200, 60), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("size", SIZES, ids=["80x24", "160x48", "120x36", "200x60"])
@pytest.mark.parametrize("lists", [0, 1, 2, 4, 5])
def test_jobs_look_as_before(snap_compare: Any, size: tuple[int, int], lists: int) -> None:
    async def open_it(pilot: Pilot[Any]) -> None:
        app = await opened(pilot, *["right"] * lists)
        await until(pilot, lambda: "payload" in text(app) or "when" in text(app) or "attempt" in text(app))
        await pilot.pause(0.1)

    assert snap_compare(dashboard(CannedOperations(HEALTHY)), terminal_size=size, run_before=open_it)


@pytest.mark.parametrize("size", SIZES[:2], ids=["80x24", "160x48"])
def test_one_job_looks_as_before(snap_compare: Any, size: tuple[int, int]) -> None:
    async def open_it(pilot: Pilot[Any]) -> None:
        app = await opened(pilot, "down", "down", "enter")
        await until(pilot, lambda: isinstance(app.screen, JobScreen) and "default.py:394" in text(app))

    assert snap_compare(dashboard(CannedOperations(HEALTHY)), terminal_size=size, run_before=open_it)


async def test_s_sorts_by_a_column_over_all_pages() -> None:
    operations = CannedOperations(HEALTHY)
    operations.jobs.kept = [
        job(f"dress-{number}", "failed", error=f"E{number % 2}: x", attempt=number) for number in range(120)
    ]
    async with dashboard(operations).run_test(size=(160, 48)) as pilot:
        app = await opened(pilot, "left", "left")
        await until(pilot, lambda: "dress-0 " in text(app))
        await pilot.press("s")
        await until(pilot, lambda: "Sort by" in text(app))
        await pilot.press("down", "down", "down", "down", "enter")  # as listed, job, queue, function, att
        await until(pilot, lambda: "by att ↓" in text(app) and "dress-119" in text(app))
        assert jobs_screen(app).table.items[0].key == "dress-119"
        await press(pilot, "n")
        await until(pilot, lambda: jobs_screen(app).table.items[-1].key == "dress-0")
        await pilot.press("s")
        await until(pilot, lambda: "Sort by" in text(app))
        await pilot.press("s")
        await until(pilot, lambda: "by att ↑" in text(app))
        await until(pilot, lambda: jobs_screen(app).table.items[0].key == "dress-0")
        await press(pilot, "right")
        await until(pilot, lambda: "weather-hourly" in text(app))
        await pilot.press("s")
        await until(pilot, lambda: "Sort by" in text(app))
        await pilot.press("down", "enter")
        await until(pilot, lambda: "by schedule ↑" in text(app))


async def test_the_first_ready_jobs_are_sorted_and_the_dialog_and_the_title_say_what_that_covers() -> None:
    operations = CannedOperations(HEALTHY)
    operations.jobs.kept = [job(f"dress-{number}", "ready", attempt=number % 7) for number in range(2_001)]
    async with dashboard(operations).run_test(size=(160, 48)) as pilot:
        app = await opened(pilot, "right")
        await until(pilot, lambda: "in the order of their queues" in text(app))
        await pilot.press("s")
        await until(pilot, lambda: "so the first 2,000 in that" in text(app))
        assert "That of ready jobs is the one in which" in text(app)
        await pilot.press("down", "down", "down", "down", "enter")  # as listed, job, queue, function, att
        await until(
            pilot, lambda: "100 jobs on this page · of the first 2,000 · by att ↓ · page 1" in text(app)
        )
        table = jobs_screen(app).table
        assert [one.attempt for one in table.items[:2]] == [6, 6]
        assert "in the order of their queues" not in text(app)
        operations.jobs.kept.pop()
        await until(pilot, lambda: "100 jobs on this page · by att ↓ · page 1" in text(app))


async def test_the_filter_searches_keys_functions_workers_and_schedules() -> None:
    async with dashboard(CannedOperations(HEALTHY)).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot)
        for query, found in {
            "COAT": ["coat-4"],
            "function:weather": ["wx-lisboa-931"],
            "worker:box-9": [],
        }.items():
            await pilot.press("slash")
            app.screen.query_one("#filter-input", Input).value = query
            await pilot.press("enter")
            await until(pilot, lambda query=query: jobs_screen(app).filter_text() == query)
            await until(pilot, lambda: not jobs_screen(app).is_waiting)
            assert [one.key for one in jobs_screen(app).rows] == found
        await until(pilot, lambda: "for worker:box-9: esc shows all" in text(app))
        await press(pilot, "escape")
        await press(pilot, "left")
        await pilot.press("slash", *"nightly", "enter")
        await until(pilot, lambda: "1 schedule" in text(app) and "colors-nightly" in text(app))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "verb", "title"),
    [
        ("x", "abort", "Abort"),
        ("R", "run-now", "Run now"),
        ("c", "duplicate", "Duplicate"),
        ("X", "remove", "Remove"),
    ],
)
async def test_each_verb_applies_to_all_that_is_marked_after_one_question(
    key: str, verb: str, title: str
) -> None:
    operations = CannedOperations(HEALTHY)
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot, "space", "space", "space", key)
        assert f"{title} 3 jobs?" in await answer(pilot)
        await until(pilot, lambda: len(operations.done) == 2)
        await until(pilot, lambda: "marked" not in text(app))
    done = {queue: [ref[0] for ref in refs] for name, queue, refs in operations.done if name == verb}
    assert done == {"color-extraction": ["dress-17", "coat-4"], "weather-ingestion": ["wx-lisboa-931"]}


@pytest.mark.slow
@pytest.mark.parametrize("key", ["x", "R", "c", "X", "p", "enter", "e", "o", "s", "n", "b"])
@pytest.mark.parametrize("lists", range(6))
async def test_each_key_does_something_on_each_row_or_says_why_not(key: str, lists: int) -> None:
    operations = CannedOperations(HEALTHY)
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot, *["right"] * lists)
        before = (text(app), len(app.screen_stack))
        await pilot.press(key)
        await until(
            pilot, lambda: notices(app) or operations.done or (text(app), len(app.screen_stack)) != before
        )
