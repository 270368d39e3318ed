"""Durations in buckets that grow by a quarter each, so that a percentile is right to about 12 %."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

_FIRST_BOUND_SECONDS = 0.001
_GROWTH = 1.25
_LAST_BUCKET = 79
"""Its upper bound is more than twelve hours."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of a duration in seconds, over the last five minutes; None if nothing was measured."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


def bucket(seconds: float) -> int:
    """Number of the bucket for a duration of ``seconds``."""
    if seconds <= _FIRST_BOUND_SECONDS:
        return 0
    return min(_LAST_BUCKET, math.ceil(math.log(seconds / _FIRST_BOUND_SECONDS, _GROWTH) - 1e-9))


def bounds(number: int) -> tuple[float, float]:
    """Lower and upper bound of a bucket, in seconds."""
    return (
        0.0 if number == 0 else _FIRST_BOUND_SECONDS * _GROWTH ** (number - 1),
        _FIRST_BOUND_SECONDS * _GROWTH**number,
    )


def percentile(counts: Mapping[int, int], share: float) -> float | None:
    """The duration in seconds below which ``share`` (0 to 1) of the durations lie; None if there are none."""
    total = sum(counts.values())
    if total == 0:
        return None
    rank, seen = share * total, 0
    for number in sorted(counts):
        lower, upper = bounds(number)
        if seen + counts[number] >= rank:
            return lower + (upper - lower) * (rank - seen) / counts[number]
        seen += counts[number]
    return bounds(max(counts))[1]


def percentiles(counts: Mapping[int, int]) -> Percentiles:
    """The 50th, 95th and 99th percentile."""
    return Percentiles(percentile(counts, 0.5), percentile(counts, 0.95), percentile(counts, 0.99))
