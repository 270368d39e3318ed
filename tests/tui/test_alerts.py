"""The list of alerts: what an operator decides about each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from textual.containers import VerticalScroll
from textual.pilot import Pilot
from textual.widgets import Input, Static

from tests.support.dashboards import text_of
from tests.support.fake_moments import BREACHED, HEALTHY, NASTY, NOW
from tests.support.fake_operations import CannedOperations
from tui.app import Dashboard
from tui.dialogs.alerts import AlertsDialog, RunbookDialog
from tui.dialogs.confirm import Confirm
from tui.dialogs.prompt import Prompt
from tui.text import alerts as alert_text
from workers.errors import NotFoundError
from workers.monitoring.alert_rules import RULES
from workers.monitoring.snapshot import Alert
from workers.operations.operations import Operations

SILENCED = Alert(
    "alert-fanout",
    "failing",
    "7 % failed",
    state="silenced",
    silenced_by="ops",
    silenced_until=NOW + 60,
    silence_reason=NASTY,
)


async def until(pilot: Pilot[Any], condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await pilot.pause(0.01)


async def opened(operations: CannedOperations, pilot: Pilot[Any]) -> Dashboard:
    app = cast(Dashboard, pilot.app)
    await until(pilot, lambda: app.session.snapshot)
    await pilot.press("a")
    await until(pilot, lambda: isinstance(app.screen, AlertsDialog))
    return app


def dashboard(operations: CannedOperations) -> Dashboard:
    return Dashboard(cast(Operations, operations))


async def test_c_acknowledges_the_alert_under_the_cursor() -> None:
    operations = CannedOperations(BREACHED)
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        await opened(operations, pilot)
        await pilot.press("down", "c")
        await until(pilot, lambda: operations.done)
    assert operations.done == [("acknowledge", "backlog", "weather-ingestion")]


async def test_s_silences_for_the_time_that_is_written() -> None:
    operations = CannedOperations(BREACHED)
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        app = await opened(operations, pilot)
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, Prompt))
        app.screen.query_one(Input).value = "soon"
        await pilot.press("enter")
        assert isinstance(app.screen, Prompt)
        app.screen.query_one(Input).value = "30 min"
        await pilot.press("enter")
        await until(pilot, lambda: operations.done)
    assert operations.done == [("silence", "failing", "moderation-review", 1_800.0, "")]


async def test_u_ends_a_silence_after_a_question() -> None:
    operations = CannedOperations(replace(HEALTHY, alerts=(SILENCED,)))
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        app = await opened(operations, pilot)
        await pilot.press("u")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: operations.done)
    assert operations.done == [("end silence", "failing", "alert-fanout")]


@pytest.mark.slow
async def test_a_pending_alert_that_is_silenced_says_so_and_does_not_spoil_the_verdict() -> None:
    pending = replace(SILENCED, state="pending")
    operations = CannedOperations(
        replace(HEALTHY, alerts=(pending, replace(BREACHED.alerts[0], state="pending")))
    )
    async with dashboard(operations).run_test(size=(120, 36)) as pilot:
        app = await opened(operations, pilot)
        await until(
            pilot, lambda: "2 pending" not in text_of(app) and "1 pending, 1 silenced" in text_of(app)
        )
        assert "failing · warning · pending · silenced by ops until" in text_of(app)
        operations.now = replace(HEALTHY, alerts=(pending,))
        app.session.refresh()
        await until(pilot, lambda: "✔ all well" in text_of(app))
        assert "1 silenced" in text_of(app).splitlines()[2]
        await until(pilot, lambda: "none fires, 1 silenced" in text_of(app))
        await pilot.press("u")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: operations.done)
    assert operations.done == [("end silence", "failing", "alert-fanout")]


@pytest.mark.parametrize("key", ["c", "s", "u", "enter"])
async def test_every_key_says_why_it_does_nothing_without_an_alert(key: str) -> None:
    operations = CannedOperations(HEALTHY)
    async with dashboard(operations).run_test(size=(80, 24)) as pilot:
        app = await opened(operations, pilot)
        await pilot.press(key)
        await until(pilot, lambda: app._notifications)
        assert operations.done == []


async def test_enter_shows_the_runbook_and_escape_leads_back() -> None:
    operations = CannedOperations(BREACHED)
    async with dashboard(operations).run_test(size=(80, 24)) as pilot:
        app = await opened(operations, pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, RunbookDialog))
        assert "Meaning." in str(app.screen.query_one("#runbook", Static).render())
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, AlertsDialog))
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, AlertsDialog))


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_a_runbook_has_no_room_to_spare_below_its_text_and_its_key_is_in_sight(
    size: tuple[int, int],
) -> None:
    operations = CannedOperations(BREACHED)
    async with dashboard(operations).run_test(size=size) as pilot:
        app = await opened(operations, pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, RunbookDialog))
        await until(pilot, lambda: "esc close" in text_of(app))
        text, scroll = app.screen.query_one("#runbook"), app.screen.query_one(VerticalScroll)
        assert scroll.size.height == min(text.size.height, int(size[1] * 0.65))


async def test_the_keys_of_the_alerts_stand_on_one_line() -> None:
    operations = CannedOperations(BREACHED)
    async with dashboard(operations).run_test(size=(80, 24)) as pilot:
        app = await opened(operations, pilot)
        await until(pilot, lambda: "esc close" in text_of(app))


async def test_a_refused_decision_shows_its_error() -> None:
    operations = CannedOperations(BREACHED)
    operations.alerts.error = NotFoundError("no alert 'failing' fires")
    async with dashboard(operations).run_test(size=(80, 24)) as pilot:
        app = await opened(operations, pilot)
        await pilot.press("c")
        await until(pilot, lambda: app._notifications)
        assert "fires" in next(iter(app._notifications)).message


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_alert_has_a_runbook(rule: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    page = alert_text.runbook(rule.name).plain
    assert "Meaning." in page
    paragraphs = [line for line in page.split("\n")[1:] if line and line[0] not in "-|`0123456789"]
    words = ("Meaning.", "How bad.", "Keys.", "Look at.", "Do.", "Over when")
    assert [line for line in paragraphs if not line.startswith(words)] == []
    monkeypatch.setattr(alert_text, "RUNBOOK", alert_text.RUNBOOK / "missing")
    assert "Breaches when" in alert_text.runbook(rule.name).plain


def test_reasons_and_messages_of_alerts_are_shown_literally() -> None:
    hostile = replace(SILENCED, message=NASTY)
    for line in alert_text.alert_lines(hostile, NOW):
        assert "\x1b" not in line.plain
        assert "[red]not markup[/]" in line.plain


@pytest.mark.parametrize(
    ("written", "seconds"), [("30 min", 1_800.0), ("4h", 14_400.0), ("2 d", 172_800.0), ("90s", 90.0)]
)
def test_times_are_written_as_they_are_shown(written: str, seconds: float) -> None:
    assert alert_text.parse_time(written) == seconds


@pytest.mark.parametrize("written", ["", "soon", "4", "-1 h", "1 h 2 min x"])
def test_a_text_that_is_no_time_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="number and a unit"):
        alert_text.parse_time(written)


async def test_an_alert_that_begins_to_fire_is_announced_once_and_not_at_the_start() -> None:
    operations = CannedOperations(replace(BREACHED, alerts=BREACHED.alerts[:1]))
    app = dashboard(operations)
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: app.session.snapshot)
        await pilot.pause(0.1)
        assert not app._notifications
        operations.now = replace(
            BREACHED, alerts=(replace(BREACHED.alerts[0], message=NASTY), *BREACHED.alerts)
        )
        for _ in range(3):
            app.session.refresh()
            await pilot.pause(0.1)
        assert [note.message for note in app._notifications] == ["▲ weather-ingestion: 132 queued, limit 100"]


async def test_there_are_never_more_than_three_notices() -> None:
    app = dashboard(CannedOperations(HEALTHY))
    async with app.run_test(size=(120, 36)) as pilot:
        for number in range(10):
            app.notify(f"notice {number}", markup=False)
        await until(pilot, lambda: app._notifications)
        await pilot.pause(0.1)
        assert [note.message for note in app._notifications] == [f"notice {number}" for number in (7, 8, 9)]
