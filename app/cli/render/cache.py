"""The cache as plain text, for the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from app.cli.render.tables import table_text
from tui.text.format import MISSING, byte_size, clip_middle, duration, escape

if TYPE_CHECKING:
    from workers.operations.operations import CacheEntry, CacheOverview

_MIN_KEY_WIDTH = 20
_OTHER_COLUMNS_WIDTH = 40
_MAX_LISTED_KEYS = 10


def entries_text(entries: Sequence[CacheEntry], *, width: int | None, more: bool = False) -> str:
    """Return a row for each entry.

    Keys are cut in their middle to fit ``width`` columns; if it is None, they are not cut.
    """
    if not entries:
        return "no entries on this page" if more else "no entries"
    key_width = None if width is None else max(_MIN_KEY_WIDTH, width - _OTHER_COLUMNS_WIDTH)
    rows = [_row(entry, key_width) for entry in entries]
    return table_text(("key", "state", "age", "ttl", "size"), rows, right=("age", "ttl", "size"))


def _row(entry: CacheEntry, key_width: int | None) -> tuple[str, ...]:
    key = escape(entry.key)
    return (
        key if key_width is None else clip_middle(key, key_width),
        entry.state,
        duration(entry.age),
        duration(entry.ttl) if entry.ttl > 0 else MISSING,
        byte_size(entry.size),
    )


def entry_text(entry: CacheEntry, value: Any) -> str:
    """Return all of an entry, the value as JSON."""
    from tui.text.cache import entry_fields

    lines = [f"{name:<6} {text}" for name, text in entry_fields(entry)]
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    return "\n".join([*lines, "", text])


def stats_text(overview: CacheOverview) -> str:
    """Return the figures of the last hour, and the memory."""
    from tui.text.cache import overview_lines

    return "\n".join(line.plain.strip() for line in overview_lines(overview))


def join_some(keys: Sequence[str]) -> str:
    """Return the first keys, and how many others there are."""
    others = f" and {len(keys) - _MAX_LISTED_KEYS} more" if len(keys) > _MAX_LISTED_KEYS else ""
    return ", ".join(escape(key) for key in keys[:_MAX_LISTED_KEYS]) + others
