"""The letter or the group under the cursor, as text: what went wrong, with which payload, and where."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.text import Text

from tui.text.dead_letters import letter_worker
from tui.text.format import MISSING, clip, count, escape, escape_lines, local_time, long_duration, sparkline
from tui.text.payload import json_lines
from tui.text.styles import ACCENT, BREACH, MUTED, WATCH
from tui.text.words import DATE_TIME_ZONE, class_name, times
from workers.monitoring.snapshot import Snapshot
from workers.operations.operations import POISON_DEATHS, DeadLetter, FailureGroup

_LABEL_CHARS = 9
_MAX_PAYLOAD_CHARS = 2_000
_MAX_ERROR_CHARS = 1_000
_MAX_FRAME_LINES = 14
"""The last lines of a traceback: there is where it happened."""
_MAX_RELEASES = 20
_TREND_HOURS = 24


def letter_preview(letter: DeadLetter, snapshot: Snapshot | None = None) -> Text:
    """Return a letter: its error, what it was, its payload, and the end of its last traceback."""
    text = _error(letter)
    replayed = f", replayed {times(letter.replay_count)}" if letter.replay_count else ""
    fields = [
        ("job", letter.job_id),
        ("queue", letter.queue_name),
        ("function", letter.function),
        ("failed", local_time(letter.failed_at, DATE_TIME_ZONE)),
        ("attempts", f"{letter.attempts} · {letter.state}{replayed}"),
        ("release", letter.release or MISSING),
        ("worker", letter_worker(letter, snapshot)),
    ]
    text.append_text(_fields(fields))
    if letter.deaths >= POISON_DEATHS:
        text.append(f"\n×{letter.deaths} deaths in a row of this error: plans leave it out\n", BREACH)
    text.append_text(_payload(letter))
    return text.append_text(_traceback(letter))


def group_preview(group: FailureGroup, now: float) -> Text:
    """Return a group: its error, how many since when and on which releases, and its newest letter."""
    sample = group.sample
    text = _error(sample)
    first, last = group.first_at.timestamp(), group.last_at.timestamp()
    fields = [
        ("letters", count(group.count)),
        ("queue", sample.queue_name),
        ("function", sample.function),
        ("first", local_time(first, DATE_TIME_ZONE)),
        ("last", f"{local_time(last, DATE_TIME_ZONE)}, {long_duration(max(0.0, now - last))} ago"),
    ]
    text.append_text(_fields(fields))
    text.append_text(_trend(group.trend))
    text.append_text(_releases(group.releases))
    text.append("\nNewest letter\n", "bold").append(f"{sample.id}  ", MUTED)
    text.append(f"{escape(sample.job_id)}\n")
    text.append_text(_payload(sample))
    return text.append_text(_traceback(sample))


def _error(letter: DeadLetter) -> Text:
    name = escape(class_name(letter.error_type))
    message = clip(escape(letter.error_message), _MAX_ERROR_CHARS)
    return Text.assemble((f"{name}: ", BREACH), (f"{message}\n\n", "bold"))


def _fields(fields: Iterable[tuple[str, str]]) -> Text:
    text = Text()
    for label, value in fields:
        text.append(f"{label:<{_LABEL_CHARS}} ", MUTED).append(f"{escape(value)}\n")
    return text


def _trend(hours: Sequence[int]) -> Text:
    newest = list(hours[-_TREND_HOURS:])
    text = Text(f"{'24 hours':<{_LABEL_CHARS}} ", MUTED)
    text.append(sparkline(newest, _TREND_HOURS), WATCH)
    return text.append(f"  most in an hour {count(max(newest, default=0))}\n", MUTED)


def _releases(releases: Sequence[str]) -> Text:
    """Return every release in which a letter of the group died, the newest letter's first."""
    text = Text(f"{'releases':<{_LABEL_CHARS}} ", MUTED)
    if not releases:
        return text.append(f"{MISSING}\n")
    for number, release in enumerate(releases[:_MAX_RELEASES]):
        text.append(", " if number else "").append(escape(release), ACCENT if number == 0 else "")
    only = " only" if len(releases) == 1 else ""
    return text.append(f"{only}\n")


def _payload(letter: DeadLetter) -> Text:
    payload = letter.job_data.get("kwargs", letter.job_data)
    return Text.assemble(("\nPayload\n", "bold"), f"{json_lines(payload, _MAX_PAYLOAD_CHARS)}\n")


def _traceback(letter: DeadLetter) -> Text:
    last = letter.attempt_errors[-1] if letter.attempt_errors else {}
    whole = str(last.get("traceback") or letter.traceback or "").rstrip().split("\n")
    lines = [line for line in whole if line.strip(" ^~")]  # without those that only point at the line above
    if not lines:
        return Text()
    left_out = len(lines) - _MAX_FRAME_LINES
    heading = ("\nWhere it failed", "bold"), (f"  last attempt of {letter.attempts}\n", MUTED)
    text = Text.assemble(*heading)
    if left_out > 0:
        text.append(f"… {left_out} lines before\n", MUTED)
    return text.append(escape_lines("\n".join(lines[-_MAX_FRAME_LINES:])) + "\n")
