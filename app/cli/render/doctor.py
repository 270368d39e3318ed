"""The findings as lines for people: sign, word, name, finding; then what follows and how to fix it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import groupby

from app.doctor.results import CheckResult, State, count_in_state
from tui.text.format import escape
from workers.words import plural

_STATES: dict[State, tuple[str, str, int]] = {
    "ok": ("✓", "+", 32),
    "warning": ("!", "!", 33),
    "wrong": ("✗", "x", 31),
    "unknown": ("?", "?", 36),
}
"""Sign, the same in ASCII, and colour."""
_STATE_CHARS = max(map(len, _STATES))
_MIN_TEXT_COLUMNS = 20
"""If fewer columns are left for findings next to the names, they stand below them."""
_INDENT_COLUMNS = 4


def findings_text(results: Sequence[CheckResult], *, width: int | None, colour: bool, encoding: str) -> str:
    """Return a line for each check, and further, indented ones if ``width`` columns need them.

    If ``width`` is None, there is one line always.
    """
    name = max(len(result.check) for result in results)
    lines = []
    for group, members in groupby(results, key=lambda result: result.group):
        lines.append(group)
        for result in members:
            lines += _lines(result, name, width, colour=colour)
    last = [summary(results)] if width is None else textwrap.wrap(summary(results), width)
    return _to_encodable("\n".join([*lines, "", *last]), encoding)


def _lines(result: CheckResult, name: int, width: int | None, *, colour: bool) -> list[str]:
    finding = result.finding
    sign, _, number = _STATES[finding.state]
    head = f"  {sign} {finding.state.ljust(_STATE_CHARS)} "
    label = f"{result.check.ljust(name)}  "
    fix = f"fix: {finding.fix}" if finding.fix else ""
    parts = [escape(part) for part in (finding.text, finding.consequence, fix) if part]
    full = "; ".join(parts).replace("?; ", "? ").replace(".; ", ". ")
    first = f"\x1b[{number}m{head}\x1b[0m" if colour else head
    indent = len(head + label)
    if width is None or indent + len(full) <= width:
        return [f"{first}{label}{full}"]
    if width - indent < _MIN_TEXT_COLUMNS:
        indent = _INDENT_COLUMNS
    body = [line for part in parts for line in textwrap.wrap(part, width - indent, break_on_hyphens=False)]
    details = [f"{' ' * indent}{line}" for line in body]
    if indent == _INDENT_COLUMNS:
        return [f"{first}{result.check}", *details]
    return [f"{first}{label}{body[0]}", *details[1:]]


def summary(results: Sequence[CheckResult]) -> str:
    """Return ``23 checks: 20 ok, 2 warnings, 1 wrong``, and which of them are."""
    warnings, wrong, unknown = (count_in_state(state, results) for state in ("warning", "wrong", "unknown"))
    parts = [
        f"{count_in_state('ok', results)} ok",
        plural(warnings, "warning"),
        f"{wrong} wrong",
    ]
    parts += [f"{unknown} unknown"] if unknown else []
    states = ", ".join(
        f"{result.group} {result.check}" for result in results if result.finding.state == "wrong"
    )
    return f"{len(results)} checks: {', '.join(parts)}" + (f" ({states})" if states else "")


def _to_encodable(text: str, encoding: str) -> str:
    """Write signs in ASCII if the output has no others."""
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        for sign, plain in (*(signs[:2] for signs in _STATES.values()), ("×", "x"), ("…", "...")):
            text = text.replace(sign, plain)
    return text
