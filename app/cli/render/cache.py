"""The cache as plain text, for the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from app.cli.render.status import table
from tui.text import cache as cache_text
from tui.text.format import MISSING, byte_size, clip_middle, duration, escape
from workers.operations.operations import CacheEntry, CacheOverview

_NARROWEST = 20
_OTHERS = 40
"""Characters that the columns beside the key take."""
_MOST = 10


def entries_text(entries: Sequence[CacheEntry], *, width: int | None, more: bool = False) -> str:
    """A row an entry; keys are cut to ``width`` columns, and not at all where that is None."""
    if not entries:
        return "no entries on this page" if more else "no entries"
    room = None if width is None else max(_NARROWEST, width - _OTHERS)
    rows = [("key", "state", "age", "ttl", "size"), *(_row(each, room) for each in entries)]
    return "\n".join(table(rows, right=(2, 3, 4)))


def _row(entry: CacheEntry, room: int | None) -> tuple[str, ...]:
    key = escape(entry.key)
    return (
        key if room is None else clip_middle(key, room),
        entry.state,
        duration(entry.age),
        duration(entry.ttl) if entry.ttl > 0 else MISSING,
        byte_size(entry.size),
    )


def entry_text(entry: CacheEntry, value: Any) -> str:
    """All of an entry, the value as JSON."""
    lines = [f"{name:<6} {shown}" for name, shown in cache_text.entry_fields(entry)]
    shown = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    return "\n".join([*lines, "", shown])


def stats_text(overview: CacheOverview) -> str:
    """The figures of the last hour, and the memory."""
    return "\n".join(line.plain.strip() for line in cache_text.overview_lines(overview))


def listed(keys: Sequence[str]) -> str:
    """The first keys, and how many there are beyond them."""
    more = f" and {len(keys) - _MOST} more" if len(keys) > _MOST else ""
    return ", ".join(escape(key) for key in keys[:_MOST]) + more
