"""The words of the events that an alert begins and ends."""

from __future__ import annotations

import pytest

from tests.support.alert_records import record
from workers.process.alert_keeper import alert_event


@pytest.mark.parametrize(
    ("alert", "message", "words", "over"),
    [
        (
            *("stalled", "stalled: 5 of 5 run for 31 s", "The queue is stalled: 5 of 5 run for 31 s"),
            "The queue is stalled; last: 5 of 5 run for 31 s",
        ),
        ("redis", *["Redis does not answer: refused"] * 3),
        ("database", "the database does not answer", *["The database does not answer"] * 2),
        ("no_worker", "no worker", *["No worker serves the queue"] * 2),
        (
            *("backlog", "132 queued, limit 100", "Jobs pile up: 132 queued, limit 100"),
            "Jobs pile up; last: 132 queued, limit 100",
        ),
    ],
)
def test_an_event_says_each_thing_once(alert: str, message: str, words: str, over: str) -> None:
    fired = record(alert=alert, message=message)
    assert alert_event("alert-fired", fired).message == words
    assert alert_event("alert-resolved", fired).message == f"over: {over}"
