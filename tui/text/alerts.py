"""Turns alerts into lines, and finds their sections in the runbook."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from rich.text import Text

from tui.text.format import SHORT_TIME_CHARS, clock_time, escape, escape_lines, long_duration
from tui.text.styles import ACCENT, BREACH, MUTED, WATCH
from workers.monitoring.alert_rules import BY_NAME
from workers.monitoring.snapshot import Alert

RUNBOOK = Path(__file__).parents[2] / "docs" / "operating.md"
"""In a checkout and in a wheel it lies next to the packages."""
_MAX_RUNBOOK_CHARS = 200_000
_UNITS = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_BEGINNING = re.compile(r"\*\*|\s*([-*+]|\d+\.)\s|\||#| {4}|<")
"""Begins a paragraph, an item, a row of a table or code."""
_TIME = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|min|m|h|d)\s*")


def alert_key(alert: Alert) -> str:
    """Return the same for the same alert."""
    return f"{alert.name}|{alert.queue or ''}|{alert.subject}"


def alert_lines(alert: Alert, now: float) -> list[Text]:
    """Return what is wrong and for how long; and what an operator has decided."""
    sign, style = _sign(alert)
    first = Text.assemble((f" {sign} ", style), (f"{escape(alert.queue or 'cluster')}  ", "bold"))
    first.append(escape(alert.message), style if alert.fires else "")
    details: list[str] = [BY_NAME[alert.name].severity, alert.state]
    if alert.since is not None:
        details.append(f"for {long_duration(max(0.0, now - alert.since))}")
    if alert.acknowledged_by:
        reason = f": {escape(alert.acknowledge_reason)}" if alert.acknowledge_reason else ""
        details.append(f"by {escape(alert.acknowledged_by)}{reason}")
    if alert.silenced_by:
        reason = f": {escape(alert.silence_reason)}" if alert.silence_reason else ""
        until = clock_time(alert.silenced_until, max_chars=SHORT_TIME_CHARS)
        silenced = "silenced " if alert.state == "pending" else ""
        details.append(f"{silenced}by {escape(alert.silenced_by)} until {until}{reason}")
    return [first, Text(f"   {alert.name} · {' · '.join(details)}", MUTED)]


def other_counts(alerts: Iterable[Alert]) -> str:
    """Return ``, 1 pending, 2 silenced``: how many do not fire, and why; empty if all do."""
    kinds = Counter(_kind(alert) for alert in alerts if not alert.fires)
    return "".join(
        f", {kinds[kind]} {kind}" for kind in ("pending", "silenced", "for information") if kinds[kind]
    )


def _kind(alert: Alert) -> str:
    if alert.severity == "information":
        return "for information"
    return "silenced" if alert.is_silenced else "pending"


def _sign(alert: Alert) -> tuple[str, str]:
    if alert.severity == "information":
        return "·", MUTED
    if alert.state == "pending":
        return "◐", WATCH
    return ("▲", BREACH) if alert.fires else ("▲", MUTED)


def parse_time(text: str) -> float:
    """Parse ``30 min``, ``4h`` or ``2 d``.  Raises ValueError."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError("write a number and a unit: 30 min, 4 h, 2 d")
    return float(match[1]) * _UNITS[match[2]]


def runbook(name: str) -> Text:
    """Return the section of an alert in the runbook; its rule if the runbook cannot be read."""
    rule = BY_NAME[name]
    text = Text(f"{rule.title}\n", "bold")
    try:
        with RUNBOOK.open(encoding="utf-8") as file:
            page = file.read(_MAX_RUNBOOK_CHARS)
    except (OSError, ValueError):
        page = ""
    section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    if section is None:
        limit = "" if rule.limit is None else f"{rule.limit:g} {rule.unit}"
        breach = rule.breach.replace("{limit}", limit)
        return text.append(f"\nBreaches when {breach}.\nEnds when {rule.end}.\n")
    for line in _reflow(escape_lines(section[1].strip()).split("\n")):
        text.append_text(_markdown_line(line)).append("\n")
    return text


def _reflow(lines: Iterable[str]) -> list[str]:
    """Join the lines of each paragraph and of each item of a list; code stays as it is."""
    flowed, is_code = [""], False
    for line in lines:
        is_fence = line.startswith("```")
        begins = not line or not flowed[-1] or is_code or is_fence or _BEGINNING.match(line)
        if begins or flowed[-1].startswith("```"):
            flowed.append(line)
        else:
            flowed[-1] += f" {line.lstrip()}"
        is_code ^= is_fence
    return flowed[1:]


def _markdown_line(line: str) -> Text:
    text = Text()
    for part in re.split(r"(\*\*.+?\*\*|`[^`]+`)", line):
        if part.startswith("**"):
            text.append(part.strip("*"), "bold")
        elif part.startswith("`"):
            text.append(part.strip("`"), ACCENT)
        else:
            text.append(part)
    return text
