"""Jobs of a dead worker, and jobs that cannot be read again, are not shown as running."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.dashboards import dashboard, notices, text_of, title, until
from tests.support.fake_jobs import job
from tests.support.fake_moments import AWAY, HEALTHY
from tests.support.fake_operations import CannedOperations
from tests.support.jobs_view import jobs_screen, opened
from tui.screens.jobs.job import JobScreen
from tui.widgets.rule import Rule

WITHOUT_REDIS = replace(HEALTHY, redis=AWAY.redis)
ERROR = RedisConnectionError("connection refused")


async def hangs(*_: Any, **__: Any) -> Any:
    await asyncio.Event().wait()


def heading(app: Any) -> str:
    return str(app.screen.query_one("#job-title", Rule).render())


def row_of(app: Any, key: str) -> str:
    return next(
        line for line in text_of(app).split("\n") if f" {key} " in line and "color-extraction" in line
    )


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_a_job_of_a_dead_worker_is_not_shown_as_running(size: tuple[int, int]) -> None:
    dead = replace(HEALTHY.workers[1], id="w2", state="dead")
    operations = CannedOperations(replace(HEALTHY, workers=(HEALTHY.workers[0], dead)))
    operations.jobs.kept = [job("held", running_for=16.0, deadline_in=44.0), job("runs", worker="w1")]
    async with dashboard(operations).run_test(size=size) as pilot:
        app = await opened(pilot)
        await until(pilot, lambda: "1 held by a dead worker" in title(app))
        held = row_of(app, "held")
        assert "✕" in held
        assert "44 s" not in held
        assert "16 s" not in held
        assert ("dead: box-2:4121" in held) == (size[0] == 160)
        assert "✕" not in row_of(app, "runs")


@pytest.mark.slow
async def test_a_list_that_cannot_be_read_again_shows_its_age_and_no_figure_that_counts_on() -> None:
    operations = CannedOperations(HEALTHY)
    operations.jobs.kept = [job("dress-1", running_for=42.0, deadline_in=18.0)]
    async with dashboard(operations).run_test(size=(160, 48)) as pilot:
        app = await opened(pilot)
        assert "18 s" in row_of(app, "dress-1")
        jobs = jobs_screen(app)
        await pilot.press("1")
        await until(pilot, lambda: not (jobs.is_current or jobs.is_waiting))
        jobs._read_at -= 120
        operations.now, operations.jobs.error = WITHOUT_REDIS, ERROR
        app.session.refresh()
        await until(pilot, lambda: app.session.figures_are_old)
        await pilot.press("3")
        await until(pilot, lambda: "read 2 min ago" in title(app))
        assert "42 s" not in row_of(app, "dress-1")
        assert "18 s" not in row_of(app, "dress-1")
        assert notices(app) == ""
        operations.now, operations.jobs.error = HEALTHY, None
        app.session.refresh()
        await until(pilot, lambda: " ago" not in title(app) and "18 s" in row_of(app, "dress-1"))


async def test_a_job_that_cannot_be_read_says_why_in_one_line_at_once() -> None:
    operations = CannedOperations(HEALTHY)
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot)
        operations.now = WITHOUT_REDIS
        app.session.refresh()
        await until(pilot, lambda: app.session.figures_are_old)
        read, operations.jobs.get = operations.jobs.get, hangs  # type: ignore[method-assign]
        await pilot.press("enter")
        await until(pilot, lambda: "it cannot be read: ConnectionError: connection refused" in text_of(app))
        assert "Payload" not in text_of(app)
        assert "connection refused" not in heading(app)
        operations.jobs.get = read  # type: ignore[method-assign]


async def test_a_job_that_was_read_stays_with_its_age_when_it_cannot_be_read_again() -> None:
    operations = CannedOperations(HEALTHY)
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        app = await opened(pilot, "enter")
        await until(pilot, lambda: isinstance(app.screen, JobScreen) and "handler.py" in text_of(app))
        operations.now, operations.jobs.error = WITHOUT_REDIS, ERROR
        await pilot.press("r")
        await until(pilot, lambda: "it cannot be read: connection refused" in text_of(app))
        assert "Payload" in text_of(app)
        assert " ago" in heading(app)
        operations.now, operations.jobs.error = HEALTHY, None
        await pilot.press("r")
        await until(pilot, lambda: "it cannot be read" not in text_of(app) and " ago" not in heading(app))
