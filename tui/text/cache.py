"""Turns the cache's stats and entries into styled lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.text import Text

from tui.text.format import (
    byte_size,
    clip,
    clip_middle,
    clock_time,
    count,
    duration,
    escape,
    escape_lines,
    local_time,
    percent,
    sparkline,
)
from tui.text.sorting import Order, SortColumn, Sorting
from tui.text.styles import ACCENT, BREACH, MARK, MUTED, OK, WATCH, WIDE_COLUMNS
from workers.operations.cache import owner_of
from workers.operations.operations import CacheEntry, CacheOverview
from workers.words import plural

_KEY_WIDTH = 40
"""Columns that a key gets on a wide terminal even if all are shorter, so that all pages have one width."""
_SPARKLINE_MINUTES = 60
_STATES = {
    "fresh": (" ", OK, "served from the cache"),
    "stale": ("○", WATCH, "served only if its load fails"),
    "outdated": ("×", MUTED, "invalidated: never served again, removed when it expires"),
    "corrupt": ("▲", BREACH, "not written by this program, or without expiry: removed when it is read"),
}
"""Sign, style and meaning of the states of an entry."""
LEGEND = (
    *(f"{sign} {state:<10}{meaning}" for state, (sign, _, meaning) in _STATES.items()),
    f"{MARK} marked",
)
_MAX_VALUE_CHARS = 200_000


def header(
    overview: CacheOverview | None, width: int, *, problem: str = "", read_at: float | None = None
) -> Text:
    """Hit rate, its last hour, how reads ended; the memory.  Two lines if ``width`` allows, else three.

    One more line shows the ``problem`` that keeps the stats as they were at ``read_at``.
    """
    if overview is None:
        return Text(f" ▲ {escape(problem)}\n", BREACH) if problem else Text(" reading the figures …\n", MUTED)
    rate, reads, memory = overview_lines(overview, width)
    lines = [rate + Text("   ") + reads, memory] if width >= WIDE_COLUMNS + 10 else [rate, reads, memory]
    if problem:
        lines.insert(0, Text(f" ▲ {escape(problem)} · figures of {clock_time(read_at)}", BREACH))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Text("\n", no_wrap=True, overflow="crop").join(lines)


def overview_lines(overview: CacheOverview, width: int = 1_000) -> tuple[Text, Text, Text]:
    """Hit rate, how reads ended, memory; the last with the URL of the Redis if ``width`` allows."""
    return _rate(overview), _reads(overview), _memory(overview, width)


def _rate(overview: CacheOverview) -> Text:
    stats = overview.stats
    text = Text.assemble(" hit rate ", (percent(stats.hit_rate).rjust(7), "bold"), "  ")
    return text.append(sparkline(stats.minutes, _SPARKLINE_MINUTES, scale=1.0), ACCENT)


def _reads(overview: CacheOverview) -> Text:
    stats = overview.stats
    text = Text(f" last hour: {plural(stats.hits, 'hit')} · {plural(stats.misses, 'miss')} · ")
    text.append(f"{count(stats.stale)} stale · ")
    errors = plural(stats.errors, "error")
    return text.append(f"▲ {errors}" if stats.errors else errors, BREACH if stats.errors else "")


def _memory(overview: CacheOverview, width: int) -> Text:
    used, limit = overview.memory_used, overview.memory_limit
    text = Text(f" memory {byte_size(used)}")
    if limit is not None and used is not None:
        # A Redis of the cache's own may be full: it evicts.
        full = not overview.dedicated and used > limit * overview.nearly_full
        share = f"{'▲ ' if full else ''}{percent(used / limit, 0)}"
        text.append(f" of {byte_size(limit)} ({share})", BREACH if full else "")
    elif used is not None:
        text.append(", no limit")
    text.append(f" · {count(overview.evicted, 6)} evicted · {escape(overview.policy or 'policy unknown')} · ")
    text.append("own Redis" if overview.dedicated else "with the jobs")
    url = f" {escape(overview.url)}"
    return text.append(url, MUTED) if text.cell_len + len(url) <= width else text


def entry_columns(width: int, longest_key: int = 0) -> dict[str, int]:
    """Return the columns of the entries and their widths; the key takes what the others leave.

    ``longest_key``: the number of characters of the longest key.
    """
    others = {"state": 10, "age": 7, "ttl": 7, "size": 7}
    left = width - 1 - sum(others.values()) - 2 * (len(others) + 2) - 2
    return {"": 1, "key": max(20, min(left, max(longest_key, _KEY_WIDTH)))} | others


RIGHT_ALIGNED = ("age", "ttl", "size")
"""The columns whose headings are right-aligned."""
CACHE_SORTING: Sorting[CacheEntry] = Sorting(
    "cache",
    (
        SortColumn("key", lambda entry: entry.key),
        SortColumn("state", lambda entry: entry.state),
        SortColumn("age", lambda entry: entry.age, descending=True),
        SortColumn("ttl", lambda entry: entry.ttl, descending=True),
        SortColumn("size", lambda entry: entry.size, descending=True),
    ),
    Order("key"),
    "Redis lists keys in no order: each page is sorted by itself.",
)


def entry_cells(entry: CacheEntry, widths: Mapping[str, int], *, marked: bool) -> list[Text]:
    """Return a row of the entries."""
    sign, style, _ = _STATES.get(entry.state, ("?", "", ""))
    ttl = entry.ttl if entry.ttl > 0 else None
    cells = {
        "": mark_cell(marked=marked),
        "key": Text(clip_middle(escape(entry.key), widths["key"])),
        "state": Text(f"{sign} {entry.state}", style),
        "age": Text(duration(entry.age, widths["age"]).rjust(widths["age"])),
        "ttl": Text(duration(ttl, widths["ttl"]).rjust(widths["ttl"])),
        "size": Text(byte_size(entry.size).rjust(widths["size"])),
    }
    return [cells[name] for name in widths]


def mark_cell(*, marked: bool) -> Text:
    """Return the sign of a marked row."""
    return Text(MARK if marked else " ", ACCENT)


def entry_fields(entry: CacheEntry) -> list[tuple[str, str]]:
    """Return an entry's fields: labels and texts."""
    bytes_ = f" ({count(entry.size)} bytes)" if entry.size >= 1024 else ""
    _, _, meaning = _STATES.get(entry.state, ("", "", ""))
    return [
        ("key", escape(entry.key)),
        ("user", escape(owner_of(entry.key))),
        ("state", f"{entry.state}: {meaning}"),
        ("age", duration(entry.age)),
        ("ttl", duration(entry.ttl) if entry.ttl > 0 else "none: it would never expire"),
        ("size", byte_size(entry.size) + bytes_),
    ]


def detail(entry: CacheEntry, value: Any, *, read_at: float | None, missing_reason: str = "") -> Text:
    """Return all of an entry; ``missing_reason`` explains why there is no value."""
    text = Text()
    for label, field in (*entry_fields(entry), ("as of", local_time(read_at, "%H:%M:%S %Z"))):
        text.append(f"  {label:<10}", MUTED)
        text.append(f"{field}\n")
    text.append("\n  Value\n", "bold underline")
    if missing_reason:
        return text.append(f"    {escape(missing_reason)}\n", WATCH)
    return text.append(_value(value))


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    lines = escape_lines(clip(text, _MAX_VALUE_CHARS)).split("\n")
    more = len(text) - _MAX_VALUE_CHARS
    if more > 0:
        lines.append(f"({count(more)} characters more: couturecast-tui cache get shows them)")
    return "".join(f"    {line}\n" for line in lines)
