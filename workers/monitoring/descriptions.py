"""The problems of a queue, in words.  Pure."""

from __future__ import annotations

import math

from workers.monitoring.alert_rules import STALLED_TIMES
from workers.monitoring.snapshot import QueueSnapshot
from workers.percent import percent


def describe_broken_keys(queue: QueueSnapshot) -> str:
    """Return the keys that have another type, empty if none."""
    if not queue.broken_keys:
        return ""
    return f"{', '.join(queue.broken_keys)} of another type: kept aside and repaired within a minute"


def held_by_dead(queue: QueueSnapshot) -> str:
    """Return how many jobs dead processes hold, and when these run again; empty if none."""
    if not queue.held_by_dead:
        return ""
    runs_again = "when a worker starts"
    if queue.recover_in is not None:
        runs_again = f"in {math.ceil(queue.recover_in)} s" if queue.recover_in > 0 else "at any moment"
    return f"{queue.held_by_dead} held by a dead worker, run again {runs_again}"


def held_by_blocked(queue: QueueSnapshot) -> str:
    """Return how many jobs a blocked process holds, and where it stands; empty if none."""
    if not queue.held_by_blocked:
        return ""
    return f"{queue.held_by_blocked} held by a blocked worker: {queue.blocked_where}"


def unable_to_run(queue: QueueSnapshot) -> str:
    """Return why no job of it can run, empty if it can: no process can start its handler."""
    return f"no job can run: {queue.handler_problem}" if queue.handler_problem else ""


def full_and_stalled(queue: QueueSnapshot) -> str:
    """Return how long all slots have been taken, if for too long and not by dead or blocked workers."""
    if queue.full_for is None or queue.held_by_dead or queue.held_by_blocked:
        return ""
    usual = queue.usual_run
    if queue.full_for <= max(queue.stalled_limit, STALLED_TIMES * (usual or 0.0)):
        return ""
    slots = f"{queue.in_flight} of {queue.concurrency} run for {duration(queue.full_for)}"
    if usual is None:
        return f"stalled: {slots}, nothing has ended"
    return f"stalled: {slots}, usually {duration(usual)}"


def describe_limit(figure: float, limit: float, ends_at: float, unit: str = "") -> str:
    """Return ``limit 100``; of a breach that has fallen below it and goes on, ``limit 100, ends at 80``."""
    above, below = (
        percent(number, None) if unit == "share" else f"{number:g}" for number in (limit, ends_at)
    )
    return f"limit {above}" if figure > limit else f"limit {above}, ends at {below}"


def without_name(alert: str, message: str) -> str:
    """Return the message of an alert for a line that names it: some messages begin with the name."""
    return message.removeprefix(f"{alert.replace('_', ' ')}: ")


def duration(seconds: float) -> str:
    """Write a duration in two or three digits: ``310 ms``, ``1.2 s``, ``31 s``, ``4 min``, ``3 h``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    for unit, size, limit in (("s", 1, 120), ("min", 60, 120), ("h", 3_600, 48)):
        if seconds < limit * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"
