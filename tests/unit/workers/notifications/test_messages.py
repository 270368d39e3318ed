"""Messages are short, plain, and have nothing that a service interprets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.alert_records import later, record
from workers.monitoring.alert_rules import Thresholds
from workers.notifications.decisions import DueLine
from workers.notifications.messages import compose, plain, trial

BACKLOG = DueLine(record(), "fired")
NO_WORKER = DueLine(record(id=2, alert="no_worker", message="no worker", value=None), "fired")
OVER = DueLine(record(id=3, resolved_at=later(11)), "resolved")


def test_a_message_names_environment_severity_queue_figure_limit_and_how_long() -> None:
    message = compose([BACKLOG], "production", later(1))
    assert message.title == "CoutureCast production: warning"
    assert message.tone == "warning"
    assert message.body == (
        "color-extraction backlog: 132 queued, limit 100, for 2 min\nMore: couturecast-tui alerts list"
    )


def test_how_long_a_breach_lasts_counts_from_its_begin_by_the_durations_of_the_settings() -> None:
    message = compose([BACKLOG], "production", later(1), thresholds=Thresholds(durations={"backlog": 540}))
    assert ", for 10 min" in message.body


def test_alerts_of_one_moment_are_lines_of_one_message_with_the_worst_in_the_title() -> None:
    message = compose([NO_WORKER, BACKLOG, OVER], "staging", later(1))
    assert message.title == "CoutureCast staging: critical, 3 alerts"
    assert message.tone == "failure"
    assert message.body.splitlines()[:-1] == [
        "color-extraction no worker: no worker, for 1 min",
        "warning: color-extraction backlog: 132 queued, limit 100, for 2 min",
        "color-extraction backlog: resolved after 12 min, was: 132 queued, limit 100",
    ]


def test_what_is_over_is_a_success() -> None:
    message = compose([OVER], "staging", later(11))
    assert (message.title, message.tone) == ("CoutureCast staging: resolved", "success")


def test_a_doubled_figure_is_marked_and_a_duration_written_once() -> None:
    stalled = record(alert="stalled", message="stalled: 7 ready, none for 40 s")
    message = compose([DueLine(stalled, "doubled")], "local", later(3))
    assert message.body.splitlines()[0] == "color-extraction stalled, doubled: 7 ready, none for 40 s"


def test_an_alert_whose_message_has_no_duration_gets_it() -> None:
    stalled = record(alert="stalled", message="no job can run: no module shop", value=None)
    (line, _) = compose([DueLine(stalled, "fired")], "local", later(3)).body.splitlines()
    assert line == "color-extraction stalled: no job can run: no module shop, for 3 min"


def test_an_alert_of_a_server_has_no_queue_and_one_of_a_newer_version_is_a_warning() -> None:
    redis = record(alert="redis", queue="", message="Redis does not answer: connection refused")
    (line, _) = compose([DueLine(redis, "fired")], "local", later(0)).body.splitlines()
    assert line == "redis: Redis does not answer: connection refused"
    assert compose([DueLine(record(alert="newer"), "fired")], "local", later(0)).tone == "warning"


def test_many_alerts_are_ten_lines_and_a_count_of_the_rest() -> None:
    lines = [DueLine(record(id=number, message="x" * 400), "fired") for number in range(30)]
    message = compose(lines, "local", later(0), note="Further messages wait.")
    written = message.body.splitlines()
    assert written[10:] == [
        "20 more are left out",
        "Further messages wait.",
        "More: couturecast-tui alerts list",
    ]
    assert len(message.body) < 2000
    assert compose(lines[:11], "local", later(0)).body.splitlines()[10] == "1 more is left out"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\nlines\r\x00\x1b[31m", "two lines (31m"),
        ("<!channel> <@U1>", "\u2039!channel\u203a \u2039@\u2060U1\u203a"),
        ("@everyone", "@\u2060everyone"),
        ("[here](https://example.com)", "(here)(https\u2060://example.com)"),
        ("`rm`", "'rm'"),
        ("a\u202eb\u2066c\u200bd", "a b c d"),
        ("half \ud800", "half \\ud800"),
        ("redis://host", "redis://host"),
    ],
)
def test_text_from_anywhere_is_data(text: str, shown: str) -> None:
    assert plain(text) == shown


@given(st.text())
def test_any_text_is_one_line_without_markup(text: str) -> None:
    shown = plain(text)
    shown.encode()
    assert len(shown.splitlines()) <= 1
    assert not set(shown) & set("<>`[]\x00\x1b\u202e")


def test_hostile_text_breaks_no_line_wherever_it_comes_from() -> None:
    hostile = "a\n<b>@all"
    alert = replace(record(), message=hostile, queue=hostile, alert=hostile)
    message = compose([DueLine(alert, "fired")], hostile, later(0))
    assert len(message.body.splitlines()) == 2
    assert "<" not in message.title + message.body
    assert "\n" not in trial(hostile).title
