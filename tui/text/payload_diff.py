"""The changes of an edit to a payload, as coloured lines."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from typing import Any

from rich.text import Text

from tui.text.format import clip, escape_lines
from tui.text.styles import BREACH, MUTED, OK
from workers.words import plural

_CONTEXT_LINES = 3
_MAX_COMPARED_LINES = 2_000
"""Lines that are compared with each other, which takes up to the square of their number."""
_MAX_SHOWN_LINES = 1_000
_MAX_LINE_CHARS = 500


def payload_diff(before: Any, after: Any) -> Text:
    """Return the lines of indented JSON that are removed (``-``) and added (``+``), with some around them."""
    old, new = _lines(before), _lines(after)
    text = Text()
    shown = 0
    for shown, line in enumerate(_changes(old, new), 1):
        if shown > _MAX_SHOWN_LINES:
            text.append(f" … and more: {plural(len(old), 'line')} before, {len(new):,} after\n", MUTED)
            break
        style = {"+": OK, "-": BREACH}.get(line[:1], MUTED)
        text.append(f" {clip(line, _MAX_LINE_CHARS)}\n", style)
    return text if shown else Text(" only the order of names or spaces differs\n", MUTED)


def changed_lines(before: Any, after: Any) -> tuple[int, int]:
    """Return how many lines are removed, and how many added."""
    lines = list(_changes(_lines(before), _lines(after)))
    return sum(line.startswith("-") for line in lines), sum(line.startswith("+") for line in lines)


def _changes(old: list[str], new: list[str]) -> Iterator[str]:
    if max(len(old), len(new)) <= _MAX_COMPARED_LINES:
        compared = difflib.unified_diff(old, new, n=_CONTEXT_LINES, lineterm="")
        yield from list(compared)[2:]  # without the names of files
        return
    first = next((at for at, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), None)
    if first is None:
        first = min(len(old), len(new))
    last = 0
    while last < min(len(old), len(new)) - first and old[-1 - last] == new[-1 - last]:
        last += 1
    yield from (f" {line}" for line in old[max(0, first - _CONTEXT_LINES) : first])
    yield from (f"-{line}" for line in old[first : len(old) - last])
    yield from (f"+{line}" for line in new[first : len(new) - last])


def _lines(value: Any) -> list[str]:
    return escape_lines(json.dumps(value, indent=2, ensure_ascii=False)).split("\n")
