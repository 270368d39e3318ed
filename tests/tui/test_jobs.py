"""The view of jobs: every key in every state, and what is shown of jobs that others wrote."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from textual.widgets import Input

from tests.support.dashboards import dashboard, notices, text_of, until
from tests.support.fake_jobs import SCHEDULES, job
from tests.support.fake_moments import AWAY, BREACHED, HEALTHY, NASTY
from tests.support.fake_operations import CannedOperations
from tests.support.jobs_view import answer, jobs_screen, opened, press
from tui.screens.jobs.job import JobScreen
from tui.screens.jobs.list import JobsScreen
from tui.text.job_page import payload
from tui.widgets.key_bar import KeyBar
from tui.widgets.state_bar import StateBar
from workers.operations.jobs import JobDetail


async def test_jobs_are_listed_by_state_with_counts_and_the_focused_one_says_why() -> None:
    async with dashboard(CannedOperations(HEALTHY)).run_test(size=(160, 48)) as pilot:
        app = await opened(pilot)
        states = ("Running 3", "Ready 250", "Scheduled 1", "Done 1", "Failed 1", "Schedules 2")
        focused = ("dress-17", "1/4", "31 s", "29 s", "62 %", "28 times as long as usual", '"item_id"')
        sentence = "has run on box-2:4121"
        await until(pilot, lambda: all(words in text_of(app) for words in (*states, *focused, sentence)))
        await press(pilot, "right")
        await until(pilot, lambda: "wx-porto-0" in text_of(app))
        assert "before it" in text_of(app)
        await press(pilot, "left")
        await press(pilot, "left")
        await until(pilot, lambda: "weather-hourly" in text_of(app))
        assert "ops@box-2: model rollout" in text_of(app)


@pytest.mark.slow
async def test_a_click_on_a_state_lists_it() -> None:
    async with dashboard(CannedOperations(HEALTHY)).run_test(size=(160, 48)) as pilot:
        app = await opened(pilot)
        column = jobs_screen(app).query_one(StateBar).columns["failed"].start
        await pilot.click(StateBar, offset=(column + 1, 0))
        await until(pilot, lambda: "boots-9" in text_of(app))


@pytest.mark.slow
async def test_only_the_page_that_is_shown_is_read_and_nothing_while_another_view_is_shown() -> None:
    operations = CannedOperations(HEALTHY)
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot, "right", "n")
        await until(pilot, lambda: "page 2" in text_of(app))
        assert ("ready", "100") in {(state, cursor) for _, state, cursor in operations.jobs.read}
        await pilot.press("1")
        await until(pilot, lambda: not isinstance(app.screen, JobsScreen))
        before = len(operations.jobs.read)
        for _ in range(3):
            snapshots = operations.snapshots
            app.session.refresh()
            await until(pilot, lambda before=snapshots: operations.snapshots > before)
        assert len(operations.jobs.read) == before


@pytest.mark.slow
async def test_the_job_that_ended_last_is_the_first_row_unless_the_cursor_was_moved() -> None:
    operations = CannedOperations(HEALTHY)
    operations.jobs.kept = [job(f"done-{number}", "done") for number in range(9)]
    async with dashboard(operations).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot, "right", "right", "right")
        for moves, expected in (((), "newer-0"), (("down",), "done-0")):
            await pilot.press(*moves)
            operations.jobs.kept.insert(0, job(f"newer-{len(moves)}", "done"))
            await press(pilot, "r")
            selected = jobs_screen(app).table.selected
            assert selected is not None
            assert selected.key == expected


@pytest.mark.slow
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


@pytest.mark.slow
async def test_the_filter_lists_one_queue_and_names_an_unknown_one() -> None:
    async with dashboard(CannedOperations(HEALTHY)).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot, "slash")
        await pilot.press(*"queue:weather-ingestion", "enter")
        await until(pilot, lambda: "coat-4" not in text_of(app) and "wx-lisboa-931" in text_of(app))
        await until(pilot, lambda: "Running 1" in text_of(app))
        await press(pilot, "escape")
        await until(pilot, lambda: "coat-4" in text_of(app))
        await pilot.press("slash", *"queue:nowhere", "enter")
        await until(pilot, lambda: "nowhere" in text_of(app) and "weather-ingestion" in text_of(app))


async def test_an_empty_list_says_for_each_queue_why_nothing_starts() -> None:
    operations = CannedOperations(BREACHED)
    operations.jobs.kept = []
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot)
        await until(pilot, lambda: "moderation-review is paused by ops@box-2" in text_of(app))
        assert "weather-ingestion is full: 10 of 10" in text_of(app)
        assert "\x1b" not in text_of(app)
        await press(pilot, "left")
        assert "paused by" not in text_of(app)


@pytest.mark.parametrize(
    ("size", "key"),
    [((60, 20), "0000…00000001"), ((80, 24), f"{1:032}"), ((160, 48), f"{1:032}")],
)
async def test_while_no_job_runs_the_ones_that_were_done_last_are_shown(
    size: tuple[int, int], key: str
) -> None:
    operations = CannedOperations(HEALTHY)
    operations.jobs.kept = [job(f"{number:032}", "done") for number in range(30)]
    async with dashboard(operations).run_test(size=size) as pilot:
        app = await opened(pilot)
        await until(pilot, lambda: "done last" in text_of(app))
        assert f"   3.0 s  {key} " in text_of(app)
        assert f"{10:032}" not in text_of(app)


async def test_no_gap_is_between_a_ready_job_and_its_queue() -> None:
    operations = CannedOperations(HEALTHY)
    operations.jobs.kept = [job("j" * 50, "ready")]
    async with dashboard(operations).run_test(size=(160, 48)) as pilot:
        app = await opened(pilot, "right")
        row = next(line for line in text_of(app).split("\n") if "jjj" in line and "·   j" in line)
        assert 0 < row.index("color-extraction") - row.rindex("j") < 5


@pytest.mark.parametrize("key", ["x", "R", "c", "X", "enter"])
@pytest.mark.parametrize("lists", range(5))
async def test_a_key_on_an_empty_list_says_so(key: str, lists: int) -> None:
    operations = CannedOperations(HEALTHY)
    operations.jobs.kept = []
    async with dashboard(operations).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot, *["right"] * lists, key)
        await until(pilot, lambda: "no job is listed" in notices(app))
    assert operations.done == []


@pytest.mark.slow
async def test_enter_opens_all_of_a_job_with_its_stack_and_log_and_verbs_work_there() -> None:
    operations = CannedOperations(HEALTHY)
    async with dashboard(operations).run_test(size=(120, 48)) as pilot:
        app = await opened(pilot, "enter")
        await until(pilot, lambda: "httpx/_transports/default.py:394" in text_of(app))
        shown = text_of(app)
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
        await until(pilot, lambda: "has no job 'dress-17'" in text_of(app))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, JobsScreen))


@pytest.mark.slow
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
        assert "dress-17" in text_of(app)


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
        await until(pilot, lambda: "why" in text_of(app))
        assert "[red]" in text_of(app)
        assert not bad & set(text_of(app))
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
        await until(pilot, lambda: isinstance(app.screen, JobScreen) and "handler.py" in text_of(app))
        assert "\\x1b[31m" in text_of(app)
        assert not bad & set(text_of(app))
        await pilot.press("escape", "left")
        await until(pilot, lambda: isinstance(app.screen, JobsScreen) and "Schedules 1" in text_of(app))
        await until(pilot, lambda: "1 schedule" in text_of(app))
        assert "[red]" in text_of(app)
        assert not bad & set(text_of(app))
        await pilot.press("R")
        asked = await answer(pilot, "n")
        assert not bad & set(asked)


@pytest.mark.slow
async def test_a_job_that_has_ended_is_read_once_and_the_last_one_shown_is_the_one_under_the_cursor() -> None:
    operations = CannedOperations(HEALTHY)
    operations.jobs.kept = [job("a", "failed"), job("b", "failed"), job("c", "failed")]
    async with dashboard(operations).run_test(size=(160, 48)) as pilot:
        app = await opened(pilot, "right", "right", "right", "right")
        await until(pilot, lambda: "7: view 2 has it" in text_of(app))
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
        await until(pilot, lambda: " c · color-extraction" in text_of(app) and "7: view 2" in text_of(app))


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


@pytest.mark.slow
async def test_s_sorts_by_a_column_over_all_pages() -> None:
    operations = CannedOperations(HEALTHY)
    operations.jobs.kept = [
        job(f"dress-{number}", "failed", error=f"E{number % 2}: x", attempt=number) for number in range(120)
    ]
    async with dashboard(operations).run_test(size=(160, 48)) as pilot:
        app = await opened(pilot, "left", "left")
        await until(pilot, lambda: "dress-0 " in text_of(app))
        await pilot.press("s")
        await until(pilot, lambda: "Sort by" in text_of(app))
        await pilot.press("down", "down", "down", "down", "enter")  # as listed, job, queue, function, att
        await until(pilot, lambda: "by att ↓" in text_of(app) and "dress-119" in text_of(app))
        assert jobs_screen(app).table.items[0].key == "dress-119"
        await press(pilot, "n")
        await until(pilot, lambda: jobs_screen(app).table.items[-1].key == "dress-0")
        await pilot.press("s")
        await until(pilot, lambda: "Sort by" in text_of(app))
        await pilot.press("s")
        await until(pilot, lambda: "by att ↑" in text_of(app))
        await until(pilot, lambda: jobs_screen(app).table.items[0].key == "dress-0")
        await press(pilot, "right")
        await until(pilot, lambda: "weather-hourly" in text_of(app))
        await pilot.press("s")
        await until(pilot, lambda: "Sort by" in text_of(app))
        await pilot.press("down", "enter")
        await until(pilot, lambda: "by schedule ↑" in text_of(app))


@pytest.mark.slow
async def test_the_first_ready_jobs_are_sorted_and_the_dialog_and_the_title_say_what_that_covers() -> None:
    operations = CannedOperations(HEALTHY)
    operations.jobs.kept = [job(f"dress-{number}", "ready", attempt=number % 7) for number in range(2_001)]
    async with dashboard(operations).run_test(size=(160, 48)) as pilot:
        app = await opened(pilot, "right")
        await until(pilot, lambda: "in the order of their queues" in text_of(app))
        await pilot.press("s")
        await until(pilot, lambda: "so the first 2,000 in that" in text_of(app))
        assert "That of ready jobs is the one in which" in text_of(app)
        await pilot.press("down", "down", "down", "down", "enter")  # as listed, job, queue, function, att
        await until(
            pilot, lambda: "100 jobs on this page · of the first 2,000 · by att ↓ · page 1" in text_of(app)
        )
        table = jobs_screen(app).table
        assert [one.attempt for one in table.items[:2]] == [6, 6]
        assert "in the order of their queues" not in text_of(app)
        operations.jobs.kept.pop()
        await until(pilot, lambda: "100 jobs on this page · by att ↓ · page 1" in text_of(app))


@pytest.mark.slow
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
        await until(pilot, lambda: "for worker:box-9: esc shows all" in text_of(app))
        await press(pilot, "escape")
        await press(pilot, "left")
        await pilot.press("slash", *"nightly", "enter")
        await until(pilot, lambda: "1 schedule" in text_of(app) and "colors-nightly" in text_of(app))


@pytest.mark.slow
async def test_the_footer_over_schedules_has_their_keys() -> None:
    async with dashboard(CannedOperations(HEALTHY)).run_test(size=(160, 48)) as pilot:
        app = await opened(pilot)

        def footer() -> str:
            return str(app.screen.query_one(KeyBar).render())

        assert "x Abort" in footer()
        assert "p Disable" not in footer()
        await press(pilot, "left")
        await until(pilot, lambda: "p Disable or enable" in footer())
        assert "R Run now" in footer()
        assert "Abort" not in footer()
        await press(pilot, "right")
        await until(pilot, lambda: "x Abort" in footer())


@pytest.mark.slow
async def test_every_key_that_changes_the_list_also_leaves_an_empty_one() -> None:
    async with dashboard(CannedOperations(HEALTHY)).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot, "slash", *"queue:moderation-review", "enter")
        await until(pilot, lambda: "no job runs" in text_of(app))
        for key, tab in (("l", "ready"), ("h", "running"), ("right", "ready"), ("left", "running")):
            await press(pilot, key)
            assert jobs_screen(app).state.filter.tab == tab, key
