"""The tables of jobs and schedules: tabs, columns by state, and cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from rich.text import Text

from tui.text.completion import Values
from tui.text.format import (
    MISSING,
    SHORT_TIME_CHARS,
    clip,
    clip_middle,
    clock_time,
    count,
    duration,
    escape,
    percent,
)
from tui.text.queues import thin_gauge
from tui.text.sorting import SortColumn, Sorting
from tui.text.styles import ACCENT, BREACH, MARK, MUTED, OK, PAUSED, WATCH, WIDE_COLUMNS
from workers.engine.policy import QueuePolicy
from workers.monitoring.snapshot import Snapshot
from workers.operations.job_views import start_facts
from workers.operations.jobs import JobSummary
from workers.operations.schedules import ScheduleView
from workers.operations.why import explain

TABS = ("running", "ready", "scheduled", "done", "failed", "schedules")
EMPTY = {
    "running": "no job runs",
    "ready": "no job is ready",
    "scheduled": "no job waits for its time",
    "done": "no job that has completed is kept",
    "failed": "no job that has failed is kept; view 2 has the dead letters",
    "schedules": "there is no schedule",
}
"""Why a list has no rows."""
RIGHT_ALIGNED = frozenset(
    {
        "att",
        "running",
        "usually",
        "deadline",
        "before it",
        "queued",
        "due in",
        "took",
        "next",
        "last",
        "missed",
    }
)
MAX_SORTED = 2_000
"""Jobs that are read to be sorted by a column."""
_SLOW_TIMES = 5.0
"""A job that runs so many times as long as usual stands out."""
_ENDS_SOON_SECONDS = 5.0
_MAX_COUNT_CHARS = 6
_GAUGE_CHARS = 7
_WIDTHS = {
    "": 3, "queue": 18, "function": 16, "att": 4, "running": 8, "usually": 8, "deadline": 8, "worker": 16,
    "progress": 13, "before it": 9, "queued": 8, "due in": 8, "due": 11, "took": 8, "ended": 11,
    "state": 8, "schedule": 24, "expression": 14, "next": 11, "last": 11, "missed": 6,
}  # fmt: skip
_COLUMNS: Mapping[str, Sequence[str]] = {
    "running": (
        "", "job", "queue", "function", "att", "running", "usually", "deadline", "worker", "progress",
    ),
    "ready": ("", "job", "queue", "function", "att", "before it", "queued"),
    "scheduled": ("", "job", "queue", "function", "att", "due in", "due", "error"),
    "done": ("", "job", "queue", "function", "att", "ended", "took", "worker"),
    "failed": ("", "job", "queue", "function", "att", "ended", "took", "error"),
    "schedules": (
        "", "schedule", "queue", "function", "expression", "state", "next", "last", "missed", "note",
    ),
}  # fmt: skip
_ONLY_WIDE = ("worker", "progress", "last", "expression", "missed", "function", "took", "due")
"""Columns that a narrow terminal does not show; of a wider one the last of these that would not fit."""
_MIN_FLEXIBLE = 14
_COMPACT_SCHEDULE_CHARS = 12
_MAX_KEY_CHARS = 48
"""Columns of a key: more would only be a gap between it and its queue."""
_MIN_KEY_CHARS = 8
_DONE_CHARS = 47
"""Columns before the key of a job that was done last."""


def tab_bar(
    current: str, counts: Mapping[str, int | None], query: str, width: int
) -> tuple[Text, dict[str, range]]:
    """Return the line of states with their counts, and the columns of each; ``query``: the filter."""
    text, columns = Text(" ", no_wrap=True, overflow="crop"), {}
    gap = 3 if width >= WIDE_COLUMNS else 1
    for name in TABS:
        start = text.cell_len
        number = counts.get(name)
        text.append(f" {name.capitalize()}", "" if name == current else MUTED)
        text.append(f" {count(number, _MAX_COUNT_CHARS)} " if number is not None else " ", ACCENT)
        if name == current:
            text.stylize("bold underline", start + 1, text.cell_len - 1)
        columns[name] = range(start, text.cell_len)
        text.append(" " * (gap - 1))
    if query and text.cell_len + len(query) + 2 <= width:
        text.append(f"  {escape(query)}", MUTED)
    return text, columns


def columns_for(tab: str, width: int) -> dict[str, int]:
    """Return the columns of a tab and their widths.

    The last column without a width of its own gets the rest.
    """
    is_wide = width >= WIDE_COLUMNS
    names = [name for name in _COLUMNS[tab] if is_wide or name not in _ONLY_WIDE]
    fixed = {name: _WIDTHS[name] for name in names if name in _WIDTHS}
    if len(names) - len(fixed) > 1:
        fixed["job"] = 26 if is_wide else _MIN_FLEXIBLE
    if "schedule" in fixed and not is_wide:
        fixed["schedule"] = _COMPACT_SCHEDULE_CHARS
    can_go = [name for name in _ONLY_WIDE if name in fixed]
    while (rest := width - sum(fixed.values()) - 2 * len(names) - 2) < _MIN_FLEXIBLE and can_go:
        names.remove(can_go[-1])
        del fixed[can_go.pop()]
    rest = max(_MIN_FLEXIBLE, rest)
    max_chars = {"job": _MAX_KEY_CHARS}
    return {name: fixed.get(name, min(rest, max_chars.get(name, rest))) for name in names}


@dataclass(frozen=True, slots=True)
class Doubts:
    """Reasons to doubt a list of jobs: ``dead`` processes hold some, or the whole list ``is_old``."""

    dead: frozenset[str] = frozenset()
    """Ids of processes."""
    is_old: bool = False

    def is_held_by_dead(self, job: JobSummary) -> bool:
        """Return whether a job is in flight at a process that is dead."""
        return job.state == "running" and job.worker in self.dead

    def without_doubtful_figures(self, job: JobSummary) -> JobSummary:
        """Return the job without the figures that count on, if nobody runs it or that is not known."""
        if not self.is_old and not self.is_held_by_dead(job):
            return job
        return replace(job, running_for=None, deadline_in=None, due_in=None)


NO_DOUBTS = Doubts()


def doubts(snapshot: Snapshot | None, *, is_old: bool) -> Doubts:
    """Return the doubts of the moment of a snapshot."""
    workers = () if snapshot is None else snapshot.workers
    return Doubts(frozenset(worker.id for worker in workers if worker.state == "dead"), is_old)


def job_cells(
    job: JobSummary,
    columns: Mapping[str, int],
    *,
    now: float,
    marked: bool,
    known_doubts: Doubts = NO_DOUBTS,
) -> list[Text]:
    """Return a row with these columns."""
    dead = known_doubts.is_held_by_dead(job)
    worker = escape(job.worker_name or job.worker or MISSING)
    cells = _figures(known_doubts.without_doubtful_figures(job), now) | {
        "job": Text(clip_middle(escape(job.key), columns["job"]), "bold"),
        "queue": Text(clip(job.queue, columns["queue"]), MUTED),
        "function": Text(clip(escape(job.function or MISSING), _WIDTHS["function"]), MUTED),
        "worker": Text(
            clip_middle(f"dead: {worker}" if dead else worker, _WIDTHS["worker"]), BREACH if dead else MUTED
        ),
        "error": Text(clip(escape(job.problem or short_error(job.error)), columns.get("error", 0))),
        "": mark_cell(job, marked=marked, known_doubts=known_doubts),
    }
    return [_fit(cells[name], name, width) for name, width in columns.items()]


def _figures(job: JobSummary, now: float) -> dict[str, Text]:
    slow = is_slow(job)
    attempt = f"{job.attempt}/{job.max_attempts}"
    ends_soon = job.deadline_in is not None and job.deadline_in < _ENDS_SOON_SECONDS
    return {
        "att": Text(attempt, WATCH if job.attempt > 1 else ""),
        "running": Text(duration(job.running_for, _WIDTHS["running"]), BREACH if slow else ""),
        "usually": Text(duration(job.usual_run, _WIDTHS["usually"]), MUTED),
        "deadline": Text(duration(job.deadline_in, _WIDTHS["deadline"]), WATCH if ends_soon else ""),
        "progress": progress(job.progress),
        "before it": Text("many" if job.position is None else count(job.position)),
        "queued": Text(_age(job.queued_at, now)),
        "due in": Text(duration(None if job.due_in is None else max(0.0, job.due_in), _WIDTHS["due in"])),
        "due": Text(short_time(job.due_at, now), MUTED),
        "ended": Text(short_time(job.ended_at, now)),
        "took": Text(duration(_run_seconds(job), _WIDTHS["took"])),
    }


def _run_seconds(job: JobSummary) -> float | None:
    """Return the seconds that its newest attempt has run, if it has ended."""
    if job.ended_at is None or job.started_at is None:
        return None
    return (job.ended_at - job.started_at).total_seconds()


_SORT_COLUMNS: tuple[SortColumn[JobSummary], ...] = (
    SortColumn("job", lambda job: job.key),
    SortColumn("queue", lambda job: job.queue),
    SortColumn("function", lambda job: job.function),
    SortColumn("att", lambda job: job.attempt, descending=True),
    SortColumn("running", lambda job: job.running_for, descending=True),
    SortColumn("usually", lambda job: job.usual_run, descending=True),
    SortColumn("deadline", lambda job: job.deadline_in),
    SortColumn("worker", lambda job: job.worker_name or job.worker),
    SortColumn("progress", lambda job: job.progress, descending=True),
    SortColumn("before it", lambda job: job.position),
    SortColumn("queued", lambda job: job.queued_at),
    SortColumn("due in", lambda job: job.due_in),
    SortColumn("due", lambda job: job.due_at),
    SortColumn("ended", lambda job: job.ended_at, descending=True),
    SortColumn("took", _run_seconds, descending=True),
    SortColumn("error", lambda job: job.problem or short_error(job.error) or None),
)
_FIRST_ONES = (
    f"Redis keeps one order of each list, so the first {MAX_SORTED:,} in that order are read and sorted."
)
_AS_STARTED = f"{_FIRST_ONES} That of ready jobs is the one in which they start, queue by queue."
JOB_SORTING: Mapping[str, Sorting[JobSummary]] = {
    tab: Sorting(
        f"jobs-{tab}",
        tuple(column for column in _SORT_COLUMNS if column.name in _COLUMNS[tab]),
        note=_AS_STARTED if tab == "ready" else _FIRST_ONES,
    )
    for tab in ("running", "ready", "scheduled", "done", "failed")
}
"""By tab.  Those that are ready have the order of their queues only."""
SCHEDULE_SORTING: Sorting[ScheduleView] = Sorting(
    "schedules",
    (
        SortColumn("schedule", lambda schedule: schedule.name),
        SortColumn("queue", lambda schedule: schedule.queue),
        SortColumn("function", lambda schedule: schedule.function),
        SortColumn("expression", lambda schedule: schedule.expression),
        SortColumn("state", lambda schedule: schedule.enabled),
        SortColumn("next", lambda schedule: schedule.next_at),
        SortColumn("last", lambda schedule: schedule.last_at, descending=True),
        SortColumn("missed", lambda schedule: schedule.missed, descending=True),
    ),
)


def mark_cell(job: JobSummary, *, marked: bool, known_doubts: Doubts = NO_DOUBTS) -> Text:
    """Return whether it is marked, and the sign of its state."""
    dead = known_doubts.is_held_by_dead(job)
    sign, style = ("✕", BREACH) if dead else _sign(known_doubts.without_doubtful_figures(job))
    return Text.assemble((MARK if marked else " ", ACCENT), (sign, style))


def _sign(job: JobSummary) -> tuple[str, str]:
    if job.problem is not None:
        return "▲", BREACH
    match job.state:
        case "running":
            return ("▲", BREACH) if is_slow(job) else ("↻", WATCH) if job.attempt > 1 else ("●", OK)
        case "done":
            return "✔", OK
        case "failed":
            return "✕", BREACH
    return ("↻", WATCH) if job.attempt else ("·", MUTED)


def is_slow(job: JobSummary) -> bool:
    """Return whether it runs far longer than usual."""
    if job.running_for is None or not job.usual_run:
        return False
    return job.running_for > _SLOW_TIMES * job.usual_run


def progress(share: float | None) -> Text:
    """Return a bar and a share; ``–`` if its handler reports none."""
    if share is None:
        return Text(MISSING, MUTED)
    bar = thin_gauge(round(share * 100), 100, _GAUGE_CHARS, ACCENT)
    return bar.append(f" {percent(share, 0)}")


def schedule_cells(schedule: ScheduleView, columns: Mapping[str, int], *, now: float) -> list[Text]:
    """Return a row of the schedules."""
    disabled = not schedule.enabled
    note = ""
    if disabled:
        note = f"by {schedule.disabled_by or MISSING}"
        note += f": {schedule.disabled_reason}" if schedule.disabled_reason else ""
    cells = {
        "": Text(" ‖" if disabled else " ●", PAUSED if disabled else OK),
        "schedule": Text(clip(escape(schedule.name), _WIDTHS["schedule"]), "bold"),
        "queue": Text(clip(schedule.queue, _WIDTHS["queue"]), MUTED),
        "function": Text(clip(escape(schedule.function), _WIDTHS["function"]), MUTED),
        "expression": Text(clip(escape(schedule.expression), _WIDTHS["expression"])),
        "state": Text("disabled" if disabled else "enabled", PAUSED if disabled else ""),
        "next": Text(short_time(schedule.next_at, now)),
        "last": Text(short_time(schedule.last_at, now), MUTED),
        "missed": Text(count(schedule.missed), WATCH if schedule.missed else MUTED),
        "note": Text(clip(escape(note), columns.get("note", 0)), MUTED),
    }
    return [_fit(cells[name], name, width) for name, width in columns.items()]


def last_done_lines(jobs: Sequence[JobSummary], now: float, width: int) -> list[str]:
    """Return the jobs that were done last, one a line."""
    max_key_chars = max(_MIN_KEY_CHARS, min(_MAX_KEY_CHARS, width - _DONE_CHARS))
    lines = (
        f"  ✔ {short_time(job.ended_at, now):<{SHORT_TIME_CHARS}}  {clip(job.queue, _WIDTHS['queue']):<18}  "
        f"{duration(_run_seconds(job)):>7}  {clip_middle(escape(job.key), max_key_chars)}"
        for job in jobs
    )
    return ["", "  done last", *lines] if jobs else []


def start_sentences(snapshot: Snapshot, policies: Iterable[QueuePolicy]) -> list[str]:
    """Return for each queue why nothing starts, or that it does."""
    facts = [start_facts(policy, snapshot, None) for policy in policies]
    return [f"  {escape(explain(fact, clock_time).sentence)}" for fact in facts]


def filter_values(snapshot: Snapshot | None) -> Values:
    """Return the fields of a filter, with the queues, functions and workers that are known."""
    if snapshot is None:
        return {}
    return {
        "queue:": [queue.name for queue in snapshot.queues],
        "function:": [queue.function for queue in snapshot.queues],
        "worker:": [worker.name for worker in snapshot.workers],
    }


def short_error(error: str | None) -> str:
    """Return an error without the module of its type."""
    name, colon, rest = (error or "").partition(":")
    return f"{name.rpartition('.')[2] if ' ' not in name else name}{colon}{rest}"


def short_time(time: datetime | None, now: float) -> str:
    """Return a time of today, else date and time without seconds."""
    return clock_time(time, now, SHORT_TIME_CHARS)


def _age(time: datetime | None, now: float) -> str:
    return MISSING if time is None else duration(max(0.0, now - time.timestamp()), _WIDTHS["queued"])


def _fit(cell: Text, name: str, width: int) -> Text:
    cell.truncate(width, overflow="ellipsis")
    if name in RIGHT_ALIGNED:
        cell.pad_left(width - cell.cell_len)
    return cell
