"""The cache as styled lines.  Pure: nothing here knows a widget."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.text import Text

from tui.text.format import (
    byte_size,
    clip,
    clip_middle,
    count,
    duration,
    escape,
    escape_lines,
    first_fitting,
    percent,
    sparkline,
    utc_time,
)
from tui.text.snapshot import BAD, DIM, GOOD, WARN, WIDE
from workers.monitoring import thresholds
from workers.operations.cache import owner_of
from workers.operations.operations import CacheEntry, CacheOverview

_KEY = 40
"""Characters that a key has room for, where the terminal has: so columns are steady from page to page."""
_HOUR = 60
"""Minutes of the sparkline."""
_STATES = {"fresh": (" ", GOOD), "stale": ("○", WARN), "outdated": ("×", DIM), "corrupt": ("▲", BAD)}
_MEANS = {
    "fresh": "served without a thought",
    "stale": "served only where its load fails",
    "outdated": "invalidated, never served again; goes at its end",
    "corrupt": "not written by this program, or without an end; removed when it is read",
}
SIGNS = (
    "fresh       served without a thought, for a minute",
    "○ stale     served only where it cannot be loaded",
    "× outdated  invalidated: never served again, goes at its end",
    "▲ corrupt   not of this program; goes when it is read",
    "●  marked",
)
_LONGEST = 200_000
"""Characters of a value that are shown."""


def head(
    overview: CacheOverview | None, width: int, *, problem: str = "", read_at: float | None = None
) -> Text:
    """Hit rate, its last hour, how reads ended; the memory.  Two lines where there is room, else three.

    A line more says which ``problem`` keeps them as they were at ``read_at``.
    """
    if overview is None:
        return Text(f" ▲ {escape(problem)}\n", BAD) if problem else Text(" reading the figures …\n", DIM)
    rate, reads, memory = lines_of(overview, width)
    lines = [rate + Text("   ") + reads, memory] if width >= WIDE + 10 else [rate, reads, memory]
    if problem:
        lines.insert(0, Text(f" ▲ {escape(problem)} · figures of {utc_time(read_at)}", BAD))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Text("\n", no_wrap=True, overflow="crop").join(lines)


def lines_of(overview: CacheOverview, room: int = 1_000) -> tuple[Text, Text, Text]:
    """Hit rate, how reads ended, memory; the last with the address of the Redis where there is room."""
    return _rate(overview), _reads(overview), _memory(overview, room)


def _rate(overview: CacheOverview) -> Text:
    figures = overview.figures
    text = Text.assemble(" hit rate ", (percent(figures.hit_rate).rjust(7), "bold"), "  ")
    return text.append(sparkline(figures.minutes, _HOUR, scale=1.0), "cyan")


def _reads(overview: CacheOverview) -> Text:
    figures = overview.figures
    text = Text(f" last hour: {count(figures.hits)} hits · {count(figures.misses)} misses · ")
    text.append(f"{count(figures.stale)} stale · ")
    errors = f"{count(figures.errors)} errors"
    return text.append(f"▲ {errors}" if figures.errors else errors, BAD if figures.errors else "")


def _memory(overview: CacheOverview, room: int) -> Text:
    used, limit = overview.memory_used, overview.memory_limit
    text = Text(f" memory {byte_size(used)}")
    if limit is not None and used is not None:
        full = not overview.own and used > limit * thresholds.REDIS_MEMORY  # a cache of its own may be full
        text.append(
            f" of {byte_size(limit)} ({'▲ ' if full else ''}{used / limit * 100:.0f} %)", BAD if full else ""
        )
    elif used is not None:
        text.append(", no limit")
    text.append(f" · {count(overview.evicted, 6)} evicted · {escape(overview.policy or 'policy unknown')} · ")
    text.append("own Redis" if overview.own else "with the jobs")
    url = f" {escape(overview.url)}"
    return text.append(url, DIM) if text.cell_len + len(url) <= room else text


def columns(width: int, longest: int = 0) -> dict[str, int]:
    """The columns of the entries and their widths; the key has what it needs of what the others leave.

    ``longest`` is the number of characters of the longest key.
    """
    chosen = {"": 1, "state": 10, "age": 7, "ttl": 7, "size": 7}
    room = width - sum(chosen.values()) - 2 * (len(chosen) + 1) - 2
    return {"": 1, "key": max(20, min(room, max(longest, _KEY)))} | chosen


def entries(number: int) -> str:
    """``1 entry``, ``1,234 entries``."""
    return f"{count(number)} {'entry' if number == 1 else 'entries'}"


RIGHT = ("age", "ttl", "size")
"""The columns whose titles stand on the right."""


def cells(entry: CacheEntry, widths: Mapping[str, int], *, marked: bool) -> list[Text]:
    """A row of the entries."""
    sign, style = _STATES.get(entry.state, ("?", ""))
    found = {
        "": mark(marked=marked),
        "key": Text(clip_middle(escape(entry.key), widths["key"])),
        "state": Text(f"{sign} {entry.state}", style),
        "age": Text(_brief(entry.age, widths["age"])),
        "ttl": Text(_brief(entry.ttl if entry.ttl > 0 else None, widths["ttl"])),
        "size": Text(byte_size(entry.size).rjust(widths["size"])),
    }
    return [found[name] for name in widths]


def mark(*, marked: bool) -> Text:
    """``●`` for a mark."""
    return Text("●" if marked else " ", "bold")


def _brief(seconds: float | None, room: int) -> str:
    text = duration(seconds)
    return first_fitting(room, text, text.replace(" ", ""), text.partition(" ")[0]).rjust(room)


def facts(entry: CacheEntry) -> list[tuple[str, str]]:
    """What an entry says of itself: names and texts."""
    exact = f" ({count(entry.size)} bytes)" if entry.size >= 1024 else ""
    return [
        ("key", escape(entry.key)),
        ("user", escape(owner_of(entry.key))),
        ("state", f"{entry.state}: {_MEANS.get(entry.state, '')}"),
        ("age", duration(entry.age)),
        ("ttl", duration(entry.ttl) if entry.ttl > 0 else "none: it would never go"),
        ("size", byte_size(entry.size) + exact),
    ]


def detail(entry: CacheEntry, value: Any, *, read_at: float | None, gone: str = "") -> Text:
    """All of an entry; ``gone`` says why there is no value."""
    text = Text()
    for name, shown in (*facts(entry), ("as of", utc_time(read_at, "%H:%M:%S UTC"))):
        text.append(f"  {name:<10}", DIM)
        text.append(f"{shown}\n")
    text.append("\n  Value\n", "bold underline")
    if gone:
        return text.append(f"    {escape(gone)}\n", WARN)
    return text.append(_value(value))


def _value(value: Any) -> str:
    shown = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    more = len(shown) - _LONGEST
    lines = escape_lines(clip(shown, _LONGEST)).split("\n")
    if more > 0:
        lines.append(f"({count(more)} characters more: couturecast-tui cache get shows them)")
    return "".join(f"    {line}\n" for line in lines)
