"""Since when a figure breaches its limit, if the queue has been silent since then."""

from __future__ import annotations

import pytest

from workers.engine.history import History, Point
from workers.monitoring.breaches import failure_breach

NOW = 1_800_000_000.0


@pytest.mark.parametrize("silent_seconds", [1, 15, 60, 200])
def test_failures_before_a_silence_breach_since_they_happened(silent_seconds: int) -> None:
    burst = NOW - silent_seconds
    history = History.build([Point(burst, 0, 0, {})], Point(NOW, 0, 0, {"failed": 40}))
    breach = failure_breach(history, 0.05, 0.04, 20)
    assert breach is not None
    assert burst <= breach.since <= min(NOW, burst + 10)


def test_a_burst_that_is_out_of_the_window_has_ended_its_breach_before_the_next() -> None:
    counters = {"failed": 40}
    points = [Point(NOW - 700, 0, 0, {}), Point(NOW - 100, 0, 0, counters)]
    breach = failure_breach(History.build(points, Point(NOW, 0, 0, {"failed": 80})), 0.05, 0.04, 20)
    assert breach is not None
    assert NOW - 100 <= breach.since <= NOW - 90
    assert failure_breach(History.build(points[:1], Point(NOW, 0, 0, counters)), 0.05, 0.04, 20) is None
