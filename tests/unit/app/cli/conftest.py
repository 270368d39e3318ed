"""A letter, its group and hostile text to be printed."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from storage.dead_letters.plans import PlanItem
from storage.dead_letters.records import DeadLetter, FailureGroup
from tests.support.fake_moments import NOW
from workers.monitoring.snapshot import Alert

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


def item(letter_id: int, state: str, **changes: Any) -> PlanItem:
    made = PlanItem(letter_id, 3, letter_id, state, None, None, AT, None)
    return replace(made, **changes)


GROUP = FailureGroup("0123456789abcdef", 1234, AT, AT, (0,) * 22 + (1, 8), LETTER)


STATES = (
    Alert("color-extraction", "backlog", "132 queued, limit 100", since=NOW - 150),
    Alert(
        "alert-fanout",
        "failing",
        "7% \x1b[31mof attempts failed",
        state="acknowledged",
        since=NOW - 7_300,
        acknowledged_by="anna",
    ),
    Alert(None, "redis", "Redis does not answer", "critical", state="pending"),
    Alert(
        "color-extraction",
        "slow",
        "wait p95 4.1 s",
        state="silenced",
        since=NOW - 3 * 86_400,
        silenced_by="bo",
        silenced_until=NOW + 600,
        silence_reason="CDN is down",
    ),
)
