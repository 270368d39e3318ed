"""The view of jobs and the page of one look as before."""

from __future__ import annotations

from typing import Any

import pytest
from textual.pilot import Pilot

from tests.support.dashboards import dashboard, text_of, until
from tests.support.fake_moments import HEALTHY
from tests.support.fake_operations import CannedOperations
from tests.support.jobs_view import opened
from tui.screens.jobs.job import JobScreen

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
        await until(
            pilot, lambda: "payload" in text_of(app) or "when" in text_of(app) or "attempt" in text_of(app)
        )
        await pilot.pause(0.1)

    assert snap_compare(dashboard(CannedOperations(HEALTHY)), terminal_size=size, run_before=open_it)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES[:2], ids=["80x24", "160x48"])
def test_one_job_looks_as_before(snap_compare: Any, size: tuple[int, int]) -> None:
    async def open_it(pilot: Pilot[Any]) -> None:
        app = await opened(pilot, "down", "down", "enter")
        await until(pilot, lambda: isinstance(app.screen, JobScreen) and "default.py:394" in text_of(app))

    assert snap_compare(dashboard(CannedOperations(HEALTHY)), terminal_size=size, run_before=open_it)
