"""Durations in buckets: ten a decade, from 1 ms to 28 hours, so that a percentile is right to about 12 %.

The bounds are the preferred numbers R10 of ISO 3, so every 1-2-5 step is one of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

_R10 = (1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 6.3, 8.0)
BOUNDS_SECONDS = tuple(
    round(step * 10.0**decade, 6 - min(decade, 0)) for decade in range(-3, 5) for step in _R10
)
"""Upper bound of each bucket; a longer duration counts in the last one."""
LAST_BUCKET = len(BOUNDS_SECONDS) - 1


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Percentiles of a duration in seconds, over the last five minutes; None if nothing was measured."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


def bucket(seconds: float) -> int:
    """Return the number of the bucket for a duration of ``seconds``."""
    return min(LAST_BUCKET, bisect_left(BOUNDS_SECONDS, seconds))


def bounds(number: int) -> tuple[float, float]:
    """Return the lower and upper bound of a bucket, in seconds."""
    return (BOUNDS_SECONDS[number - 1] if number else 0.0), BOUNDS_SECONDS[number]


def percentile(counts: Mapping[int, int], share: float) -> float | None:
    """Return the seconds below which ``share`` (0 to 1) of the durations lie; None without any."""
    total = sum(counts.values())
    if total <= 0:
        return None
    rank, below = share * total, 0
    for number in sorted(counts):
        lower, upper = bounds(number)
        if below + counts[number] >= rank:
            return lower + (upper - lower) * (rank - below) / counts[number]
        below += counts[number]
    return bounds(max(counts))[1]


def percentiles(counts: Mapping[int, int]) -> Percentiles:
    """Return the 50th, 95th and 99th percentile."""
    return Percentiles(percentile(counts, 0.5), percentile(counts, 0.95), percentile(counts, 0.99))
