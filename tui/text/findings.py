"""Running jobs that stand at the same line, in words; for screens and commands."""

from __future__ import annotations

from tui.text.format import MISSING, clip_middle, clock_time, count, escape, long_duration
from workers.operations.alike import Finding
from workers.words import plural

_MAX_WORKERS = 3
_MAX_FILE_CHARS = 70


def title(finding: Finding) -> str:
    """Return how many jobs, and where."""
    frame = finding.frame
    where = f"{clip_middle(escape(frame.file), _MAX_FILE_CHARS)}:{frame.line} in {escape(frame.function)}"
    return f"{plural(len(finding.jobs), 'running job')} stand at {where}"


def parts(finding: Finding) -> list[str]:
    """Return on which workers, since when, of which release, and which slots they take."""
    workers = [escape(name) for name in finding.workers]
    more = f" and {len(workers) - _MAX_WORKERS} more" if len(workers) > _MAX_WORKERS else ""
    place = f"{'all ' if len(workers) == 1 else ''}on {', '.join(workers[:_MAX_WORKERS]) or MISSING}{more}"
    since = (
        f"since {clock_time(finding.since)}, {long_duration(finding.running_for)}" if finding.since else ""
    )
    return list(filter(None, [place, since, _release(finding), *_slots(finding)]))


def _release(finding: Finding) -> str:
    names = ", ".join(escape(release) for release in finding.releases)
    if finding.release_age is not None:
        return f"the first {long_duration(finding.release_age)} after release {names} started"
    return f"{'release' if len(finding.releases) == 1 else 'releases'} {names}" if names else ""


def _slots(finding: Finding) -> list[str]:
    return [
        f"{count(slots.taken)} of {count(slots.concurrency)} slots of {escape(slots.queue)}"
        if slots.concurrency is not None
        else f"{plural(slots.taken, 'slot')} of {escape(slots.queue)}"
        for slots in finding.slots
    ]
