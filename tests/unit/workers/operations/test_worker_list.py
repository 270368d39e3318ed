"""How processes are named, listed, and what a drain is expected to requeue."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fake_moments import queue
from tests.support.fake_workers import DEAD, DRAINING, RUNNING, STANDBY
from workers.engine.histogram import Percentiles
from workers.errors import ConflictError, NotFoundError
from workers.monitoring.snapshot import HeldJobs
from workers.operations.worker_list import find_worker, foresee, is_requeued, list_workers

QUEUES = tuple(
    queue(name) for name in ("weather-ingestion", "alert-fanout", "color-extraction", "moderation-review")
)
WORKERS = (RUNNING, DRAINING, DEAD, STANDBY)


@pytest.mark.parametrize("name", [RUNNING.id, RUNNING.id[:4], "box-1:991"])
def test_a_process_is_found_by_id_its_beginning_and_host_and_pid(name: str) -> None:
    assert find_worker(WORKERS, name) is RUNNING
    assert find_worker(list_workers(WORKERS, QUEUES), name).id == RUNNING.id


@pytest.mark.parametrize("name", ["", "1", "1f0", "box-1", "nobody", "box-1:99"])
def test_what_names_no_process_for_certain_is_refused(name: str) -> None:
    with pytest.raises(NotFoundError, match="workers list"):
        find_worker(WORKERS, name)


def test_a_name_of_several_processes_is_refused() -> None:
    twin = replace(RUNNING, id=f"{RUNNING.id[:8]}{'0' * 24}")
    for name in ("box-1:991", RUNNING.id[:8]):
        with pytest.raises(ConflictError, match="names 2 workers"):
            find_worker((RUNNING, twin), name)


def test_slots_are_those_of_the_queues_and_only_a_running_process_is_ready() -> None:
    listed = {worker.id: worker for worker in list_workers(WORKERS, QUEUES)}
    assert listed[RUNNING.id].slots == 45
    assert [worker.id for worker in listed.values() if worker.ready] == [RUNNING.id]
    stuck = replace(RUNNING, unready=("color-extraction: its dispatcher makes no progress",))
    assert not list_workers((stuck,), QUEUES)[0].ready


def test_the_jobs_of_a_dead_one_run_again_when_those_of_its_last_queue_do() -> None:
    dead = replace(DEAD, held=(HeldJobs("color-extraction", 1), HeldJobs("alert-fanout", 1)))
    waits = {"color-extraction": 1.5, "alert-fanout": 4.0}
    served = [replace(known, recover_in=waits.get(known.name)) for known in QUEUES]
    assert list_workers((dead,), served)[0].recover_in == 4.0
    assert list_workers((dead,), QUEUES)[0].recover_in is None, "nobody serves one of them"
    assert list_workers((RUNNING,), served)[0].recover_in is None


@pytest.mark.parametrize(
    ("age", "left", "usual", "timeout", "requeued"),
    [
        (0.1, 22.0, 0.3, 60.0, False),
        (0.1, 22.0, 95.0, 120.0, True),  # usually takes longer than what is left
        (80.0, 22.0, 95.0, 120.0, False),
        (31.0, 22.0, 1.9, 60.0, True),  # hangs
        (3.0, 22.0, 1.9, 60.0, False),  # late, and may end
        (45.0, 22.0, 1.9, 60.0, False),  # hangs, and its timeout ends it before
        (31.0, 22.0, 1.9, None, True),
        (31.0, 0.0, 1.9, 60.0, True),
    ],
)
def test_a_job_is_requeued_if_it_is_likely_to_run_still_at_the_deadline(
    age: float, left: float, usual: float, timeout: float | None, requeued: bool
) -> None:
    assert is_requeued(age, left, usual, timeout) == requeued


durations = st.floats(0, 1e6)


@given(age=durations, left=durations, usual=durations, timeout=st.none() | durations)
def test_more_time_never_requeues_more(age: float, left: float, usual: float, timeout: float | None) -> None:
    if not is_requeued(age, left, usual, timeout):
        assert not is_requeued(age, left + 10, usual, timeout)


def test_a_forecast_counts_by_queue_and_is_unknown_without_figures() -> None:
    known = [replace(known, run=Percentiles(0.1, 1.9, 2.0), usual_run=0.5) for known in QUEUES]
    by_queue = {forecast.queue: forecast for forecast in foresee(DRAINING, known)}
    color = by_queue["color-extraction"]
    assert (color.in_flight, color.longest, color.usual, color.requeued) == (5, 31.0, 0.5, 1)
    assert by_queue["weather-ingestion"].requeued == 0
    unknown = [replace(known, run=Percentiles(), usual_run=None) for known in QUEUES]
    assert {forecast.requeued for forecast in foresee(DRAINING, unknown)} == {None}
    assert {forecast.requeued for forecast in foresee(RUNNING, known)} == {None}, "it does not drain"
    elsewhere = replace(DRAINING, held=(HeldJobs("a queue of another version", 1, (1.0,)),))
    assert foresee(elsewhere, known)[0].requeued is None
