"""The state of a drain, the requests that other processes write, and the figures of a process."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.process.drain import Drain, DrainRequest, DrainRequests
from workers.process.vitals import Vitals
from workers.process.watchdog import LoopClock


def test_an_operators_drain_is_undone_and_may_begin_again() -> None:
    drain = Drain(30)
    assert drain.describe() == {"draining": False, "drain": None}
    assert drain.begin(undoable=True, by="anna")
    assert drain.can_undo
    assert drain.seconds_left is not None
    assert 0 < drain.seconds_left <= 30
    assert drain.undo()
    assert (drain.under_way, drain.seconds_left, drain.by) == (False, None, None)
    assert drain.begin(undoable=True, by="ben")
    assert drain.by == "ben"


def test_nothing_is_undone_once_a_supervisor_asks_or_jobs_are_requeued_or_it_is_over() -> None:
    for end in (
        lambda drain: drain.begin(undoable=False, by=None),
        lambda drain: drain.requeue(),
        lambda drain: setattr(drain, "is_over", True),
    ):
        drain = Drain(30)
        assert not drain.undo()
        drain.begin(undoable=True, by="anna")
        end(drain)
        assert not drain.can_undo
        assert not drain.undo()
        assert drain.under_way


def test_it_has_passed_at_its_deadline_or_when_jobs_are_requeued() -> None:
    drain = Drain(0)
    assert not drain.has_passed
    drain.begin(undoable=True, by=None)
    assert drain.has_passed
    long = Drain(30)
    long.begin(undoable=True, by=None)
    assert not long.has_passed
    long.requeue()
    assert long.has_passed


async def test_an_undo_wakes_who_waits_for_the_end() -> None:
    drain = Drain(30)
    drain.begin(undoable=True, by=None)
    waiting = asyncio.create_task(drain.wait_changed())
    await asyncio.sleep(0)
    drain.undo()
    await asyncio.wait_for(waiting, 10)
    assert not drain.begun.is_set()


def test_each_request_is_carried_out_once_also_if_another_redis_shows_an_older_one_again() -> None:
    done: list[DrainRequest] = []
    requests = DrainRequests(done.append)
    drain, undo = DrainRequest("1", "drain", "anna"), DrainRequest("2", "undo", "ben")
    for request in (drain, drain, undo, undo, drain):
        requests.on_request(request.body())
    assert done == [drain, undo]


@given(st.binary() | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps))
def test_what_is_no_request_is_ignored(body: bytes | str) -> None:
    assert DrainRequest.parse(body) is None


@pytest.mark.parametrize("verb", ["drain", "put back", "undo"])
def test_a_request_is_read_as_it_was_written(verb: str) -> None:
    request = DrainRequest("7", verb, "ops@box-2")  # type: ignore[arg-type]
    assert DrainRequest.parse(request.body()) == request


async def test_the_lag_of_a_loop_is_known_after_its_first_counts() -> None:
    clock = LoopClock(0.01)
    assert clock.lag_p99() is None
    clock.start()
    await asyncio.sleep(0.2)
    clock.stop()
    lag = clock.lag_p99()
    assert lag is not None
    assert lag >= 0


def test_a_process_measures_its_memory_and_its_share_of_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.process.vitals._MEASURE_SECONDS", 0.0)
    vitals = Vitals(lambda: 0.002, list)
    assert vitals.newest["cpu"] is None
    assert vitals.newest["memory"] is not None
    vitals.measure()
    sum(range(100_000))
    figures = vitals.measure()
    assert figures == vitals.newest
    assert figures["loop_p99"] == 0.002
    assert isinstance(figures["memory"], int)
    assert figures["memory"] > 10_000_000
    assert isinstance(figures["cpu"], float)
    assert figures["cpu"] >= 0


HANDLER = """
import subprocess, sys
held = bytearray(b"x" * 150_000_000)
if sys.argv[1:]:
    subprocess.Popen([sys.executable, "-c", sys.argv[1]])
else:
    print("ready", flush=True)
    sys.stdin.read()
    sys.exit()
sum(range(30_000_000))
sys.stdin.read()
"""


def test_a_process_is_measured_with_handler_processes_and_what_these_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workers.process.vitals._MEASURE_SECONDS", 0.0)
    with subprocess.Popen(
        [sys.executable, "-c", HANDLER, HANDLER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as handler:
        assert handler.stdout is not None
        assert handler.stdout.readline() == b"ready\n"
        alone, together = Vitals(lambda: None, list), Vitals(lambda: None, lambda: [handler.pid])
        more = int(together.measure()["memory"] or 0) - int(alone.measure()["memory"] or 0)
        assert more > 2 * 150_000_000
        handler.communicate()
