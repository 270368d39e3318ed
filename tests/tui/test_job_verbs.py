"""Every verb on jobs and schedules, by its key: what it asks, and what it does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.dashboards import dashboard, notices, text_of, until
from tests.support.fake_moments import AWAY, DRAINING, HEALTHY
from tests.support.fake_operations import CannedOperations
from tests.support.jobs_view import answer, opened, press
from tui.dialogs.prompt import Prompt
from tui.screens.jobs.list import JobsScreen


@pytest.mark.slow
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


@pytest.mark.slow
async def test_c_duplicates_one_job_without_a_question_and_several_after_one() -> None:
    operations = CannedOperations(HEALTHY)
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot, "c")
        await until(pilot, lambda: len(operations.done) == 1)
        await until(pilot, lambda: not any(worker.group == "action" for worker in app.workers))
        for key in ("home", "space", "space", "space"):
            await press(pilot, key)
        await until(pilot, lambda: "3 marked" in text_of(app))
        await pilot.press("c")
        assert "Duplicate 3 jobs?" in await answer(pilot)
        await until(pilot, lambda: len(operations.done) == 3)
        await until(pilot, lambda: "3 jobs duplicated" in notices(app))
        await until(pilot, lambda: "marked" not in text_of(app))
    assert {queue for _, queue, _ in operations.done} == {"color-extraction", "weather-ingestion"}


@pytest.mark.slow
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


@pytest.mark.parametrize("key", ["x", "R", "c", "X"])
async def test_in_read_only_mode_a_verb_is_refused_before_it_asks(key: str) -> None:
    operations = CannedOperations(HEALTHY)
    operations.read_only = True
    async with dashboard(operations).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot, key)
        await until(pilot, lambda: "read-only: that would change" in notices(app))
        assert isinstance(app.screen, JobsScreen)
    assert operations.done == []


@pytest.mark.slow
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


@pytest.mark.slow
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
        await until(pilot, lambda: "marked" not in text_of(app))
    done = {queue: [ref[0] for ref in refs] for name, queue, refs in operations.done if name == verb}
    assert done == {"color-extraction": ["dress-17", "coat-4"], "weather-ingestion": ["wx-lisboa-931"]}


@pytest.mark.slow
@pytest.mark.parametrize("key", ["x", "R", "c", "X", "p", "enter", "e", "o", "s", "n", "b"])
@pytest.mark.parametrize("lists", range(6))
async def test_each_key_does_something_on_each_row_or_says_why_not(key: str, lists: int) -> None:
    operations = CannedOperations(HEALTHY)
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot, *["right"] * lists)
        before = (text_of(app), len(app.screen_stack))
        await pilot.press(key)
        await until(
            pilot, lambda: notices(app) or operations.done or (text_of(app), len(app.screen_stack)) != before
        )
