"""Writes the messages about alerts.  Pure.

Text from jobs, hosts and servers is data: it becomes one line without control characters, and without what
services take for markup, a link or a person's name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from storage.repositories.alert_history import AlertRecord
from workers.monitoring.alert_rules import BY_NAME, DEFAULTS, RULES, Severity, Thresholds, states_duration
from workers.monitoring.descriptions import without_name
from workers.notifications.decisions import DueLine

Tone = Literal["failure", "warning", "success", "info"]
"""The kind of a message, by which services colour it."""

MORE = "More: couturecast-tui alerts list"
_MAX_LINES = 10
_MAX_LINE_CHARS = 160
"""With `_MAX_LINES`, short enough for the services with the shortest messages but SMS: 2,000 characters."""
_SEVERITIES = tuple(dict.fromkeys(rule.severity for rule in RULES))
"""The worst first."""
_TONES: dict[Severity, Tone] = {"critical": "failure", "warning": "warning", "information": "info"}
_MARKUP = str.maketrans({"<": "\u2039", ">": "\u203a", "`": "'", "[": "(", "]": ")", "@": "@\u2060"})
"""``@`` is followed by an invisible character, so that it mentions no one."""
_LINK = re.compile(r"(?i)\b(https?|ftp):(?=//)")


@dataclass(frozen=True, slots=True)
class Message:
    """One message, the same for all services."""

    title: str
    body: str
    tone: Tone


def compose(
    lines: Sequence[DueLine],
    environment: str,
    now: datetime,
    *,
    note: str = "",
    thresholds: Thresholds = DEFAULTS,
) -> Message:
    """Write one message about ``lines``, the most important first; ``note`` is a line after them."""
    firing = [line.record for line in lines if line.occasion != "resolved"]
    severity = min(map(_severity, firing), key=_SEVERITIES.index, default=None)
    headline = "resolved" if severity is None else severity
    several = f", {len(lines)} alerts" if len(lines) > 1 else ""
    body_lines = [_line(line, severity, now, thresholds) for line in lines[:_MAX_LINES]]
    if left_out := len(lines) - len(body_lines):
        body_lines.append(f"{left_out} more {'is' if left_out == 1 else 'are'} left out")
    return Message(
        title=f"CoutureCast {plain(environment)}: {headline}{several}",
        body="\n".join(filter(None, [*body_lines, note, MORE])),
        tone="success" if severity is None else _TONES[severity],
    )


def trial(environment: str) -> Message:
    """Return the message of a test."""
    return Message(
        title=f"CoutureCast {plain(environment)}: test",
        body="Alerts of this environment are sent here.\n" + MORE,
        tone="info",
    )


def plain(text: str) -> str:
    """Write text from anywhere as one line that no service interprets."""
    printable = "".join(character if _is_shown(character) else " " for character in text)
    line = " ".join(printable.translate(_MARKUP).split())
    return _LINK.sub("\\1\u2060:", line).encode("utf-8", "backslashreplace").decode()


def _is_shown(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cf", "Zl", "Zp")


def _line(line: DueLine, severity: Severity | None, now: datetime, thresholds: Thresholds) -> str:
    """Return one line; with its severity if the title has another one."""
    record, own = line.record, _severity(line.record)
    subject = " ".join(filter(None, (record.queue, record.alert.replace("_", " "))))
    if line.occasion == "resolved":
        lasted = _breach_seconds(record, record.resolved_at or now, thresholds)
        text = f"{subject}: resolved after {_duration(lasted)}, was: {record.message}"
    else:
        prefix = f"{own}: " if own != severity else ""
        doubled = ", doubled" if line.occasion == "doubled" else ""
        message = without_name(record.alert, record.message)
        text = f"{prefix}{subject}{doubled}: {message}{_for_how_long(record, now, thresholds)}"
    text = plain(text)
    return text if len(text) <= _MAX_LINE_CHARS else f"{text[: _MAX_LINE_CHARS - 1]}…"


def _for_how_long(record: AlertRecord, now: datetime, thresholds: Thresholds) -> str:
    """Return ``, for 2 min``, unless the message has a duration."""
    lasted = _breach_seconds(record, now, thresholds)
    if lasted < 60 or states_duration(record.alert, record.value):
        return ""
    return f", for {_duration(lasted)}"


def _breach_seconds(record: AlertRecord, end: datetime, thresholds: Thresholds) -> float:
    """Return the seconds since the breach began: it fires once it has lasted for the time of its rule."""
    before = thresholds.for_seconds(record.alert) if record.alert in BY_NAME else 0.0
    return (end - record.fired_at).total_seconds() + before


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{max(0, int(seconds))} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min"
    if seconds < 86_400:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
    return f"{int(seconds // 86_400)} d {int(seconds % 86_400 // 3600)} h"


def _severity(record: AlertRecord) -> Severity:
    rule = BY_NAME.get(record.alert)
    return rule.severity if rule is not None else "warning"
