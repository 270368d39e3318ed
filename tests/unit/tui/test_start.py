"""The start of the dashboard in the event loop of the workers."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from structlog.testing import capture_logs
from textual.pilot import Pilot

from tests.support.fake_moments import HEALTHY
from tests.support.fake_operations import CannedOperations
from tui.app import Dashboard
from tui.widgets.key_bar import KeyBar
from workers.operations.operations import Operations


def _make_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    """Stand in for Python 3.12's ``eager_task_factory``."""
    return asyncio.Task(coroutine, loop=loop, **options)


async def test_the_dashboard_leaves_it_to_the_loop_when_tasks_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """From Python 3.12 on Textual has all tasks of the loop begin at once, those of the workers, too."""
    if not hasattr(asyncio, "eager_task_factory"):
        monkeypatch.setattr(asyncio, "eager_task_factory", _make_task, raising=False)
    factories: list[Any] = []
    keys: list[str] = []

    async def look(pilot: Pilot[Any]) -> None:
        await pilot.pause()
        factories.append(asyncio.get_running_loop().get_task_factory())
        keys.append(str(pilot.app.screen.query_one(KeyBar).render()))
        pilot.app.exit()

    with capture_logs() as lines:
        await Dashboard(cast(Operations, CannedOperations(HEALTHY))).run_async(
            headless=True, size=(80, 24), auto_pilot=look
        )
    assert factories == [None]
    assert "Quit" in keys[0]
    assert [line for line in lines if line["log_level"] == "error"] == []
