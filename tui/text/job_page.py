"""One job as text: why it does not run, what became of it, its payload, and where it stands."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from rich.text import Text

from tui.text import findings
from tui.text.format import MISSING, clip, clock_time, duration, escape, escape_lines, local_log
from tui.text.jobs import is_slow, short_time
from tui.text.payload import json_lines
from tui.text.styles import ACCENT, BREACH, MUTED, WATCH
from workers.operations.jobs import Finding, JobDetail, JobStack
from workers.operations.schedules import ScheduleView
from workers.words import plural

_LABEL_CHARS = 10
_PANE_CHARS, _WHOLE_CHARS = 2_000, 50_000
"""Characters of a payload, next to the list and on its own page."""
_MAX_LINE_CHARS = 300
Fields = Iterator[tuple[str, Text | str]]


def facts(job: JobDetail, now: float, width: int, letters: str) -> Text:
    """Return why it does not run, or what it does, and its times; ``letters`` is the key of their view."""
    return _lines(_facts(job, now, letters), width)


def _facts(job: JobDetail, now: float, letters: str) -> Fields:
    if job.why is not None:
        yield "why", Text(escape(job.why.sentence), "bold")
    if is_slow(job) and (job.why is None or job.why.cause != "held_by_dead_worker"):
        times = (job.running_for or 0) / (job.usual_run or 1)
        usual = f"usually {duration(job.usual_run)}: {times:.0f} times as long as usual"
        yield "", Text(usual, BREACH)
    if job.aborting:
        yield "", Text("an abort was asked for", WATCH)
    if job.problem is not None:
        yield "problem", Text(escape(job.problem), BREACH)
    failed = f", {len(job.attempts)} failed before" if job.attempts else ""
    yield "attempt", f"{job.attempt} of {job.max_attempts}{failed}"
    by = f" by {escape(job.producer)}" if job.producer else ""
    yield "enqueued", f"{short_time(job.queued_at, now)}{by}"
    if job.started_at is not None:
        on = f" on {escape(job.worker_name or job.worker or '')}" if job.worker_name or job.worker else ""
        yield "started", f"{short_time(job.started_at, now)}{on}"
    if job.ended_at is not None:
        yield "ended", f"{short_time(job.ended_at, now)}, {escape(job.status or MISSING)}"
    if job.letter is not None:
        yield "letter", f"{job.letter}: view {letters} has it"
    if job.error:
        yield "error", Text(clip(escape(job.error), _MAX_LINE_CHARS), BREACH)


def payload(job: JobDetail, *, whole: bool = False) -> Text:
    """Return its payload as it is; only the beginning of a long one unless ``whole``."""
    max_chars = _WHOLE_CHARS if whole else _PANE_CHARS
    parts: list[tuple[str, Text | str]] = []
    if job.unreadable is not None:
        parts.append(("bytes", clip(escape_lines(job.unreadable), max_chars)))
    else:
        parts.append(("payload", json_lines(job.payload, max_chars)))
    if job.result is not None:
        parts.append(("result", json_lines(job.result, max_chars)))
    if job.meta and whole:
        parts.append(("meta", json_lines(dict(job.meta), max_chars)))
    return _lines(iter(parts))


def attempts(job: JobDetail) -> Text:
    """Return each failed attempt with its traceback."""
    text = Text()
    for attempt in job.attempts:
        text.append(f"  attempt {attempt.attempt}", "bold")
        text.append(f"  at {clock_time(attempt.at)} on {escape(attempt.worker)}", MUTED)
        text.append(f", ran {duration(attempt.run_seconds)}\n", MUTED)
        text.append(_indent(f"{attempt.error_type}: {attempt.message}"), BREACH)
        if attempt.traceback:
            text.append(_indent(attempt.traceback))
        if attempt.log:
            text.append("    it logged\n", MUTED)
            text.append(_indent("\n".join(local_log(attempt.log))))
    if not job.attempts and job.traceback:
        text.append(_indent(job.traceback))
    return text if text else Text("  no attempt has failed", MUTED)


def stack(job_stack: JobStack | None, problem: str | None, max_frames: int | None = None) -> Text:
    """Return the frames, the innermost first, and where they run; ``problem``: why there are none."""
    if job_stack is None:
        return Text(f"  {problem or 'not read yet'}", MUTED)
    text = Text(no_wrap=True, overflow="ellipsis")
    if job_stack.place:
        text.append(f"  {escape(job_stack.place)}", ACCENT)
        text.append(f": {escape(job_stack.problem)}" if job_stack.problem else "", WATCH)
        text.append("\n")
    frames = list(reversed(job_stack.frames))
    for frame in frames[:max_frames]:
        text.append(f"  {escape(frame.file)}:{frame.line}", "bold" if frame == job_stack.line else "")
        text.append(f"  {escape(frame.function)}\n", MUTED)
    if max_frames is not None and len(frames) > max_frames:
        text.append(f"  and {plural(len(frames) - max_frames, 'frame')} around it\n", MUTED)
    if not frames and not job_stack.problem:
        text.append("  it has no frames now\n", MUTED)
    return text


def alike(finding: Finding | None, width: int) -> Text:
    """Return the jobs at the same line as this one, on ``width`` columns; None: it is there alone."""
    if finding is None:
        return Text("  no other running job stands at its line", MUTED)
    margin, columns = "\n  ", max(20, width - 5)
    text = Text("  ").append(margin.join(textwrap.wrap(findings.title(finding), columns)), "bold")
    lines = textwrap.wrap(" · ".join(findings.parts(finding)), columns)
    return text.append(margin).append(margin.join(lines), MUTED)


def log(job_stack: JobStack | None) -> Text:
    """Return the newest lines that it has logged."""
    if job_stack is None or not job_stack.log:
        return Text("  nothing was logged" if job_stack is not None else f"  {MISSING}", MUTED)
    return Text("\n".join(f"  {clip(escape(line), _MAX_LINE_CHARS)}" for line in local_log(job_stack.log)))


def schedule_facts(schedule: ScheduleView, now: float, width: int, enable: str) -> Text:
    """Return a schedule: what it enqueues, when, and what was missed.

    ``enable`` is the key that enables it.
    """
    every = f"{escape(schedule.expression)}, every {duration(schedule.interval_seconds)}, in UTC"
    lines: list[tuple[str, Text | str]] = [
        ("runs", f"{escape(schedule.function)} in {schedule.queue}"),
        ("when", every),
        (
            "next",
            short_time(schedule.next_at, now)
            if schedule.enabled
            else f"none: it is disabled, {enable} enables",
        ),
        ("last", f"{short_time(schedule.last_at, now)}, {schedule.missed:,} missed since"),
    ]
    if schedule.run_at is not None:
        lines.append(("by hand", short_time(schedule.run_at, now)))
    if not schedule.enabled:
        reason = f": {schedule.disabled_reason}" if schedule.disabled_reason else ""
        by = f"by {schedule.disabled_by or MISSING} {short_time(schedule.disabled_at, now)}{reason}"
        lines.append(("disabled", Text(escape(by), WATCH)))
    return _lines(iter(lines), width)


def _lines(fields: Fields, width: int | None = None) -> Text:
    """Lay out labels and values; with ``width`` long values are wrapped below themselves."""
    text = Text()
    margin = " " * (_LABEL_CHARS + 3)
    for number, (label, value) in enumerate(fields):
        text.append("\n" if number else "").append(f"  {label:<{_LABEL_CHARS}} ", MUTED)
        plain, style = (value.plain, value.style) if isinstance(value, Text) else (value, "")
        lines = plain.split("\n")
        if width is not None:
            lines = textwrap.wrap(plain, max(20, width - len(margin) - 2)) or [plain]
        text.append(f"\n{margin}".join(lines), style)
    return text


def _indent(block: str) -> str:
    return "".join(f"    {line}\n" for line in escape_lines(block.rstrip()).split("\n"))


def names(keys: Sequence[str], max_names: int = 3) -> str:
    """Return a few keys for a sentence."""
    listed = ", ".join(clip(escape(key), 60) for key in keys[:max_names])
    return f"{listed} and {len(keys) - max_names:,} more" if len(keys) > max_names else listed
