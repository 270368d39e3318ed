"""Text from jobs and other programs is shown as it is, on every view, and the terminal obeys none of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
from textual.pilot import Pilot
from textual.widgets import TextArea

from tests.support.dashboards import dashboard, settled, until
from tests.support.fake_busy import BUSY
from tests.support.fake_cache import entry
from tests.support.fake_jobs import SCHEDULES, job
from tests.support.fake_letters import item, letter, plan
from tests.support.fake_operations import CannedOperations
from tests.support.fake_signals import event
from tests.support.fake_workers import DRAINING, process
from tui.app import Dashboard
from workers.errors import ConflictError
from workers.monitoring.snapshot import Pause

MARK = "[red]"
"""Begins each text: it must be seen as it is."""
KINDS = {
    "markup": "[/] [@click=app.quit]x[/] \\[b]",
    "ansi": "\x1b[31mA\x1b[2J\x1b[?1049l\x1bc",
    "osc": "\x1b]0;title\x07\x1b]52;c;QUJD\x1b\\",
    "c1": "\x9b31mA\x9d0;title\x9c\x85",
    "bidirectional": "\u202e\u2066\u200f\u061c\u2069",
    "control": "\x01\x07\x08\x0b\x0c\x7f",
    "lines": "a\nb\r\nc\td\u2028e\u2029",
    "nul": "a\x00b",
    "surrogates": "\ud800\udfff",
}
KINDS["all"] = "".join(KINDS.values())
OBEYED = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that a terminal obeys, or that reorder those after them."""
OURS = re.compile(r"\x1b\[[\d;:]*m")
"""Sequences that Textual writes between the texts of a frame: colours."""

VIEWS: dict[str, Sequence[str]] = {
    "overview": ("1",),
    "alerts": ("1", "a"),
    "queue": ("1", "enter"),
    "pause": ("1", "p"),
    "groups": ("2",),
    "group replay": ("2", "R"),
    "group discard": ("2", "d"),
    "letters": ("2", "g"),
    "letter": ("2", "g", "enter"),
    "letter replay": ("2", "g", "R"),
    "edit": ("2", "g", "e"),
    "diff": ("2", "g", "e", "delete", "delete", "{", "ctrl+s"),
    "filter": ("2", "slash", "q"),
    "plans": ("2", "P"),
    "plan": ("2", "P", "enter"),
    "plan letters": ("2", "P", "enter", "l"),
    "jobs": ("3",),
    "job": ("3", "enter"),
    "abort": ("3", "x"),
    "schedules": ("3", "left"),
    "workers": ("4",),
    "worker": ("4", "enter"),
    "drain": ("4", "D"),
    "cache": ("5",),
    "entry": ("5", "enter"),
    "evict": ("5", "x"),
    "user": ("5", "u"),
    "events": ("6",),
}
"""Keys that lead to each, from any other."""
WITHOUT_TEXT = {"pause", "filter", "edit", "group replay"}
"""Show none of it, or in another form."""


def hostile_operations(text: str) -> CannedOperations:
    """Everything that others can write has this text."""
    operations = CannedOperations(
        replace(
            BUSY,
            queues=tuple(replace(queue, paused=Pause(text, text, None)) for queue in BUSY.queues),
            alerts=tuple(replace(alert, message=text) for alert in BUSY.alerts),
            workers=(
                process(
                    1, host=text, release=text, version=text, queues=(text,), settings={text: {text: text}}
                ),
                replace(DRAINING, host=text, release=text),
            ),
        )
    )
    attempt = dict.fromkeys(("worker", "error_type", "message", "traceback", "release"), text)
    attempt |= {"attempt": 1, "at": 1.0, "run_seconds": 1.0, "log": [text]}  # type: ignore[dict-item]
    operations.letters.kept = [
        letter(number, job_id=text, function=text, error_type=text, error_message=text, worker=text,
               release=text, job_data={"kwargs": {text: text}}, traceback=text, attempt_errors=[attempt],
               fingerprint="f" * 16)
        for number in (1, 2)
    ]  # fmt: skip
    operations.letters.kept_plans = [
        plan(1, actor=text, reason=text, selection={"filter": text}, note=text, state="halted", active=False)
    ]
    operations.letters.items = [item(1, note=text, state="skipped")]
    operations.jobs.kept = [job(text, function=text, worker_name=text, error=text, problem=text)]
    operations.jobs.payload, operations.jobs.why_sentence = {text: text}, text
    operations.schedules.kept = [replace(SCHEDULES[1], name=text, expression=text, disabled_reason=text)]
    operations.cache.kept = [entry(f"{text}:a:b")]
    operations.cache.value = {text: text}
    operations.events.kept = [event(1, "new-release", text, subject=text, queue=text, actor=text)]
    return operations


def frame(app: Dashboard) -> str:
    """Return the lines that a full repaint writes to the terminal, without the colours."""
    lines = app.screen._compositor.render_strips()
    return "\n".join(OURS.sub("", strip.render(app.console)) for strip in lines)


def check(app: Dashboard, name: str) -> str:
    """Return the screen, after a check that the terminal obeys nothing on it."""
    shown = frame(app)
    obeyed = OBEYED.search(shown)
    assert obeyed is None, (name, obeyed, shown)
    return shown


async def leave_dialogs(app: Dashboard, pilot: Pilot[Any]) -> None:
    for _ in range(4):
        if len(app.screen_stack) > 1:
            await pilot.press("escape")
            await settled(pilot)
            if app.screen.query("#yes"):  # leave without a replay
                await pilot.press("y")
                await settled(pilot)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind == "all" else pytest.mark.slow) for kind in KINDS]
)
async def test_text_from_others_is_shown_and_never_obeyed(kind: str) -> None:
    text = MARK + KINDS[kind]
    operations = hostile_operations(text)
    app = dashboard(operations)
    async with app.run_test(size=(160, 48)) as pilot:
        await settled(pilot)
        for name, keys in VIEWS.items():
            await leave_dialogs(app, pilot)
            if keys[0] == "2" and app.current_mode == "letters":
                await back_to_groups(app, pilot)
            for key in keys:
                await pilot.press(key)
                await settled(pilot)
            if name == "diff":
                assert len(app.screen_stack) > 1
            shown = check(app, name)
            assert name in WITHOUT_TEXT or MARK in shown, (name, shown)


async def back_to_groups(app: Dashboard, pilot: Pilot[Any]) -> None:
    await pilot.press("2", "escape")
    await settled(pilot)
    if not cast(Any, app.screen).state.grouped:
        await pilot.press("g")
        await settled(pilot)


async def test_an_error_with_hostile_text_is_a_notice_that_shows_it() -> None:
    operations = hostile_operations(MARK + KINDS["all"])
    app = dashboard(operations)
    async with app.run_test(size=(160, 48)) as pilot:
        await settled(pilot)
        operations.error = ConflictError(MARK + KINDS["all"])
        await pilot.press("2", "r")
        await until(pilot, lambda: app._notifications)
        await until(pilot, lambda: MARK in check(app, "notice"))
        operations.error = None


@pytest.mark.slow
async def test_what_is_edited_and_copied_has_no_control_characters() -> None:
    app = dashboard(hostile_operations(MARK + KINDS["all"]))
    copied: list[str] = []
    app.copy_to_clipboard = copied.append  # type: ignore[method-assign]
    async with app.run_test(size=(160, 48)) as pilot:
        await settled(pilot)
        await pilot.press("2")
        await settled(pilot)
        await pilot.press("g")
        await settled(pilot)
        await pilot.press("enter")
        await settled(pilot)
        await pilot.press("y", "Y")
        await pilot.press("e")
        await settled(pilot)
        edited = app.screen.query_one(TextArea).text
    assert len(copied) == 2
    for text in (edited, *copied):
        assert OBEYED.search(text) is None
        assert MARK in text
