"""How many jobs one turn moves."""

from __future__ import annotations

import pytest

from workers.engine.turn import max_slots


@pytest.mark.parametrize(
    ("concurrency", "run_seconds", "jobs"),
    [
        (1, 0, 1),
        (1, 60, 1),
        (5, 0, 3),
        (5, 60, 2),
        (10, 0.0019, 5),
        (20, 0.005, 5),
        (100, 0.005, 50),
        (100, 1, 25),
    ],
)
def test_a_turn_moves_half_of_the_slots_or_a_quarter_if_jobs_run_long(
    concurrency: int, run_seconds: float, jobs: int
) -> None:
    assert max_slots(concurrency, run_seconds) == jobs
