"""The findings as lines for people: sign, word, name, finding; then what follows and how to mend it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import groupby

from app.doctor.results import Item, State, number_of
from tui.text.format import escape

_STATES: dict[State, tuple[str, str, int]] = {
    "ok": ("✓", "+", 32),
    "warning": ("!", "!", 33),
    "wrong": ("✗", "x", 31),
    "unknown": ("?", "?", 36),
}
"""Sign, the same in ASCII, and colour."""
_WORD = max(map(len, _STATES))
_LEAST = 20
"""Columns for findings; where there are fewer beside the names, they stand below them."""
_INDENT = 4


def findings_text(items: Sequence[Item], *, width: int | None, colour: bool, encoding: str) -> str:
    """A line a check where ``width`` columns allow it, else further, indented ones; None: one line always."""
    name = max(len(item.check) for item in items)
    lines = []
    for group, members in groupby(items, key=lambda item: item.group):
        lines.append(group)
        for item in members:
            lines += _lines(item, name, width, colour=colour)
    last = [summary(items)] if width is None else textwrap.wrap(summary(items), width)
    return _encodable("\n".join([*lines, "", *last]), encoding)


def _lines(item: Item, name: int, width: int | None, *, colour: bool) -> list[str]:
    found = item.found
    sign, _, number = _STATES[found.state]
    head = f"  {sign} {found.state.ljust(_WORD)} "
    label = f"{item.check.ljust(name)}  "
    mend = f"to mend: {found.mend}" if found.mend else ""
    parts = [escape(each) for each in (found.finding, found.consequence, mend) if each]
    whole = "; ".join(parts).replace("?; ", "? ").replace(".; ", ". ")
    first = f"\x1b[{number}m{head}\x1b[0m" if colour else head
    indent = len(head + label)
    if width is None or indent + len(whole) <= width:
        return [f"{first}{label}{whole}"]
    if width - indent < _LEAST:
        indent = _INDENT
    body = [line for part in parts for line in textwrap.wrap(part, width - indent, break_on_hyphens=False)]
    shown = [f"{' ' * indent}{line}" for line in body]
    if indent == _INDENT:
        return [f"{first}{item.check}", *shown]
    return [f"{first}{label}{body[0]}", *shown[1:]]


def summary(items: Sequence[Item]) -> str:
    """``23 checks: 20 ok, 2 warnings, 1 wrong``, and which of them are."""
    warnings, wrong, unknown = (number_of(state, items) for state in ("warning", "wrong", "unknown"))
    parts = [
        f"{number_of('ok', items)} ok",
        f"{warnings} warning{'' if warnings == 1 else 's'}",
        f"{wrong} wrong",
    ]
    parts += [f"{unknown} unknown"] if unknown else []
    which = ", ".join(f"{item.group} {item.check}" for item in items if item.found.state == "wrong")
    return f"{len(items)} checks: {', '.join(parts)}" + (f" ({which})" if which else "")


def _encodable(text: str, encoding: str) -> str:
    """Signs in ASCII where the output knows no others."""
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        for sign, plain in (*(each[:2] for each in _STATES.values()), ("×", "x"), ("…", "...")):
            text = text.replace(sign, plain)
    return text
