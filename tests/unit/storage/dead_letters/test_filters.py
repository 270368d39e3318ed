"""A filter is read from words, and written as them; what cannot be meant is told in one line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.dead_letters.filters import STATES, LetterFilter
from storage.errors import InvalidFilterError

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
FILTERS = st.builds(
    LetterFilter,
    queue=st.none() | WORDS,
    function=st.none() | WORDS,
    state=st.none() | st.sampled_from(STATES),
    since=st.none() | TIMES,
    until=st.none() | TIMES,
    error=st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=3, max_size=20),
    fingerprint=st.none() | st.text("0123456789abcdef", min_size=16, max_size=16),
    args=st.dictionaries(WORDS.filter(lambda name: ":" not in name), WORDS, max_size=3),
    poison=st.none() | st.booleans(),
    archived=st.booleans(),
)


@given(FILTERS)
def test_a_filter_reads_its_own_line(letter_filter: LetterFilter) -> None:
    assert LetterFilter.parse(letter_filter.to_query()) == letter_filter


@pytest.mark.parametrize(
    ("line", "conditions"),
    [
        ("", {}),
        ("queue:alert-fanout", {"queue": "alert-fanout"}),
        ("state:all", {"state": None}),
        ("state:discarded poison:no", {"state": "discarded", "poison": False}),
        ("connection refused", {"error": "connection refused"}),
        ('"connection  refused" 503', {"error": "connection  refused 503"}),
        ("error:503 from", {"error": "503 from"}),
        ("error:http://example.com", {"error": "http://example.com"}),
        ("http://example.com", {"error": "http://example.com"}),
        ("arg.city:lisboa arg.n:1", {"args": {"city": "lisboa", "n": "1"}}),
        ("arg.url:http://x", {"args": {"url": "http://x"}}),
        ("arg.:x", {"error": "arg.:x"}),
        (
            "since:2026-03-01 until:2026-03-02T12:00+02:00",
            {"since": "2026-03-01", "until": "2026-03-02T10:00"},
        ),
        ("archived:yes", {"archived": True}),
    ],
)
def test_a_line_means(line: str, conditions: dict[str, Any]) -> None:
    assert LetterFilter.parse(line) == LetterFilter(**conditions)


def test_a_time_ago_is_reckoned_from_now() -> None:
    before = datetime.now(UTC)
    found = LetterFilter.parse("since:2h").since
    assert found is not None
    assert abs(found - (before - timedelta(hours=2))) < timedelta(seconds=10)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("state:gone", "state: use dead, replayed, discarded or all"),
        ("since:soon", "since: use for instance 2h"),
        ("since:999999w", "since: is outside of the calendar"),
        ("until:0001-01-01T00:00:00+14:00", "until: is outside of the calendar"),
        ("ab", "error: "),
        ("fingerprint:xyz", "fingerprint: use the 16 hexadecimal digits"),
        ("poison:perhaps", "poison: "),
        ("queue:", "queue: "),
        ("arg.city:", "arg.city: "),
        ('"open', "a quotation mark is not closed"),
        ("x" * 201, "error: "),
        (" ".join(f"arg.a{n}:1" for n in range(9)), "args: "),
    ],
)
def test_invalid_filters_give_one_line_errors(line: str, message: str) -> None:
    with pytest.raises(InvalidFilterError) as refused:
        LetterFilter.parse(line)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_an_unknown_condition_is_refused() -> None:
    with pytest.raises(InvalidFilterError, match="colour"):
        LetterFilter.from_options(colour="red")


def test_a_filter_cannot_be_changed_behind_ones_back() -> None:
    with pytest.raises(ValueError, match="frozen"):
        LetterFilter().queue = "x"  # type: ignore[misc]
