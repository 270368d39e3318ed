"""A slow connection delivers several keys at once: they do what they would do one by one."""

from __future__ import annotations

from typing import Any, cast

import pytest
from textual import events
from textual.driver import Driver
from textual.keys import _character_to_key
from textual.pilot import Pilot
from textual.widgets import Input

from tests.support.dashboards import dashboard, text_of, until
from tests.support.fake_moments import HEALTHY
from tests.support.fake_operations import CannedOperations
from tui.screens.events.list import EventsScreen
from tui.screens.jobs.list import JobsScreen


def arrive(pilot: Pilot[Any], *keys: str) -> None:
    """All keys in one read of the terminal."""
    for key in keys:
        name = _character_to_key(key) if len(key) == 1 else key
        cast(Driver, pilot.app._driver).send_message(events.Key(name, key if len(key) == 1 else None))


async def test_what_is_typed_behind_a_key_that_opens_a_field_goes_to_that_field() -> None:
    app = dashboard(CannedOperations(HEALTHY))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        arrive(pilot, "3", "/", *"queue:color-extraction", "enter")
        await until(pilot, lambda: "/ queue:color-extraction" in text_of(app))
        assert isinstance(app.screen, JobsScreen)
        assert app.is_running


async def test_a_key_that_edits_a_field_stays_before_what_is_typed_after_it() -> None:
    app = dashboard(CannedOperations(HEALTHY))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        arrive(pilot, "3", "/", *"worker:12", "backspace", "backspace", *"77", "home", *"x")
        await until(pilot, lambda: [field.value for field in app.screen.query(Input)] == ["xworker:77"])


async def test_a_dialog_takes_the_answer_that_was_typed_ahead() -> None:
    operations = CannedOperations(HEALTHY)
    app = dashboard(operations)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        arrive(pilot, "p", *"a rollout", "enter", "down", "p", "enter")
        await until(pilot, lambda: len(operations.done) == 2)
    assert [done[2] for done in operations.done] == ["a rollout", ""]
    assert operations.done[0][1] != operations.done[1][1]


@pytest.mark.slow
async def test_what_is_typed_behind_the_key_that_closes_a_dialog_goes_to_the_view() -> None:
    operations = CannedOperations(HEALTHY)
    app = dashboard(operations)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        arrive(pilot, "p", "x", "enter", "3")
        await until(pilot, lambda: isinstance(app.screen, JobsScreen))
        arrive(pilot, "question_mark", "escape", "1", "p", "y", "enter", "down", "p", "z", "enter", "6")
        await until(pilot, lambda: isinstance(app.screen, EventsScreen))
    assert [done[2] for done in operations.done] == ["x", "y", "z"]
