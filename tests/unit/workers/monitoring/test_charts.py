"""Figures of a queue over time."""

from __future__ import annotations

import pytest

from workers.engine.history import History, Point
from workers.monitoring.charts import FIGURES, _thin, series, throughput

NOW = 1_000_200.0


def history(*points: tuple[float, int, int]) -> History:
    """Points of (seconds ago, depth, completed)."""
    return History(
        [Point(NOW - ago, depth, 1, {"completed": done, "failed": done // 10}) for ago, depth, done in points]
    )


def test_a_step_shows_its_greatest_depth() -> None:
    found = series(history((600, 1, 0), (400, 90, 0), (390, 5, 0), (0, 2, 0)), "depth", 600, 2)
    assert found.values == (90, 2)
    assert found.greatest == 90


def test_steps_begin_at_the_same_instants_a_moment_later() -> None:
    first = series(History([Point(NOW + 1, 1, 0, {})]), "depth", 600, 7)
    second = series(History([Point(NOW + 2, 1, 0, {})]), "depth", 600, 7)
    assert first.start == second.start


def test_nothing_is_known_before_the_first_point() -> None:
    found = series(history((120, 3, 0), (0, 3, 0)), "depth", 600, 5)
    assert found.values[:3] == (None, None, None)
    assert found.values[-1] == 3


def test_jobs_a_second_count_the_time_that_has_passed() -> None:
    found = series(history((600, 0, 0), (300, 0, 300), (0, 0, 900)), "done", 600, 2)
    assert found.values == pytest.approx((1.0, 2.0), rel=0.2)


@pytest.mark.parametrize("steps", [30, 60, 69, 70, 89, 90, 141, 200])
@pytest.mark.parametrize("jitter", [0.0, 0.3])
def test_a_steady_rate_is_flat_whatever_the_width_of_the_chart(steps: int, jitter: float) -> None:
    """At 15 min in 70 columns, the step of 13 s has one or two points: it was 0.8 and 1.5 times the rate."""
    times = [ago + jitter * (ago // 10 % 3) for ago in range(1_800, 0, -10)]
    points = [(ago, 0, round((1_800 - ago) * 100)) for ago in times]
    rates = series(history(*points, (0, 0, 180_000)), "done", 900, steps).values
    assert rates == pytest.approx([100.0] * steps, rel=0.01)
    for seconds in (55, 60, 61):
        found = throughput(history(*points, (0, 0, 180_000)), NOW - seconds, NOW)
        assert found == pytest.approx(100.0, rel=0.01), "the figure of the last minute"


def test_a_rest_after_a_burst_does_not_dilute_it() -> None:
    burst = [(400, 0, 0), (390, 0, 100), (380, 0, 200), (10, 0, 200), (0, 0, 200)]
    rates = [rate for rate in series(history(*burst), "done", 600, 30).values if rate]
    assert rates == pytest.approx([10.0], rel=0.05)


def test_a_share_and_a_percentile_of_nothing_are_missing() -> None:
    quiet = history((600, 0, 0), (0, 0, 0))
    for figure in ("failing", "wait", "run"):
        assert set(series(quiet, figure, 600, 3).values) == {None}


@pytest.mark.parametrize("figure", FIGURES)
def test_a_single_point_is_enough(figure: str) -> None:
    assert len(series(history((0, 3, 10)), figure, 900, 10).values) == 10


def test_thinned_points_keep_the_first_and_the_deepest_of_each_step() -> None:
    depths = {0: 3, 60: 9, 120: 1, 180: 2}
    points = [Point(step + at, depth, 0, {}) for step in (0.0, 300.0) for at, depth in depths.items()]
    kept = _thin(points)
    assert [(point.at, point.depth) for point in kept] == [(0.0, 3), (60.0, 9), (300.0, 3), (360.0, 9)]
    assert _thin(kept) == kept
