"""Jobs as plain text, for the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from app.cli.render.tables import table_text
from tui.text import findings
from tui.text.format import MISSING, count, duration, local_time, percent
from tui.text.words import DATE_TIME, DATE_TIME_ZONE

if TYPE_CHECKING:
    from workers.operations.jobs import Finding, JobChange, JobDetail, JobStack, JobSummary

_COLUMNS = {
    "running": ("attempt", "running", "usually", "time left", "worker", "progress"),
    "ready": ("before it", "queued at", "attempt"),
    "scheduled": ("due in", "due at", "attempt"),
    "done": ("ended at", "worker"),
    "failed": ("ended at", "attempt", "worker"),
}
"""By state, after job, queue and function."""
_RIGHT = ("attempt", "running", "usually", "time left", "progress", "before it", "due in")


def jobs_text(jobs: Sequence[JobSummary], *, width: int | None = None) -> str:
    """Return a table for each state, in the order of the jobs."""
    if not jobs:
        return "no jobs"
    tables = []
    for state in dict.fromkeys(job.state for job in jobs):
        rows = [job for job in jobs if job.state == state]
        tables.append(f"{state}\n{_table(state, rows, width)}")
    return "\n\n".join(tables)


def _table(state: str, jobs: Sequence[JobSummary], width: int | None) -> str:
    columns = _COLUMNS.get(state, ())
    head = ("job", "queue", "function", *columns, "")
    rows = []
    for job in jobs:
        cells = _cells(job)
        rows.append(
            (job.key, job.queue, job.function or MISSING, *(cells[name] for name in columns), _note(job))
        )
    return table_text(head, rows, right=_RIGHT, shrink=("",), width=width)


def _cells(job: JobSummary) -> dict[str, str]:
    return {
        "attempt": f"{job.attempt}/{job.max_attempts}",
        "running": duration(job.running_for),
        "usually": duration(job.usual_run),
        "time left": duration(job.deadline_in),
        "worker": job.worker_name or (job.worker or MISSING)[:8],
        "progress": percent(job.progress, 0),
        "before it": count(job.position),
        "queued at": local_time(job.queued_at, DATE_TIME),
        "due in": duration(job.due_in),
        "due at": local_time(job.due_at, DATE_TIME),
        "ended at": local_time(job.ended_at, DATE_TIME),
    }


def _note(job: JobSummary) -> str:
    if job.problem is not None:
        return job.problem
    if job.aborting:
        return "is being aborted"
    return job.error or ("aborted" if job.status == "aborted" else "")


def job_text(job: JobDetail) -> str:
    """Return one job: what it is, why it does not run, its payload, result and errors."""
    lines = [f"{job.key} of {job.queue}: {job.state}"]
    if job.why is not None:
        lines.append(f"why       {job.why.sentence}")
    lines += [f"{name:<9} {value}" for name, value in _facts(job) if value not in (None, MISSING)]
    lines += _block("payload", job.payload) if job.unreadable is None else ["", "bytes", job.unreadable]
    if job.result is not None:
        lines += _block("result", job.result)
    if job.meta:
        lines += _block("meta", job.meta)
    for attempt in job.attempts:
        when, where = local_time(attempt.at, DATE_TIME_ZONE), attempt.worker[:8]
        lines += [
            "",
            f"attempt {attempt.attempt} failed at {when} on {where} after {duration(attempt.run_seconds)}",
        ]
        lines.append(attempt.traceback or f"{attempt.error_type}: {attempt.message}")
        lines += [f"  log: {line}" for line in attempt.log]
    if job.traceback and job.state in ("done", "failed"):
        lines += ["", "error", job.traceback]
    return "\n".join(lines)


def stack_text(stack: JobStack, alike: Finding | None = None) -> str:
    """Return where a job stands: a line a frame, the innermost first; the others there; and its log."""
    place = [f"  {stack.place}{f': {stack.problem}' if stack.problem else ''}"] if stack.place else []
    lines = [f"  {frame.file}:{frame.line} in {frame.function}" for frame in reversed(stack.frames)]
    others = ["", "others like it", findings_text([alike])] if alike is not None else []
    log = ["", "log", *stack.log] if stack.log else []
    return "\n".join(["", "", "where it is now", *place, *lines, *others, *log])


def findings_text(alike: Sequence[Finding]) -> str:
    """Return two lines for each line at which running jobs stand."""
    if not alike:
        return "no running jobs stand at the same line"
    return "\n".join(
        f"{findings.title(finding)}\n  {' · '.join(findings.parts(finding))}" for finding in alike
    )


def finding_document(finding: Finding) -> dict[str, Any]:
    """Return a finding for programs; its jobs are named."""
    jobs = [
        {"queue": job.queue, "key": job.key, "worker_name": job.worker_name, "running_for": job.running_for}
        for job in finding.jobs
    ]
    return asdict(finding) | {"jobs": jobs}


def changes_text(changes: Sequence[JobChange]) -> str:
    """Return a line for each job: what becomes, or became, of it."""
    return "\n".join(change.message for change in changes)


def change_document(change: JobChange) -> dict[str, Any]:
    """Return what becomes, or became, of a job, for programs."""
    names = ("queue", "key", "outcome", "message", "new_key")
    return {name: getattr(change, name) for name in names}


def _facts(job: JobDetail) -> Sequence[tuple[str, Any]]:
    return (
        ("problem", job.problem),
        ("function", job.function),
        ("attempt", f"{job.attempt} of {job.max_attempts}" if job.attempt else None),
        ("queued", local_time(job.queued_at, DATE_TIME_ZONE)),
        ("started", local_time(job.started_at, DATE_TIME_ZONE)),
        ("due", local_time(job.due_at, DATE_TIME_ZONE)),
        ("ended", local_time(job.ended_at, DATE_TIME_ZONE)),
        ("worker", job.worker_name or job.worker),
        ("progress", percent(job.progress, 0)),
        ("producer", job.producer),
        ("letter", job.letter),
    )


def _block(name: str, value: Any) -> list[str]:
    return ["", name, json.dumps(value, indent=2, ensure_ascii=False)]
