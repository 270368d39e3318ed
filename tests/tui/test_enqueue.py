"""The form of a new job: filled in by keyboard, checked as it is typed, and nothing typed is lost."""

from __future__ import annotations

from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from textual.pilot import Pilot
from textual.widgets import Input, Select, TextArea

from tests.support.dashboards import dashboard, notices, text_of, until
from tests.support.fake_moments import HEALTHY, NASTY
from tests.support.fake_operations import CannedOperations
from tests.support.jobs_view import answer, opened
from tui.app import Dashboard
from tui.dialogs.enqueue import EnqueueDialog
from tui.navigation import OpenQueue
from tui.screens.jobs.job import JobScreen
from tui.screens.jobs.list import JobsScreen
from tui.screens.queues.queue import QueueScreen

WEATHER = {"location_id": "faro", "lat": 37.02, "lon": -7.93}


async def form(pilot: Pilot[Any], queue: str = "color-extraction") -> Dashboard:
    """The form of a queue, from the view of jobs."""
    app = await opened(pilot)
    await pilot.press("slash", *f"queue:{queue}", "enter")
    await until(
        pilot, lambda: f"queue:{queue}" in text_of(app) and not cast(JobsScreen, app.screen).is_waiting
    )
    await pilot.press("e")
    await until(pilot, lambda: isinstance(app.screen, EnqueueDialog) and app.screen.query("Input"))
    await pilot.pause()
    return app


async def test_a_job_is_enqueued_by_keyboard_alone_and_can_be_opened() -> None:
    operations = CannedOperations(HEALTHY)
    async with dashboard(operations).run_test(size=(80, 24)) as pilot:
        app = await form(pilot, "weather-ingestion")
        shown = text_of(app)
        for words in ("location_id *", "lat *", "a number from -90 to 90", "key", "delay"):
            assert words in shown, words
        await pilot.press(*"faro", "tab", *"37.02", "enter", *"-7.93", "tab", *"wx-1", "tab", *"60")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: operations.done)
        await until(pilot, lambda: "enqueued wx-1 in weather-ingestion: o opens it" in notices(app))
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, JobScreen) and "wx-1" in text_of(app))
    assert operations.done == [("enqueue", "weather-ingestion", WEATHER, "wx-1", 60.0)]


@pytest.mark.slow
async def test_a_field_says_what_is_wrong_as_it_is_typed_and_nothing_typed_is_lost() -> None:
    operations = CannedOperations(HEALTHY)
    async with dashboard(operations).run_test(size=(80, 24)) as pilot:
        app = await form(pilot, "weather-ingestion")
        assert "▲" not in text_of(app).partition("location_id *")[2], "nothing is wrong before it is typed"
        await pilot.press(*"faro", "tab", *"91")
        await until(pilot, lambda: "▲ input should be less than or equal to 90" in text_of(app))
        await pilot.press("backspace", "backspace", "x")
        await until(pilot, lambda: "▲ use a number" in text_of(app))
        await pilot.press("backspace", "7", "ctrl+s")
        await until(pilot, lambda: "lon: field required" in text_of(app))
        await until(pilot, lambda: "▲ field required" in text_of(app))  # at the field, too
        assert operations.done == []
        operations.error = RedisConnectionError("Redis is\naway")
        await pilot.press(*"-8", "ctrl+s")
        await until(pilot, lambda: "▲ Redis is" in text_of(app))
        operations.error = None
        values = [field.value for field in app.screen.query(Input)]
        assert values == ["faro", "7", "-8", "", ""]
        await pilot.press("escape")
        assert "What you typed will be lost" in await answer(pilot, "n")
        await until(pilot, lambda: isinstance(app.screen, EnqueueDialog))
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "enqueued new-1" in notices(app))


@pytest.mark.slow
async def test_choices_and_another_queue_keep_what_was_typed() -> None:
    operations = CannedOperations(HEALTHY)
    async with dashboard(operations).run_test(size=(80, 24)) as pilot:
        app = await form(pilot)
        await pilot.press(*"dress-17", "shift+tab", "enter", "up", "up", "enter")
        await until(pilot, lambda: "location_id *" in text_of(app))
        chosen = app.screen.query_one("#queue", Select).value
        app.screen.query_one("#queue", Select).value = "alert-fanout"
        await until(pilot, lambda: "severity *" in text_of(app))
        severity = app.screen.query("FieldInput Select").first(Select)
        severity.focus()
        await pilot.press("enter", "down", "down", "enter")
        await until(pilot, lambda: severity.value == "severe")
        app.screen.query_one("#queue", Select).value = "color-extraction"
        await until(pilot, lambda: "item_id *" in text_of(app) and "dress-17" in text_of(app))
        assert chosen != "color-extraction"
        await pilot.press("escape")
        assert "What you typed will be lost" in await answer(pilot)
        await until(pilot, lambda: isinstance(app.screen, JobsScreen))


@pytest.mark.slow
async def test_a_queue_with_a_handler_of_the_team_takes_any_json_object() -> None:
    operations = CannedOperations(HEALTHY)
    operations.jobs.without_schema = {"color-extraction"}
    async with dashboard(operations).run_test(size=(80, 24)) as pilot:
        app = await form(pilot)
        await until(pilot, lambda: "any JSON object" in text_of(app))
        area = app.screen.query_one(TextArea)
        area.text = "[1"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "▲ not JSON" in text_of(app))
        area.text = '{"a": "' + "x" * 1_100_000 + '"}'
        await pilot.press("ctrl+s")
        await until(
            pilot, lambda: "1,000,000 are allowed" in text_of(app) or "1,048,576 are allowed" in text_of(app)
        )
        assert len(area.text) > 1_100_000
        area.text = '{"a": [1]}'
        await pilot.press("ctrl+o")
        await until(pilot, lambda: isinstance(app.screen, JobScreen))
    assert operations.done == [("enqueue", "color-extraction", {"a": [1]}, None, 0.0)]


@pytest.mark.slow
async def test_a_key_that_is_queued_and_an_invalid_delay_are_named() -> None:
    operations = CannedOperations(HEALTHY)
    operations.jobs.without_schema = {"color-extraction"}
    async with dashboard(operations).run_test(size=(80, 24)) as pilot:
        app = await form(pilot)
        await pilot.press("tab", *"dress-17", "tab", *"soon", "ctrl+s")
        await until(pilot, lambda: "▲ delay: use a number" in text_of(app))
        await pilot.press(*["backspace"] * 4, *"-1", "ctrl+s")
        await until(pilot, lambda: "▲ delay: use 0 seconds to a year" in text_of(app))
        await pilot.press(*["backspace"] * 2, "ctrl+s")
        await until(
            pilot, lambda: "▲ key: dress-17 waits or runs in color-extraction already" in text_of(app)
        )
        assert operations.done == []


@pytest.mark.slow
async def test_in_read_only_mode_no_form_opens_and_without_a_job_o_says_so() -> None:
    operations = CannedOperations(HEALTHY)
    operations.read_only = True
    async with dashboard(operations).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot, "e")
        await until(pilot, lambda: "read-only: that would change" in notices(app))
        assert isinstance(app.screen, JobsScreen)
        await pilot.press("o")
        await until(pilot, lambda: "no job was enqueued from here" in notices(app))


@pytest.mark.slow
@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_the_page_of_a_queue_enqueues_in_that_queue_and_obeys_no_text(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    operations = CannedOperations(HEALTHY)
    field = {"type": "string", "description": NASTY, "default": NASTY}
    schema = {"description": NASTY, "properties": {NASTY: field, "b": {"enum": [NASTY]}}, "required": [NASTY]}
    monkeypatch.setattr(operations.jobs, "payload_schema", lambda queue: schema)
    async with dashboard(operations).run_test(size=size) as pilot:
        app = await opened(pilot)
        app.post_message(OpenQueue("moderation-review"))
        await until(pilot, lambda: isinstance(app.screen, QueueScreen))
        await pilot.press("e")
        await until(pilot, lambda: "queue           moderation-review" in text_of(app))
        await until(pilot, lambda: app.screen.query("Input"))
        await pilot.pause()
        app.screen.query("FieldInput Select").first(Select).focus()
        await pilot.press("enter", "down", "enter", "ctrl+s")
        await until(pilot, lambda: "content_id: field required" in text_of(app))
        assert "[red]" in text_of(app)
        assert not {"\x1b", "\x07", "\u202e"} & set(text_of(app))
