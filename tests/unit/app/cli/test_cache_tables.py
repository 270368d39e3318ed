"""The cache as text on the command line."""

from __future__ import annotations

from dataclasses import replace

from app.cli.render.cache import entries_text, entry_text, join_some, stats_text
from tests.support.fake_cache import CACHE, ENTRIES, entry
from tests.support.fake_moments import NASTY


def test_a_row_an_entry_with_units_on_the_right() -> None:
    lines = entries_text(ENTRIES, width=None).split("\n")
    assert lines[0].split() == ["key", "state", "age", "ttl", "size"]
    assert lines[1].split() == [
        "anna-1:lisboa:2026-03-01T12",
        "fresh",
        "12",
        "s",
        "14",
        "min",
        "48",
        "s",
        "968",
        "B",
    ]
    assert len({len(line) for line in lines[1:]}) == 1
    corrupt = next(line for line in lines if "corrupt" in line)
    assert corrupt.split()[-4:] == ["–", "–", "7", "B"]
    assert "\x1b" not in corrupt
    assert "\u202e" not in corrupt


def test_on_a_terminal_long_keys_are_cut_in_their_middle() -> None:
    lines = entries_text([entry(f"anna:{'x' * 300}:2026-03-01T12")], width=80).split("\n")
    assert max(map(len, lines)) <= 80
    assert lines[1].startswith("anna:")
    assert ":2026-03-01T12" in lines[1]


def test_no_entries() -> None:
    assert entries_text([], width=80) == "no entries"
    assert entries_text([], width=80, more=True) == "no entries on this page"


def test_an_entry_with_its_value() -> None:
    text = entry_text(ENTRIES[0], {"style": NASTY})
    assert text.startswith("key    anna-1:lisboa:2026-03-01T12\nuser   anna-1\nstate  fresh: served")
    assert text.endswith("}")
    assert entry_text(ENTRIES[0], "no JSON").endswith("\n\nno JSON")


def test_the_figures_in_three_lines() -> None:
    lines = stats_text(CACHE).split("\n")
    assert lines[0].startswith("hit rate  93.5 %")
    assert lines[1] == "last hour: 45,210 hits · 3,120 misses · 14 stale · 0 errors"
    assert lines[2].endswith("own Redis rediss://cache.example.com:6379/0")
    assert (
        stats_text(replace(CACHE, memory_used=None, memory_limit=None, evicted=None, policy=None))
        .split("\n")[2]
        .startswith("memory – · – evicted · policy unknown")
    )


def test_many_keys_are_named_by_their_first() -> None:
    assert join_some(["a", "b\x1b"]) == "a, b\\x1b"
    assert join_some([str(n) for n in range(12)]).endswith("8, 9 and 2 more")
