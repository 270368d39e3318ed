"""Notices: none repeats the banner, equal ones are not stacked, and read-only mode is said at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from redis.exceptions import ReadOnlyError
from textual.screen import ModalScreen

from storage.errors import DatabaseUnavailableError
from tests.support.dashboards import dashboard, messages_handled, notices, text_of, until, words
from tests.support.fake_moments import AWAY, HEALTHY
from tests.support.fake_operations import CannedOperations
from tui.session import READ_ONLY
from workers.monitoring.snapshot import Pause

URL = "postgresql://postgres@/postgres?host=%2Ftmp%2Fsome%2Flong%2Ffolder"
OUTAGE = DatabaseUnavailableError(f"{URL}: connection refused", cause="connection refused")


def fail() -> None:
    raise OUTAGE


async def test_views_that_cannot_be_read_leave_the_outage_to_the_banner() -> None:
    operations = CannedOperations(replace(HEALTHY, database=AWAY.database))
    operations.letters._fails = fail  # type: ignore[method-assign]
    operations.events.error = OUTAGE
    app = dashboard(operations)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "the database does not answer" in words(app))
        for key in ("2", "6", "2"):
            await pilot.press(key)
            await messages_handled(pilot)
        assert notices(app) == ""
        assert URL not in text_of(app)


@pytest.mark.slow
async def test_equal_notices_are_shown_once_and_without_the_url_of_the_database() -> None:
    operations = CannedOperations(HEALTHY)
    operations.letters._fails = fail  # type: ignore[method-assign]
    app = dashboard(operations)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        for key in ("2", "r", "r", "1", "2", "r"):
            await pilot.press(key)
            await messages_handled(pilot)
        assert notices(app) == "the database is unavailable: connection refused"


async def test_a_verb_that_redis_refuses_says_why_and_what_to_do() -> None:
    async def refuse(queue: str, reason: str = "") -> Pause:
        raise ReadOnlyError("You can't write against a read only replica. script: on @user_script:6.")

    operations = CannedOperations(HEALTHY)
    operations.queues.pause = refuse  # type: ignore[method-assign]
    app = dashboard(operations)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        await pilot.press("p", "enter")
        await until(pilot, lambda: notices(app))
    assert notices(app).startswith("Redis is a read-only replica (READONLY: ")
    assert notices(app).endswith("wait until the failover has ended, or name the primary")
    assert "user_script" not in notices(app)


@pytest.mark.parametrize(
    "keys", ["D", "2 R", "2 g R", "2 g d", "2 A", "2 g e", "3 x", "4 D", "5 x", "5 A", "5 u", "1 down p"]
)
async def test_in_read_only_mode_the_header_says_so_and_a_key_is_refused_before_it_asks(keys: str) -> None:
    operations: Any = CannedOperations(HEALTHY)
    operations.read_only = True
    app = dashboard(operations)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "read-only" in words(app))
        for key in keys.split():
            await pilot.press(key)
            await messages_handled(pilot)
            await until(
                pilot,
                lambda: not any(worker.is_running for worker in app.workers if worker.group != "action"),
            )
        await until(pilot, lambda: READ_ONLY in notices(app))
        assert not isinstance(app.screen, ModalScreen)
    assert operations.done == []


async def test_without_workers_the_key_that_requeues_says_that_there_are_none() -> None:
    operations = CannedOperations(HEALTHY)
    operations.has_workers = False
    app = dashboard(operations)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        await pilot.press("!")
        await until(pilot, lambda: "runs no workers" in notices(app))
