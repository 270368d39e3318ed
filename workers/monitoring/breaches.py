"""Since when a figure of a queue breaches its limit, as a function of its history.  Pure.

Every process reads the same history, so each finds the same moment, a restarted one too.  The history has a
point each ten seconds, which may not show that a breach ended and another began.  So the end that a process
has seen is written down for all: nothing before it counts (``ended_at``, a Unix second).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, takewhile
from statistics import median
from typing import NamedTuple

from workers.engine import histogram
from workers.engine.history import (
    FINE_SECONDS,
    History,
    Point,
    difference,
    failure_rate,
    run_buckets,
    wait_buckets,
)
from workers.monitoring.alert_rules import BASELINE_FLOOR_SECONDS, SLOW_FLOOR_SECONDS
from workers.monitoring.overview import RECENT_SECONDS

_WALK_SECONDS = 3900.0
"""How far back a failure rate is followed."""
_BASELINE_SECONDS = 3600.0
"""The span of the baseline's median, without the newest five minutes."""
_BASELINE_MINUTES = 5
"""Minutes with jobs that a baseline needs."""


class Breach(NamedTuple):
    """``since`` is a Unix second of the server, ``value`` the figure now."""

    since: float
    value: float
    has_ended: bool = False
    """Whether it ends with the figure now."""


def find_breach(
    samples: Iterable[tuple[float, float | None]], above: float, ends_at: float, ended_at: float = 0.0
) -> Breach | None:
    """Follow (time, figure), the newest first: a breach begins above ``above``, and ends at ``ends_at``."""
    recent = takewhile(lambda sample: sample[0] > ended_at, samples)
    now = next(recent, None)
    if now is None:
        return None
    has_ended = now[1] is None or now[1] <= ends_at
    since = None
    for at, value in recent if has_ended else chain([now], recent):
        if value is None or value <= ends_at:
            break
        if value > above:
            since = at
    return None if since is None else Breach(since, now[1] or 0.0, has_ended)


def depth_breach(history: History, above: float, ends_at: float, ended_at: float = 0.0) -> Breach | None:
    """Return the breach of the number of ready jobs."""
    samples = ((point.at, point.depth) for point in reversed(history.points))
    return find_breach(samples, above, ends_at, ended_at)


def failure_breach(
    history: History, above: float, ends_at: float, minimum: int, ended_at: float = 0.0
) -> Breach | None:
    """Return the breach of the share of failed attempts in five minutes; None for fewer than ``minimum``."""

    def rate(moment: float) -> float | None:
        before, after = history.point_at(moment - RECENT_SECONDS).counters, history.point_at(moment).counters
        counters = {
            name: max(0, after.get(name, 0) - before.get(name, 0)) for name in ("completed", "failed")
        }
        share, ended_count = failure_rate(counters)
        return share if ended_count >= minimum else None

    samples = ((moment, rate(moment)) for moment in _moments(history))
    return find_breach(samples, above, ends_at, ended_at)


def _moments(history: History) -> Iterator[float]:
    """Yield the moments of a history, the newest first, as far back as a failure rate is followed.

    A point has what was before its step: after a burst of jobs nothing writes another one.  So the ends of
    steps are moments, too.
    """
    later = now = history.now.at
    yield now
    for point in islice(reversed(history.points), 1, None):
        if point.at < now - _WALK_SECONDS:
            return
        step_end = point.at // FINE_SECONDS * FINE_SECONDS + FINE_SECONDS
        if step_end < later:
            yield step_end
        yield point.at
        later = point.at


class LatencyBreach(NamedTuple):
    """``value`` and ``baseline`` are 95th percentiles in seconds."""

    since: float
    value: float
    baseline: float
    has_ended: bool = False
    """Whether it ends with the figures now."""


Buckets = Callable[[Counter[str]], Counter[int]]
KINDS: dict[str, Buckets] = {"wait": wait_buckets, "run": run_buckets}


@dataclass(slots=True)
class LatencyReader:
    """Follows the 95th percentile of one kind of duration; of minutes that are over it is remembered."""

    buckets: Buckets
    _known: dict[tuple[float, float], tuple[float | None, int]] = field(default_factory=dict)

    def baseline(
        self,
        history: History,
        last_week: Sequence[Point],
        pinned: float | None,
        limits: tuple[float, float, int],
        ended_at: float = 0.0,
    ) -> tuple[float | None, LatencyBreach | None]:
        """Return the baseline in seconds, None if it is not known, and the breach, if there is one.

        ``limits``: times the baseline above which it breaches, at which it ends, and jobs at least.  While it
        breaches, the baseline stays as it was before.
        """
        above, ends_at, minimum = limits
        week = self._last_week(last_week)
        baseline, breach, before, quiet_since = pinned, None, None, 0.0
        accepted: list[tuple[float, float]] = []
        for end in [*_minutes(history), history.now.at]:
            if breach is not None and breach.since <= ended_at < end:
                breach, quiet_since = None, ended_at
            value, count = self._percentile(history, end - RECENT_SECONDS, end)
            if breach is None:
                accepted = self._accepted_minutes(history, accepted, end, quiet_since)
                baseline = pinned if pinned is not None else _baseline([p95 for _, p95 in accepted], week)
            before, breach = breach, None
            if value is not None and baseline is not None and count >= minimum:
                breach = _follow(before, LatencyBreach(end, value, baseline), above, ends_at)
            if before is not None and breach is None:
                quiet_since = end
        self._forget(history.now.at)
        return baseline, breach or (before and before._replace(has_ended=True))

    def _accepted_minutes(
        self, history: History, before: list[tuple[float, float]], end: float, quiet_since: float
    ) -> list[tuple[float, float]]:
        """Return the baseline's minutes at ``end``: those before, and the one now five minutes old.

        Minutes of a breach do not count, nor the five before it, which caused it.
        """
        start = end // 60 * 60 - RECENT_SECONDS - 60
        accepted = before
        if start >= quiet_since and not (before and before[-1][0] >= start):
            value, _ = self._percentile(history, start, start + 60)
            if value is not None:
                accepted = [*before, (start, value)]
        recent = [minute for minute in accepted if minute[0] >= end - _BASELINE_SECONDS]
        return recent if len(recent) >= _BASELINE_MINUTES else accepted

    def _percentile(self, history: History, start: float, end: float) -> tuple[float | None, int]:
        cached = self._known.get((start, end))
        if cached is None:
            counts = self.buckets(history.span(start, end))
            cached = histogram.percentile(counts, 0.95), sum(counts.values())
            if end % 60 == 0:
                self._known[start, end] = cached
        return cached

    def _last_week(self, points: Sequence[Point]) -> float | None:
        """Return the percentile of this hour one week ago."""
        if len(points) < 2:
            return None
        return histogram.percentile(self.buckets(difference(points[0].counters, points[1].counters)), 0.95)

    def _forget(self, now: float) -> None:
        for span in [span for span in self._known if span[1] < now - 4 * _BASELINE_SECONDS]:
            del self._known[span]


def _follow(
    before: LatencyBreach | None, now: LatencyBreach, above: float, ends_at: float
) -> LatencyBreach | None:
    """Return the breach that continues or begins with the figures ``now``; None if there is none."""
    if now.value <= ends_at * now.baseline:
        return None
    if before is not None:
        return before._replace(value=now.value)
    return now if now.value > max(above * now.baseline, SLOW_FLOOR_SECONDS) else None


def _minutes(history: History) -> Iterator[float]:
    """Yield the ends of the minutes of a history that are over, the oldest first."""
    first, now = history.points[0].at, history.now.at
    end = first // 60 * 60 + 60
    while end < now:
        yield end
        end += 60


def _baseline(percentiles: Sequence[float], last_week: float | None) -> float | None:
    if len(percentiles) < _BASELINE_MINUTES:
        return last_week
    return max(BASELINE_FLOOR_SECONDS, median(percentiles), last_week or 0.0)
