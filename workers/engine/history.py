"""The history of a queue's counters, as points of history.lua.  Pure.

Counters only grow, so the figures of any span are the difference of two points.  A point has what the
counters were before the change at its time.  All that changed before the next point did so within its step.

============  ===========  =========
seconds       kept for     points
============  ===========  =========
10            65 min       up to 390
60            25 h         up to 1,500
3,600         8 days       up to 193
============  ===========  =========

A point has about 600 bytes, or 2.3 kB if every bucket of both histograms is in use.  So a queue's history
takes 1.3 MB of Redis, and 5 MB at most.  A queue on which nothing happens writes nothing.

A process keeps up to 570 points of each queue in memory, of 2 kB if they share the names of the counters.
With names of their own they took 5 kB, and four queues 12 MB after three hours.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from sys import intern
from typing import Any

from storage.redis.scripts import read_script
from workers.engine import wire
from workers.engine.histogram import LAST_BUCKET

KEEP_POINT = read_script(__name__, "history")
"""The Lua function that keeps a point."""
FINE_SECONDS, MINUTE_SECONDS, HOUR_SECONDS = STEP_SECONDS = (10, 60, 3600)
"""Between two points of each of the three keys."""

Counters = Mapping[str, int]
"""Outcomes, ``w…`` and ``r…`` buckets, ``wait_us`` and ``run_us``: how often, or how much, since ever."""

_WAIT, _RUN = "w", "r"


@dataclass(frozen=True, slots=True)
class Point:
    """The state of a queue at ``at`` (Unix seconds of the server): ready jobs, jobs in flight, counters."""

    at: float
    depth: int
    in_flight: int
    counters: Counters

    @classmethod
    def parse(cls, member: bytes) -> Point | None:
        """Return a point as history.lua writes it; None if another program wrote it."""
        try:
            at_ms, depth, in_flight, *flat = wire.load(member)
            counters = dict(zip(map(intern, flat[::2]), flat[1::2], strict=True))
            numbers = (at_ms, depth, in_flight, *counters.values())
        except (ValueError, TypeError, AttributeError, RecursionError):
            return None
        if not all(type(number) is int and number >= 0 for number in numbers):
            return None
        return cls(at_ms / 1000, depth, in_flight, counters)


@dataclass(frozen=True, slots=True)
class History:
    """Points, the oldest first; the last one is the state now."""

    points: Sequence[Point]
    times: Sequence[float] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "times", [point.at for point in self.points])

    @classmethod
    def build(cls, points: Iterable[Point], now: Point) -> History:
        """Return the points before ``now``, each once, and ``now``."""
        by_time = {point.at: point for point in points if point.at < now.at}
        return cls([*(by_time[at] for at in sorted(by_time)), now])

    @property
    def now(self) -> Point:
        """The state now."""
        return self.points[-1]

    def point_at(self, time: float) -> Point:
        """Return the state at a Unix second: nothing has changed from then to the next point."""
        return self.points[min(bisect_left(self.times, time), len(self.points) - 1)]

    def span(self, start: float, end: float) -> Counter[str]:
        """Return the counts from ``start`` to ``end``, Unix seconds; right to the step of the points."""
        return difference(self.point_at(start).counters, self.point_at(end).counters)


def difference(before: Counters, after: Counters) -> Counter[str]:
    """Return by how much each counter has grown; one that is less than before was deleted, and began at 0."""
    grown: Counter[str] = Counter()
    for name, count in after.items():
        earlier = before.get(name, 0)
        if count != earlier:
            grown[name] = count - earlier if count > earlier else count
    return grown


def wait_buckets(counters: Counters) -> Counter[int]:
    """Return how many jobs waited for how long, by bucket of the histogram."""
    return _buckets(counters, _WAIT)


def run_buckets(counters: Counters) -> Counter[int]:
    """Return how many attempts ran for how long, by bucket of the histogram."""
    return _buckets(counters, _RUN)


def _buckets(counters: Counters, kind: str) -> Counter[int]:
    counts: Counter[int] = Counter()
    for name, count in counters.items():
        if name[:1] == kind and name[1:].isdecimal() and name[1:].isascii() and len(name) <= 3:
            counts[min(int(name[1:]), LAST_BUCKET)] += count
    return counts


def failure_rate(counters: Mapping[str, Any]) -> tuple[float | None, int]:
    """Return the share of failed attempts (0 to 1, None without any) and how many attempts ended."""
    failed = counters.get("failed", 0)
    ended = counters.get("completed", 0) + failed
    return (failed / ended if ended else None), ended
