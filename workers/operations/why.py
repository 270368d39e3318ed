"""Why a job does not run, or why a queue starts nothing more: one sentence from the engine's state.  Pure.

Several causes may hold a job at once; `CAUSES` has their order.  First comes what has happened to the job,
then what lasts until an operator acts, then what passes by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from workers.engine.job_reader import JobState
from workers.engine.policy import MAX_PROCESSES
from workers.monitoring.descriptions import duration
from workers.operations.start_facts import Clock, JobFacts, StartFacts, utc_time
from workers.words import plural

Cause = Literal[
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
]


@dataclass(frozen=True, slots=True)
class Why:
    """The first cause that holds, in one sentence.  ``also`` has the others, ``details`` their figures."""

    cause: Cause
    sentence: str
    also: tuple[Cause, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Rule:
    applies: Callable[[StartFacts], bool]
    sentence: Callable[[StartFacts], str]
    details: Callable[[StartFacts], Mapping[str, Any]] = lambda facts: {}


def explain(facts: StartFacts, clock: Clock = utc_time) -> Why:
    """Return the answer: one sentence, in which ``clock`` writes the times."""
    facts = replace(facts, clock=clock)
    causes = [cause for cause, rule in CAUSES.items() if rule.applies(facts)]
    rule = CAUSES[causes[0]]
    others = tuple(cause for cause in causes[1:] if cause not in _DEFAULTS)
    details = {name: value for name, value in rule.details(facts).items() if value is not None}
    return Why(causes[0], rule.sentence(facts), others, details)


def _job(facts: StartFacts) -> JobFacts:
    assert facts.job is not None  # noqa: S101 - the rules that ask for it apply to jobs only
    return facts.job


def _is(facts: StartFacts, state: JobState | None) -> bool:
    return facts.job is not None and facts.job.state == state


def _time(facts: StartFacts, second: float | None) -> str:
    return "an unknown time" if second is None else facts.clock(second)


def _for_duration(seconds: float | None) -> str:
    return "" if seconds is None else f" for {duration(seconds)}"


# What has happened to the job


def _unknown(facts: StartFacts) -> str:
    return (
        f"{facts.queue} has no job {_job(facts).key}: it was never enqueued, it was removed, "
        "or it has ended and its record has expired"
    )


def _end_text(participle: str) -> Callable[[StartFacts], str]:
    return lambda facts: f"{participle} at {_time(facts, _job(facts).ended_at)}{_cause(_job(facts))}"


def _cause(job: JobFacts) -> str:
    return f": {job.error}" if job.error else ""


def _dead_letter(facts: StartFacts) -> str:
    job = _job(facts)
    letter = "" if job.letter is None else f": dead letter {job.letter}"
    attempts = f" after {plural(job.attempt, 'attempt')}" if job.attempt else ""
    return f"failed for good at {_time(facts, job.ended_at)}{attempts}{letter or _cause(job)}"


def _held_by_dead(facts: StartFacts) -> str:
    after = (
        f"in {duration(facts.recover_in)}"
        if facts.recover_in is not None
        else f"once a worker serves {facts.queue}"
    )
    return f"held by {_job(facts).worker}, which is dead: it runs again {after}"


def _held_by_blocked(facts: StartFacts) -> str:
    where = f" by {facts.blocked_where}" if facts.blocked_where else ""
    return f"held by {_job(facts).worker}, whose event loop is blocked{where}"


def _running_text(facts: StartFacts) -> str:
    job = _job(facts)
    ends = "" if job.ends_at is None else f" at {_time(facts, job.ends_at)}"
    ran = f"has run on {job.worker}{_for_duration(job.running_for)}"
    return f"{ran}; the timeout of {facts.timeout:g} s ends it{ends}"


def _run_details(facts: StartFacts) -> Mapping[str, Any]:
    job = _job(facts)
    return {
        "worker": job.worker,
        "running_for": job.running_for,
        "timeout": facts.timeout,
        "ends_at": job.ends_at,
        "attempt": job.attempt,
        "recover_in": facts.recover_in if job.worker_state == "dead" else None,
    }


def _end_details(facts: StartFacts) -> Mapping[str, Any]:
    job = _job(facts)
    return {"ended_at": job.ended_at, "error": job.error, "letter": job.letter, "attempts": job.attempt}


# What lasts until an operator acts


def _broken_keys(facts: StartFacts) -> str:
    keys = ", ".join(facts.broken_keys)
    return f"{facts.queue} makes no progress until {keys} is repaired: another program gave it another type"


def _paused_text(facts: StartFacts) -> str:
    pause = facts.pause
    if pause is None:
        return ""
    since = "" if pause.since is None else f" since {_time(facts, pause.since)}"
    return f"{facts.queue} is paused by {pause.by}{since}{f': {pause.reason}' if pause.reason else ''}"


def _pause_details(facts: StartFacts) -> Mapping[str, Any]:
    pause = facts.pause
    return {} if pause is None else {"by": pause.by, "reason": pause.reason, "since": pause.since}


def _draining_text(facts: StartFacts) -> str:
    if facts.draining == 1:
        return f"the only process that serves {facts.queue} drains: it starts no more jobs"
    return f"all {facts.draining} processes that serve {facts.queue} drain: they start no more jobs"


def _standby(facts: StartFacts) -> str:
    return (
        f"{MAX_PROCESSES} processes hold jobs of {facts.queue} and take no more: "
        f"{facts.standby} on standby may only start once one of them holds none"
    )


# What passes by itself


def _scheduled_text(facts: StartFacts) -> str:
    job = _job(facts)
    retries = job.max_attempts - 1
    kind = f"retry {job.attempt} of {retries}" if 0 < job.attempt <= retries else "delayed"
    return f"{kind}, due at no time" if job.due_in is None else f"{kind}, due in {duration(job.due_in)}"


def _empty(facts: StartFacts) -> str:
    waiting = f"; {plural(facts.scheduled, 'job')} scheduled for later" if facts.scheduled else ""
    return f"no job of {facts.queue} is ready{waiting}"


def _slots(facts: StartFacts) -> str:
    return f"{facts.queue} is full: {facts.in_flight} of {facts.concurrency}"


def _dead_slots(facts: StartFacts) -> str:
    again = (
        "until a worker serves the queue"
        if facts.recover_in is None
        else f"for {duration(facts.recover_in)} more"
    )
    return f"{_slots(facts)}, {facts.held_by_dead} of them held by a dead worker {again}"


def _blocked_slots(facts: StartFacts) -> str:
    where = f" by {facts.blocked_where}" if facts.blocked_where else ""
    return f"{_slots(facts)}, {facts.held_by_blocked} of them on a worker whose event loop is blocked{where}"


def _full(facts: StartFacts) -> str:
    usual = "" if facts.usual_run is None else f", usually {duration(facts.usual_run)}"
    oldest = (
        "" if facts.oldest_running is None else f", the oldest{_for_duration(facts.oldest_running)}{usual}"
    )
    return f"{_slots(facts)}{oldest}"


def _slot_details(facts: StartFacts) -> Mapping[str, Any]:
    return {
        "in_flight": facts.in_flight,
        "concurrency": facts.concurrency,
        "oldest_running": facts.oldest_running,
        "usual_run": facts.usual_run,
        "held_by_dead": facts.held_by_dead,
        "recover_in": facts.recover_in,
        "held_by_blocked": facts.held_by_blocked,
        "before": _jobs_before(facts),
    }


def _jobs_before(facts: StartFacts) -> int | None:
    return None if facts.job is None else facts.job.position


def _rate_limit(facts: StartFacts) -> str:
    wait = duration(facts.next_start_in or 0.0)
    if facts.job is None:
        return f"{facts.queue} waits for its rate limit: next start in {wait}, {facts.depth:,} ready"
    before = facts.job.position
    queue = "" if before is None else f", {before:,} before it" if before else ", it is the next"
    return f"waits for the rate limit: next start in {wait}{queue}"


def _rate_details(facts: StartFacts) -> Mapping[str, Any]:
    limit = None if facts.rate_limit is None else str(facts.rate_limit)
    return {"next_start_in": facts.next_start_in, "rate_limit": limit, "before": _jobs_before(facts)}


def _turn(facts: StartFacts) -> str:
    before = _job(facts).position
    return f"waits its turn: {'many jobs' if before is None else plural(before, 'job')} before it"


def _starts(facts: StartFacts) -> str:
    ready = f"{plural(facts.depth, 'job')} ready, {facts.in_flight} of {facts.concurrency} slots taken"
    return f"jobs of {facts.queue} start: {ready}"


def _is_turn(facts: StartFacts) -> bool:
    job = facts.job
    return job is not None and job.state == "ready" and job.position != 0


CAUSES: Mapping[Cause, _Rule] = {
    "redis_unavailable": _Rule(
        lambda facts: facts.redis_error is not None,
        lambda facts: f"Redis is unavailable, so nothing starts: {facts.redis_error}",
        lambda facts: {"error": facts.redis_error},
    ),
    "unknown": _Rule(lambda facts: _is(facts, None), _unknown),
    "done": _Rule(lambda facts: _is(facts, "done"), _end_text("completed"), _end_details),
    "aborted": _Rule(
        lambda facts: _is(facts, "failed") and _job(facts).status == "aborted",
        _end_text("aborted"),
        _end_details,
    ),
    "dead_letter": _Rule(
        lambda facts: _is(facts, "failed") and _job(facts).status != "aborted", _dead_letter, _end_details
    ),
    "held_by_dead_worker": _Rule(
        lambda facts: _is(facts, "running") and _job(facts).worker_state == "dead",
        _held_by_dead,
        _run_details,
    ),
    "held_by_blocked_worker": _Rule(
        lambda facts: _is(facts, "running") and _job(facts).worker_state == "blocked",
        _held_by_blocked,
        _run_details,
    ),
    "aborting": _Rule(
        lambda facts: _is(facts, "running") and _job(facts).aborting,
        lambda facts: f"runs on {_job(facts).worker}, which is asked to abort it",
        _run_details,
    ),
    "running": _Rule(lambda facts: _is(facts, "running"), _running_text, _run_details),
    "broken_keys": _Rule(
        lambda facts: facts.waits and bool(facts.broken_keys),
        _broken_keys,
        lambda facts: {"keys": list(facts.broken_keys)},
    ),
    "no_worker": _Rule(
        lambda facts: facts.waits and facts.taking + facts.standby + facts.draining == 0,
        lambda facts: f"no worker serves {facts.queue}",
    ),
    "handler": _Rule(
        lambda facts: facts.waits and facts.handler_problem is not None,
        lambda facts: f"no job of {facts.queue} can run: {facts.handler_problem}",
        lambda facts: {"error": facts.handler_problem},
    ),
    "paused": _Rule(lambda facts: facts.waits and facts.pause is not None, _paused_text, _pause_details),
    "draining": _Rule(
        lambda facts: facts.waits and facts.taking + facts.standby == 0 and facts.draining > 0,
        _draining_text,
        lambda facts: {"draining": facts.draining},
    ),
    "standby": _Rule(
        lambda facts: facts.waits and facts.taking == 0 and facts.standby > 0,
        _standby,
        lambda facts: {"standby": facts.standby, "processes": MAX_PROCESSES},
    ),
    "unlisted": _Rule(
        lambda facts: _is(facts, "unlisted"),
        lambda facts: "is on no list of its queue: the check of the queue's keys lists it again",
    ),
    "scheduled": _Rule(
        lambda facts: facts.waits_for_time,
        _scheduled_text,
        lambda facts: {"due_in": _job(facts).due_in, "attempts": _job(facts).attempt},
    ),
    "empty": _Rule(
        lambda facts: facts.job is None and facts.depth == 0,
        _empty,
        lambda facts: {"scheduled": facts.scheduled},
    ),
    "slots_of_dead_worker": _Rule(
        lambda facts: facts.waits and facts.is_full and facts.held_by_dead > 0, _dead_slots, _slot_details
    ),
    "slots_of_blocked_worker": _Rule(
        lambda facts: facts.waits and facts.is_full and facts.held_by_blocked > 0,
        _blocked_slots,
        _slot_details,
    ),
    "full": _Rule(lambda facts: facts.waits and facts.is_full, _full, _slot_details),
    "rate_limit": _Rule(
        lambda facts: facts.waits and facts.next_start_in is not None, _rate_limit, _rate_details
    ),
    "not_a_job": _Rule(
        lambda facts: facts.waits and facts.job is not None and facts.job.problem is not None,
        lambda facts: f"{_job(facts).problem}: it becomes a dead letter when a worker takes it",
        lambda facts: {"problem": _job(facts).problem},
    ),
    "stalled": _Rule(
        lambda facts: facts.waits and facts.stalled is not None,
        lambda facts: f"nothing forbids a start, and none happens: {facts.stalled}",
    ),
    "waits_its_turn": _Rule(_is_turn, _turn, lambda facts: {"before": _jobs_before(facts)}),
    "next": _Rule(
        lambda facts: facts.waits and facts.job is not None, lambda facts: "is next: a worker takes it now"
    ),
    "starts": _Rule(lambda facts: facts.job is None, _starts, _slot_details),
}
"""In the order in which they count; the last two always apply to what waits."""
_DEFAULTS: frozenset[Cause] = frozenset({"running", "waits_its_turn", "next", "starts"})
"""Facts that are not a further cause."""
