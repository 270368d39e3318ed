"""Since when a figure breaches its limit, if the queue has been silent since then."""

from __future__ import annotations

from collections import Counter

import pytest

from workers.engine.histogram import bucket
from workers.engine.history import History, Point, run_buckets
from workers.monitoring.breaches import LatencyReader, depth_breach, failure_breach

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
    ended = failure_breach(History.build(points[:1], Point(NOW, 0, 0, counters)), 0.05, 0.04, 20)
    assert ended is not None
    assert ended.has_ended


# A breach that ends and returns between two points of the history: every reader gets ``ended_at``.


def test_a_backlog_that_was_seen_to_end_begins_anew_above_its_limit() -> None:
    points = [Point(NOW - 600, 70, 0, {}), *(Point(NOW - ago, 120, 0, {}) for ago in (590, 300, 10))]
    for depth, ended_at, since in ((120, 0.0, NOW - 590), (90, NOW - 3, None), (120, NOW - 3, NOW)):
        breach = depth_breach(History.build(points, Point(NOW, depth, 0, {})), 100, 80, ended_at)
        assert (breach and breach.since) == since
    ended = depth_breach(History.build(points, Point(NOW, 80, 0, {})), 100, 80)
    assert ended is not None
    assert ended.has_ended


def test_failures_that_were_seen_to_end_begin_anew_above_their_limit() -> None:
    points = [Point(NOW - 200 + 10 * n, 0, 0, {"failed": 10 * n, "completed": 90 * n}) for n in range(20)]
    for failed, ended_at, since in (
        (190, 0.0, NOW - 190),
        (76, NOW - 3, None),  # 4.3 %: above its end only
        (190, NOW - 3, NOW),
    ):
        now = Point(NOW, 0, 0, {"failed": failed, "completed": 1710})
        breach = failure_breach(History.build(points, now), 0.05, 0.04, 20, ended_at)
        assert (breach and breach.since) == since


def test_a_slow_queue_that_was_seen_to_end_is_slow_anew_above_its_limit() -> None:
    counters: Counter[str] = Counter()
    points = []
    for minute in range(60):
        points.append(Point(NOW - 3570 + 60 * minute, 0, 0, dict(counters)))
        counters[f"r{bucket(1.0 if minute < 50 else 3.0)}"] += 30
    slow, fair = Counter(counters), Counter(counters)
    fair[f"r{bucket(1.6)}"] += 3000
    for now, ended_at, is_slow in ((slow, 0.0, True), (fair, 0.0, True), (fair, NOW - 3, False)):
        history = History.build(points, Point(NOW, 0, 0, now))
        _, breach = LatencyReader(run_buckets).baseline(history, [], None, (2.0, 1.5, 20), ended_at)
        assert (breach is not None) == is_slow
    history = History.build(points, Point(NOW, 0, 0, slow))
    _, breach = LatencyReader(run_buckets).baseline(history, [], None, (2.0, 1.5, 20), NOW - 3)
    assert breach is not None
    assert breach.since == NOW
