"""Snapshots and dead letters as the command line prints them."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from app import commands
from app.report import letter_text, letters_text, status_text
from storage.dead_letters import DeadLetter
from tests.tui.canned import AWAY, BREACHED, HEALTHY, IDLE
from workers.snapshot import Pause

HOSTILE = "\x1b[31mred\x1b[0m \x07\r\x00\x9b2J \u202e"
AT = datetime(2026, 3, 1, 14, 32, 7, tzinfo=UTC)
LETTER = DeadLetter(
    uid="u1",
    queue_name="color-extraction",
    job_id="job-1",
    function="extract_colors",
    job_data={"function": "extract_colors", "kwargs": {"item_id": "dress-17", "image": "dress.jpg"}},
    error_type="PermanentError",
    error_message="no file 'dress.jpg'",
    traceback=None,
    fingerprint="f",
    attempts=2,
    attempt_errors=[
        {
            "attempt": number,
            "at": AT.timestamp() + number,
            "worker": "w1",
            "error_type": "PermanentError",
            "message": f"message {number}",
            "traceback": "Traceback (most recent call last):\n  boom\n" if number == 2 else None,
            "run_seconds": 0.25,
        }
        for number in (1, 2)
    ],
    worker="w1",
    enqueued_at=AT,
    failed_at=AT,
    replay_of=None,
    id=17,
    state="dead",
    replay_count=0,
    root_id=None,
    deaths=1,
    replayed_at=None,
)


def control_characters(text: str) -> list[str]:
    return re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


def test_status_has_a_row_for_each_queue_under_its_headings() -> None:
    head, *rows = status_text(HEALTHY).split("\n")[:5]
    assert head.split("  ")[0] == "queue"
    assert [row.split()[0] for row in rows] == [queue.name for queue in HEALTHY.queues]
    assert rows[2].split()[1:4] == ["0", "–", "2/5"]
    right = head.index("in flight") + len("in flight")
    assert all(row[right - 1].isdigit() and row[right] == " " for row in rows)


def test_status_begins_with_what_is_wrong() -> None:
    shown = status_text(BREACHED).split("\n")
    assert shown[0].startswith("! moderation-review: 7.1")
    assert shown[1] == "! weather-ingestion: 132 queued, limit 100"


def test_status_says_who_paused_a_queue_and_why() -> None:
    assert "paused by ops@box-2: model rollout" in status_text(BREACHED)
    assert "paused" not in status_text(HEALTHY)


def test_what_was_not_measured_is_a_dash_and_never_zero() -> None:
    row = status_text(IDLE).split("\n")[1].split()
    assert row[2] == "–"
    assert row[4:7] == ["–", "–", "–"]


def test_status_names_the_servers_that_are_away() -> None:
    last = status_text(AWAY).split("\n")[-1]
    assert "redis ConnectionError: connection refused" in last
    assert "database connection refused" in last
    assert "wait for the database" not in status_text(HEALTHY)
    waiting = status_text(replace(HEALTHY, letters_waiting=3)).split("\n")[-1]
    assert waiting.endswith("3 wait for the database")


def test_a_reason_cannot_add_lines_to_the_status() -> None:
    queue = replace(HEALTHY.queues[0], paused=Pause("ops", "a\nb\x1b[31m", 0.0))
    shown = status_text(replace(HEALTHY, queues=(queue,)))
    assert "paused by ops: a\\x0ab\\x1b[31m" in shown


def test_a_list_has_a_row_for_each_letter() -> None:
    second = replace(LETTER, id=8, attempts=4, error_message="x" * 300)
    head, first, other = letters_text([LETTER, second]).split("\n")
    assert head.split() == ["id", "failed", "at", "queue", "job", "att", "error"]
    assert first.startswith("17  2026-03-01 14:32:07  color-extraction  job-1    2  PermanentError: no file")
    assert other.startswith(" 8  ")
    assert len(other) < 170


def test_an_empty_list_says_so() -> None:
    assert letters_text([]) == "no dead letters"


def test_a_letter_is_one_row_whatever_it_holds() -> None:
    hostile = replace(LETTER, job_id=f"a\nb{HOSTILE}", error_message=f"first\nsecond {HOSTILE}")
    shown = letters_text([hostile])
    assert len(shown.split("\n")) == 2
    assert control_characters(shown) == []


def test_a_letter_shows_its_payload_and_every_attempt() -> None:
    shown = letter_text(LETTER)
    assert shown.startswith("17  color-extraction  extract_colors  job job-1\n")
    assert "state dead · 2 attempts · failed at 2026-03-01 14:32:07 UTC" in shown
    assert '  "item_id": "dress-17"' in shown
    assert "attempt 1 at 14:32:08 on w1, ran 250 ms\nmessage 1" in shown
    assert "attempt 2 at 14:32:09 on w1, ran 250 ms\nTraceback (most recent call last):\n  boom" in shown


def test_a_letter_whose_job_could_not_be_read_shows_its_bytes() -> None:
    assert '"unreadable": "\\\\xff"' in letter_text(replace(LETTER, job_data={"unreadable": "\\xff"}))


def test_what_a_payload_holds_is_printed_and_not_interpreted(capsys: pytest.CaptureFixture[str]) -> None:
    data = {"kwargs": {"item_id": HOSTILE, "image": "\ud800"}}
    commands._print(letter_text(replace(LETTER, job_data=data, error_message=HOSTILE, job_id=HOSTILE)))
    shown = capsys.readouterr().out
    assert control_characters(shown) == []
    assert "\\x1b[31mred" in shown
    assert "\\x9b2J" in shown
    assert "\\u202e" in shown
    assert "\\ud800" in shown
    assert '"item_id"' in shown


@pytest.mark.parametrize("odd", [1e300, -1e300, 10**400, math.nan, math.inf, None, "nan", "soon", []])
def test_an_attempt_whose_times_cannot_be_read_is_shown_with_dashes(odd: Any) -> None:
    attempt = {**LETTER.attempt_errors[0], "at": odd, "run_seconds": odd}
    shown = letter_text(replace(LETTER, attempt_errors=[attempt, {}]))
    assert "attempt 1 at – on w1, ran –\nmessage 1" in shown
    assert shown.endswith("attempt – at – on –, ran –\n–")
