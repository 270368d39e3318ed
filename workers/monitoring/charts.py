"""Figures of a queue over time, for charts: any range of up to a day, in any number of steps."""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from redis.asyncio import Redis

from storage.redis.client import execute
from workers.engine import histogram
from workers.engine.history import (
    FINE_SECONDS,
    MINUTE_SECONDS,
    History,
    Point,
    difference,
    failure_rate,
    run_buckets,
    wait_buckets,
)
from workers.engine.keys import QueueKeys

MAX_RANGE_SECONDS = 86_400.0
_OLD_STEP_SECONDS = 300.0
"""Step in which two older points are kept: the first, and the one with the greatest depth."""
_REFRESH_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Series:
    """One figure in equal steps, the oldest first; None if nothing was measured in a step.

    ``start`` and ``end`` are Unix seconds of the server.  The last step may lie partly ahead.
    """

    start: float
    end: float
    values: tuple[float | None, ...]

    @property
    def greatest(self) -> float | None:
        """The greatest value that was measured."""
        return max((value for value in self.values if value is not None), default=None)


def _depth(history: History, start: float, end: float) -> float:
    """Return the greatest depth of a step, so that no chart hides a peak."""
    first, after = bisect_right(history.times, start), bisect_right(history.times, end)
    return max([point.depth for point in history.points[first:after]] or [history.point_at(end).depth])


def _in_flight(history: History, start: float, end: float) -> float:
    first, after = bisect_right(history.times, start), bisect_right(history.times, end)
    return max(
        [point.in_flight for point in history.points[first:after]] or [history.point_at(end).in_flight]
    )


def throughput(history: History, start: float, end: float) -> float:
    """Return how many ended a second, over the time between the points that were counted.

    A step of 13 s has one or two points of 10 s: divided by its own length, a steady rate would zigzag.
    """
    end = min(end, history.now.at)
    # A point that is further away ends a time without jobs, and says nothing of this step.
    reach = max(end - start, 1.5 * FINE_SECONDS)
    before, after = history.point_at(start), history.point_at(end)
    began, ended = (
        point.at if point.at - time <= reach else time for point, time in ((before, start), (after, end))
    )
    if before is after:  # the step lies between two points
        before = history.points[max(0, bisect_left(history.times, after.at) - 1)]
        began = before.at
        if after is before or after.at - began > reach:
            return 0.0
        ended = after.at
    return difference(before.counters, after.counters)["completed"] / (ended - began)


def _failure_share(history: History, start: float, end: float) -> float | None:
    return failure_rate(history.span(start, end))[0]


def _wait_p95(history: History, start: float, end: float) -> float | None:
    return histogram.percentile(wait_buckets(history.span(start, end)), 0.95)


def _run_p95(history: History, start: float, end: float) -> float | None:
    return histogram.percentile(run_buckets(history.span(start, end)), 0.95)


Figure = Callable[[History, float, float], float | None]
FIGURES: Mapping[str, Figure] = {
    "depth": _depth,
    "in_flight": _in_flight,
    "done": throughput,
    "wait": _wait_p95,
    "run": _run_p95,
    "failing": _failure_share,
}
"""Jobs ready and in flight; completed a second; 95th percentiles in seconds; share that failed, 0 to 1."""


def series(history: History, figure: str, seconds: float, steps: int) -> Series:
    """Return a figure over the last ``seconds``.

    Its steps begin at the same instants from one call to the next.

    Raises KeyError for an unknown figure.
    """
    step = seconds / steps
    end = math.ceil(history.now.at / step) * step
    ends = [end - step * (steps - number) for number in range(steps + 1)]
    compute, first = FIGURES[figure], history.points[0].at
    values = [
        None if after <= first or before >= history.now.at else compute(history, before, after)
        for before, after in pairwise(ends)
    ]
    return Series(ends[0], end, tuple(values))


@dataclass(slots=True)
class _OldPoints:
    """Points of one queue that are older than those of the snapshots."""

    points: list[Point] = field(default_factory=list)
    start: float = math.inf
    """From when on they are complete."""
    end: float = -math.inf
    read_at: float = -math.inf


class OldHistoryReader:
    """Reads what is older than the history of the snapshots, once; of that it keeps a tenth."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._old: dict[str, _OldPoints] = {}

    async def extend(self, queue: str, history: History, seconds: float) -> History:
        """Extend ``history`` with the points before it, over ``seconds``.  Raises RedisError."""
        now, first = history.now.at, history.points[0].at
        start = now - min(seconds, MAX_RANGE_SECONDS)
        if first <= start:
            return history
        old = self._old.get(queue)
        if old is None or old.start > start + _REFRESH_SECONDS or old.end > first:
            old = self._old[queue] = _OldPoints(start=start)
        if now - old.read_at >= _REFRESH_SECONDS and max(old.end, start) < first:
            await self._read(queue, old, max(old.end, start), first)
            old.read_at = now
        old.points = [point for point in old.points if point.at >= start]
        return History.build([*old.points, *history.points[:-1]], history.now)

    async def _read(self, queue: str, old: _OldPoints, start: float, end: float) -> None:
        key = f"{QueueKeys.of(queue).history}{MINUTE_SECONDS}"
        bounds = f"({start * 1000:.0f}", f"({end * 1000:.0f}"
        members = await execute(self._redis, "ZRANGEBYSCORE", key, *bounds)
        points = await asyncio.to_thread(_parse, members)
        old.points = _thin([*old.points, *points])
        old.end = max([old.end, *(point.at for point in points)])


def _parse(members: list[bytes]) -> list[Point]:
    return [point for point in map(Point.parse, members) if point is not None]


def _thin(points: list[Point]) -> list[Point]:
    """Keep of each step the first point, whose counters are right, and the one with the greatest depth."""
    first: dict[float, Point] = {}
    deepest: dict[float, Point] = {}
    for point in points:
        step = point.at // _OLD_STEP_SECONDS
        first.setdefault(step, point)
        if step not in deepest or point.depth > deepest[step].depth:
            deepest[step] = point
    by_time = {point.at: point for point in (*first.values(), *deepest.values())}
    return [by_time[at] for at in sorted(by_time)]
