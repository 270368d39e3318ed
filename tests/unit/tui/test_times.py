"""Times in the zone of the terminal, and durations in words."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from pydantic import TypeAdapter

from storage.dead_letters.filters import LetterFilter, Time
from storage.errors import InvalidFilterError
from storage.repositories.events import EventFilter
from tui.text.format import (
    MISSING,
    SHORT_TIME_CHARS,
    clock_time,
    duration,
    local_log,
    local_time,
    long_duration,
    utc_offset,
)
from tui.text.words import DATE_TIME_ZONE

AT = datetime(2026, 7, 1, 22, 45, 7, tzinfo=UTC)
WINTER = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    def use(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield use
    monkeypatch.undo()
    assert os.environ["TZ"] == "UTC"
    time.tzset()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("UTC", "2026-07-01 22:45:07 UTC"),
        ("Europe/Lisbon", "2026-07-01 23:45:07 WEST"),
        ("Asia/Kolkata", "2026-07-02 04:15:07 IST"),
        ("America/New_York", "2026-07-01 18:45:07 EDT"),
        ("XYZ-3:30", "2026-07-02 02:15:07 XYZ"),
    ],
)
def test_times_are_in_the_zone_that_tz_names(zone: Callable[[str], None], name: str, shown: str) -> None:
    zone(name)
    assert local_time(AT, DATE_TIME_ZONE) == shown
    assert local_time(AT.timestamp(), DATE_TIME_ZONE) == shown
    assert local_time(AT.astimezone(), DATE_TIME_ZONE) == shown


def test_summer_and_winter_time_are_those_of_the_date_and_not_of_today(zone: Callable[[str], None]) -> None:
    zone("Europe/Lisbon")
    assert local_time(WINTER, "%H:%M %Z") == "12:00 WET"
    assert local_time(AT, "%H:%M %Z") == "23:45 WEST"
    assert (utc_offset(WINTER.timestamp()), utc_offset(AT.timestamp())) == (0.0, 3_600.0)


def test_a_time_has_its_date_once_it_is_not_of_today_in_that_zone(zone: Callable[[str], None]) -> None:
    later = AT.timestamp() + 2 * 3_600
    zone("UTC")
    assert clock_time(AT, AT.timestamp()) == "22:45:07"
    assert clock_time(AT, later) == "2026-07-01 22:45:07"
    assert clock_time(AT, later, SHORT_TIME_CHARS) == "07-01 22:45"
    zone("Asia/Kolkata")  # both are on the second of July there
    assert clock_time(AT, later) == "04:15:07"
    assert clock_time(AT) == "2026-07-02 04:15:07"
    assert clock_time(time.time()) == local_time(time.time())


@pytest.mark.parametrize("value", [None, "soon", float("nan"), float("inf"), 1e30, -1e30, [], object()])
def test_what_is_not_a_time_is_a_dash(value: object) -> None:
    assert (local_time(value), clock_time(value)) == (MISSING, MISSING)


@pytest.mark.parametrize(
    ("seconds", "words", "narrow", "sentence"),
    [
        (None, MISSING, MISSING, MISSING),
        (0.0, "0 ms", "0 ms", "0 ms"),
        (0.0042, "4 ms", "4 ms", "4 ms"),
        (0.9999, "1.0 s", "1.0 s", "1 s"),
        (59.7, "1 min", "1 min", "1 min"),
        (0.31, "310 ms", "310 ms", "310 ms"),
        (1.24, "1.2 s", "1.2 s", "1 s"),
        (12.2, "12 s", "12 s", "12 s"),
        (60.0, "1 min", "1 min", "1 min"),
        (118.0, "1 min 58 s", "1m 58s", "2 min"),
        (128.0, "2 min 8 s", "2m 08s", "2 min"),
        (240.0, "4 min", "4 min", "4 min"),
        (12_000.0, "3 h 20 min", "3h 20m", "3 h 20 min"),
        (11_100.0, "3 h 5 min", "3h 05m", "3 h 5 min"),
        (86_399.7, "1 d", "1 d", "24 h"),
        (176_400.0, "2 d 1 h", "2d 01h", "2 d"),
    ],
)
def test_durations_are_in_words_and_shorter_in_a_narrow_column(
    seconds: float | None, words: str, narrow: str, sentence: str
) -> None:
    assert (duration(seconds), duration(seconds, 6), long_duration(seconds)) == (words, narrow, sentence)


def test_a_decimal_is_dropped_before_the_unit() -> None:
    assert [duration(2.24, chars) for chars in (5, 4, 3)] == ["2.2 s", "2.2s", "2s"]


def test_a_duration_never_passes_its_column() -> None:
    for seconds in (0.0004, 0.9996, 9.96, 59.6, 3_599.6, 86_399.4, 1e9):
        for chars in range(3, 12):
            assert len(duration(seconds, chars)) <= chars


def test_a_filter_takes_times_as_they_are_shown_and_http_takes_utc(zone: Callable[[str], None]) -> None:
    zone("Asia/Kolkata")
    shown = clock_time(AT)
    assert LetterFilter.from_options(since=shown).since == AT
    assert EventFilter.from_options(until=shown).until == AT
    assert LetterFilter.from_options(since="2026-07-01T22:45:07+00:00").since == AT
    assert TypeAdapter(Time).validate_python("2026-07-01T22:45:07") == AT
    with pytest.raises(InvalidFilterError):
        LetterFilter.from_options(since="0001-01-01")


def test_the_log_of_a_job_has_the_zone_of_the_terminal(zone: Callable[[str], None]) -> None:
    zone("Asia/Kolkata")
    lines = ["2026-07-01T22:45:07.123Z info resized", "Traceback:", "2026-07-01T25:00:00.000Z no time", ""]
    assert local_log(lines) == ["2026-07-02 04:15:07 info resized", *lines[1:]]
