"""Why a job does not run: each cause, and of each pair of causes the one that is named."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest

from workers.engine.policy import RateLimit
from workers.monitoring.snapshot import Pause
from workers.operations.start_facts import JobFacts, StartFacts
from workers.operations.why import CAUSES, Cause, explain

NOON = 1_772_366_400.0
READY = JobFacts("dress-17", "ready", position=0)
ENDED = JobFacts("dress-17", "done", status="complete", ended_at=NOON, attempt=2)
RUNS = JobFacts(
    "dress-17",
    "running",
    attempt=1,
    worker="box-2:4121",
    worker_state="running",
    running_for=31.2,
    ends_at=NOON,
)
IDLE = StartFacts("color-extraction", concurrency=5)

ORDER: tuple[Cause, ...] = (
    "redis_unavailable",
    "unknown",
    "done",
    "aborted",
    "dead_letter",
    "held_by_dead_worker",
    "held_by_blocked_worker",
    "aborting",
    "running",
    "broken_keys",
    "no_worker",
    "handler",
    "paused",
    "draining",
    "standby",
    "unlisted",
    "scheduled",
    "empty",
    "slots_of_dead_worker",
    "slots_of_blocked_worker",
    "full",
    "rate_limit",
    "not_a_job",
    "stalled",
    "waits_its_turn",
    "next",
    "starts",
)

JOBS: dict[Cause, JobFacts | None] = {
    "unknown": JobFacts("dress-17", None),
    "done": ENDED,
    "aborted": replace(ENDED, state="failed", status="aborted", error="aborted by ops: wrong import"),
    "dead_letter": replace(ENDED, state="failed", status="failed", letter=17),
    "held_by_dead_worker": replace(RUNS, worker_state="dead"),
    "held_by_blocked_worker": replace(RUNS, worker_state="blocked"),
    "aborting": replace(RUNS, aborting=True),
    "running": RUNS,
    "unlisted": replace(READY, state="unlisted"),
    "scheduled": replace(READY, state="scheduled", position=None, due_in=4.0, attempt=2, max_attempts=4),
    "not_a_job": replace(READY, problem="not a job: not JSON"),
    "waits_its_turn": replace(READY, position=131),
    "next": READY,
}
"""The job that a cause needs; for the others any job that waits will do."""
QUEUE: dict[Cause, dict[str, Any]] = {
    "redis_unavailable": {"redis_error": "Connection refused"},
    "held_by_dead_worker": {"recover_in": 4.0},
    "held_by_blocked_worker": {"blocked_where": "extract_colors (color.py:88)"},
    "broken_keys": {"broken_keys": ("saq:color-extraction:queued",)},
    "no_worker": {"taking": 0, "standby": 0, "draining": 0},
    "handler": {"handler_problem": "its handler cannot run: 'shop:work' cannot be imported"},
    "paused": {"pause": Pause("anna@box-2", "CDN is down", NOON)},
    "draining": {"taking": 0, "draining": 1},
    "standby": {"taking": 0, "standby": 1},
    "empty": {"depth": 0, "scheduled": 6},
    "slots_of_dead_worker": {"in_flight": 5, "held_by_dead": 2, "recover_in": 4.0},
    "slots_of_blocked_worker": {"in_flight": 5, "held_by_blocked": 5, "blocked_where": "a line"},
    "full": {"in_flight": 5, "oldest_running": 31.2, "usual_run": 1.1},
    "rate_limit": {"next_start_in": 3.0, "rate_limit": RateLimit(60, 60)},
    "stalled": {"stalled": "stalled: 7 ready, none for 31 s"},
    "starts": {"depth": 151, "in_flight": 3},
}
"""The queue that a cause needs."""
OF_QUEUES: tuple[Cause, ...] = ("empty", "starts")

SENTENCES: dict[Cause, str] = {
    "redis_unavailable": "Redis is unavailable, so nothing starts: Connection refused",
    "unknown": (
        "color-extraction has no job dress-17: it was never enqueued, it was removed, or it has "
        "ended and its record has expired"
    ),
    "done": "completed at 2026-03-01 12:00:00 UTC",
    "aborted": "aborted at 2026-03-01 12:00:00 UTC: aborted by ops: wrong import",
    "dead_letter": "failed for good at 2026-03-01 12:00:00 UTC after 2 attempts: dead letter 17",
    "held_by_dead_worker": "held by box-2:4121, which is dead: it runs again in 4.0 s",
    "held_by_blocked_worker": (
        "held by box-2:4121, whose event loop is blocked by extract_colors (color.py:88)"
    ),
    "aborting": "runs on box-2:4121, which is asked to abort it",
    "running": "has run on box-2:4121 for 31 s; the timeout of 60 s ends it at 2026-03-01 12:00:00 UTC",
    "broken_keys": (
        "color-extraction makes no progress until saq:color-extraction:queued is repaired: another program "
        "gave it another type"
    ),
    "no_worker": "no worker serves color-extraction",
    "handler": ("no job of color-extraction can run: its handler cannot run: 'shop:work' cannot be imported"),
    "paused": "color-extraction is paused by anna@box-2 since 2026-03-01 12:00:00 UTC: CDN is down",
    "draining": "the only process that serves color-extraction drains: it starts no more jobs",
    "standby": (
        "5 processes hold jobs of color-extraction and take no more: 1 on standby may only start "
        "once one of them holds none"
    ),
    "unlisted": "is on no list of its queue: the check of the queue's keys lists it again",
    "scheduled": "retry 2 of 3, due in 4.0 s",
    "empty": "no job of color-extraction is ready; 6 jobs scheduled for later",
    "slots_of_dead_worker": (
        "color-extraction is full: 5 of 5, 2 of them held by a dead worker for 4.0 s more"
    ),
    "slots_of_blocked_worker": (
        "color-extraction is full: 5 of 5, 5 of them on a worker whose event loop is blocked by a line"
    ),
    "full": "color-extraction is full: 5 of 5, the oldest for 31 s, usually 1.1 s",
    "rate_limit": "waits for the rate limit: next start in 3.0 s, it is the next",
    "not_a_job": "not a job: not JSON: it becomes a dead letter when a worker takes it",
    "stalled": "nothing forbids a start, and none happens: stalled: 7 ready, none for 31 s",
    "waits_its_turn": "waits its turn: 131 jobs before it",
    "next": "is next: a worker takes it now",
    "starts": "jobs of color-extraction start: 151 jobs ready, 3 of 5 slots taken",
}


def facts_of(cause: Cause) -> StartFacts:
    """A queue, and a job, to which only this applies."""
    job = None if cause in OF_QUEUES else JOBS.get(cause, READY)
    return replace(IDLE, job=job, **({"depth": 1} | QUEUE.get(cause, {})))


def both(first: Cause, second: Cause) -> StartFacts | None:
    """A queue, and a job, to which both apply; None if they exclude each other."""
    if first in JOBS and second in JOBS:
        return None  # a job is in one state
    if (first in OF_QUEUES and second in JOBS) or (second in OF_QUEUES and first in JOBS):
        return None
    queue = {"depth": 1}
    for cause in (second, first):
        queue |= QUEUE.get(cause, {})
    if {first, second} == {"no_worker", "draining"} or {first, second} == {"no_worker", "standby"}:
        return None  # a process that drains, or stands by, is there
    if {first, second} == {"empty", "starts"}:
        return None  # something is ready, or not
    if {first, second} == {"draining", "standby"}:
        queue |= {"draining": 1, "standby": 1}
    of_queue = first in OF_QUEUES or second in OF_QUEUES
    job = None if of_queue else JOBS.get(first) or JOBS.get(second) or READY
    return replace(IDLE, job=job, **queue)


def test_the_order_of_the_causes_is_the_one_written_down_here() -> None:
    assert tuple(CAUSES) == ORDER


@pytest.mark.parametrize("cause", ORDER)
def test_each_cause_is_one_sentence(cause: Cause) -> None:
    why = explain(facts_of(cause))
    assert (why.cause, why.sentence) == (cause, SENTENCES[cause])
    assert "\n" not in why.sentence


@pytest.mark.parametrize("cause", [cause for cause in ORDER if "UTC" in SENTENCES[cause]])
def test_a_sentence_has_its_times_as_a_screen_writes_them(cause: Cause) -> None:
    sentence = explain(facts_of(cause), lambda second: "13:00:00").sentence
    assert sentence == SENTENCES[cause].replace("2026-03-01 12:00:00 UTC", "13:00:00")


PAIRS = [pair for pair in combinations(ORDER, 2) if both(*pair) is not None]


def test_causes_that_may_hold_together_are_tried_together() -> None:
    assert len(PAIRS) > 200
    assert {cause for pair in PAIRS for cause in pair} == set(ORDER)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_of_two_causes_the_first_in_the_order_is_named(first: Cause, second: Cause) -> None:
    facts = both(first, second)
    assert facts is not None
    why = explain(facts)
    expected = first
    is_over = facts.job is not None and not facts.waits
    if is_over and first not in JOBS and first != "redis_unavailable":
        expected = second  # nothing of the queue holds a job that runs or has ended
    if {first, second} == {"draining", "standby"}:
        expected = "standby"  # one that stands by may start, one that drains may not
    if first == "slots_of_blocked_worker" and second == "full":
        assert "blocked" in why.sentence
    assert why.cause == expected, why


@pytest.mark.parametrize("cause", [cause for cause in ORDER if cause not in ("unknown", *OF_QUEUES)])
def test_every_job_has_an_answer_whatever_is_not_known_of_it(cause: Cause) -> None:
    facts = facts_of(cause)
    assert facts.job is not None
    job = facts.job
    bare = JobFacts(job.key, job.state, status=job.status, aborting=job.aborting, worker=job.worker)
    sentence = explain(
        replace(facts, job=bare, oldest_running=None, usual_run=None, recover_in=None)
    ).sentence
    assert sentence
    assert "None" not in sentence


def test_a_queue_has_an_answer_of_its_own() -> None:
    limited = replace(IDLE, depth=132, next_start_in=3.0, rate_limit=RateLimit(60, 60))
    assert explain(limited).sentence == (
        "color-extraction waits for its rate limit: next start in 3.0 s, 132 ready"
    )
    assert explain(replace(IDLE, depth=0)).sentence == "no job of color-extraction is ready"
    full = replace(IDLE, depth=7, in_flight=5, next_start_in=3.0)
    assert (explain(full).cause, explain(full).also) == ("full", ("rate_limit",))
    assert explain(replace(full, depth=0)).cause == "empty"


def test_other_causes_that_hold_a_job_are_listed_for_programs() -> None:
    paused = replace(facts_of("paused"), in_flight=5, job=JOBS["scheduled"])
    why = explain(paused)
    assert (why.cause, why.also) == ("paused", ("scheduled", "full"))
    assert why.details == {"by": "anna@box-2", "reason": "CDN is down", "since": NOON}


def test_the_place_in_the_queue_is_named() -> None:
    limited = replace(facts_of("rate_limit"), job=JOBS["waits_its_turn"])
    assert explain(limited).sentence == "waits for the rate limit: next start in 3.0 s, 131 before it"
    far = replace(READY, position=None)
    assert explain(replace(IDLE, depth=900_000, job=far)).sentence == "waits its turn: many jobs before it"


def test_a_delayed_job_is_no_retry_and_a_due_one_waits_no_more() -> None:
    delayed = replace(READY, state="scheduled", position=None, due_in=3_700.0, max_attempts=4)
    assert explain(replace(IDLE, job=delayed)).sentence == "delayed, due in 62 min"
    assert explain(replace(IDLE, job=replace(delayed, due_in=-0.5))).cause == "next"
