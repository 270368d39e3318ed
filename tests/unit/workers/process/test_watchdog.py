"""Whether an event loop is blocked: what the watching thread concludes, and which line it names."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.waiting import eventually
from workers.engine.blocked import BlockedAt, read_where
from workers.process.watchdog import HeldJob, LoopClock, Verdict, Watchdog


class Clock(LoopClock):
    """A loop that moves when it is told to."""

    @property
    def runs(self) -> bool:
        return True


@dataclass
class Watched:
    """A watchdog, its loop and what its process holds."""

    clock: Clock
    jobs: list[HeldJob]
    dog: Watchdog

    def block(self, seconds: int) -> Verdict:
        """The verdict once the loop has been blocked for so long."""
        for _ in range(seconds):
            verdict = self.dog.check(1.0)
        return verdict


@pytest.fixture
def watched() -> Watched:
    clock, jobs = Clock(), []
    made = Watched(clock, jobs, Watchdog(clock, list_jobs=lambda: jobs, drain_seconds=0.0))
    clock.count += 1
    assert made.dog.check(1.0) is Verdict.MOVES
    return made


def job(deadline_in: float) -> HeldJob:
    return HeldJob("q", "key", None, None, time.monotonic() + deadline_in)


def test_a_loop_that_moves_is_never_blocked(watched: Watched) -> None:
    watched.jobs.append(job(-100))
    for _ in range(100):
        watched.clock.count += 1
        assert watched.dog.check(1.0) is Verdict.MOVES


def test_a_loop_that_stands_is_blocked_and_given_up_after_the_longest_timeout(watched: Watched) -> None:
    watched.jobs += [job(-10), job(100)]
    assert watched.block(5) is Verdict.MOVES
    assert watched.block(1) is Verdict.BLOCKED
    assert watched.block(20) is Verdict.BLOCKED
    watched.jobs.pop()
    assert watched.block(1) is Verdict.GIVE_UP
    watched.clock.count += 1
    assert watched.dog.check(1.0) is Verdict.MOVES
    assert watched.dog.blocked_seconds == 0


def test_a_process_that_holds_nothing_is_given_up_after_half_a_minute(watched: Watched) -> None:
    assert watched.block(30) is Verdict.BLOCKED
    assert watched.block(1) is Verdict.GIVE_UP


def test_a_stop_that_cannot_begin_is_given_up_when_its_time_is_over(watched: Watched) -> None:
    watched.jobs.append(job(100))
    watched.dog.stop_asked()
    assert watched.block(5) is Verdict.MOVES
    assert watched.block(1) is Verdict.GIVE_UP


def test_the_time_of_a_freeze_does_not_count_for_the_loop(watched: Watched) -> None:
    watched.jobs.append(job(-100))
    assert watched.block(4) is Verdict.MOVES
    assert watched.dog.check(600.0) is Verdict.MOVES
    assert watched.block(5) is Verdict.MOVES
    assert watched.block(1) is Verdict.BLOCKED


def test_after_a_long_command_the_loop_may_move_before_it_is_judged(watched: Watched) -> None:
    watched.jobs.append(job(-100))
    assert watched.block(4) is Verdict.MOVES
    assert watched.dog.check(1.0, 9.0) is Verdict.MOVES
    assert watched.dog.check(1.0) is Verdict.GIVE_UP


def test_a_short_timeout_leaves_the_time_to_show_who_blocks(watched: Watched) -> None:
    watched.jobs.append(job(-100))
    assert watched.block(10) is Verdict.BLOCKED
    assert watched.block(1) is Verdict.GIVE_UP


async def test_the_place_names_handler_line_queue_and_job() -> None:
    clock, asleep, jobs = LoopClock(), threading.Event(), []
    dog = Watchdog(clock, list_jobs=lambda: jobs)
    places: list[BlockedAt] = []

    async def handler(ctx: dict[str, Any]) -> None: ...

    async def attempt() -> None:
        asleep.set()
        threading.Event().wait(0.5)  # in a library: this line is to blame, not one of its own

    def watch() -> None:
        asleep.wait(10)
        places.append(dog.blocked_at())

    handler.__module__, handler.__qualname__ = "shop.colors", "extract"
    clock.start()
    thread = threading.Thread(target=watch)
    thread.start()
    task = asyncio.ensure_future(attempt())
    jobs.append(HeldJob("color-extraction", "dress-17", handler, task, 0.0))
    await task
    await asyncio.to_thread(thread.join)
    clock.stop()
    (place,) = places
    assert (place.queue, place.job) == ("color-extraction", "dress-17")
    first = attempt.__code__.co_firstlineno
    assert place.where in {
        f"handler shop.colors:extract, test_watchdog.py:{line} in attempt" for line in (first + 1, first + 2)
    }
    assert read_where(b"17 " + place.note()) == place.where


async def test_the_clock_counts_while_the_loop_turns() -> None:
    clock = LoopClock(count_seconds=0.01)
    clock.start()
    before = clock.count
    await eventually(lambda: clock.count >= before + 3)
    clock.stop()
    assert not clock.runs
