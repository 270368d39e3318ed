"""The events that actions of operators are, each with a plain sentence.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from storage.database.events import SHORT_ID_CHARS, EventKind, NewEvent
from storage.dead_letters.plans import Plan
from storage.repositories.operator_actions import OperatorAction
from workers.words import plural


@dataclass(frozen=True, slots=True)
class _Sentence:
    """The words of a verb's event: the operator, then these words, then the reason."""

    kind: EventKind
    words: Callable[[OperatorAction], str]
    subject: str | None = None
    """Name of the argument that is the subject."""
    always: bool = False
    """An event, too, if nothing was there to be changed."""


def _count(action: OperatorAction, noun: str) -> str:
    return plural(action.affected, noun)


def _drain_words(action: OperatorAction) -> str:
    jobs = _count(action, "job")
    if action.arguments.get("now") is True:
        return f"drains worker {_worker(action)} at once: its {jobs} in flight are requeued"
    return f"drains worker {_worker(action)}, {jobs} in flight"


def _jobs(action: OperatorAction) -> str:
    keys = action.arguments.get("keys") or []
    jobs = f"job {keys[0]}" if len(keys) == 1 else _count(action, "job")
    return f"{jobs} of {action.arguments.get('queue')}"


def _alert(action: OperatorAction) -> str:
    name, queue = action.arguments.get("alert") or "all alerts", action.arguments.get("queue")
    return f"{name} of {queue}" if queue else str(name)


def _until_text(action: OperatorAction) -> str:
    return datetime.fromisoformat(action.arguments["until"]).strftime("%Y-%m-%d %H:%M:%S UTC")


def _worker(action: OperatorAction) -> str:
    name = action.arguments.get("name")
    short_id = str(action.arguments.get("worker"))[:SHORT_ID_CHARS]
    return f"{short_id} ({name})" if name else short_id


_SENTENCES: Mapping[str, _Sentence] = {
    "cron disable": _Sentence(
        "schedule-disabled",
        lambda action: f"disabled schedule {action.arguments.get('schedule')}",
        subject="schedule",
    ),
    "cron enable": _Sentence(
        "schedule-enabled",
        lambda action: f"enabled schedule {action.arguments.get('schedule')}",
        subject="schedule",
    ),
    "cron run": _Sentence(
        "schedule-run",
        lambda action: f"ran schedule {action.arguments.get('schedule')}: {_count(action, 'job')}",
        subject="schedule",
        always=True,
    ),
    "abort": _Sentence("jobs-aborted", lambda action: f"aborted {_jobs(action)}"),
    "duplicate": _Sentence("jobs-duplicated", lambda action: f"enqueued {_jobs(action)} once more"),
    "remove": _Sentence("jobs-removed", lambda action: f"removed {_jobs(action)}"),
    "run-now": _Sentence("jobs-advanced", lambda action: f"put {_jobs(action)} at the head of the queue"),
    "acknowledge": _Sentence(
        "alert-acknowledged", lambda action: f"acknowledged {_alert(action)}", subject="alert"
    ),
    "silence": _Sentence(
        "alert-silenced",
        lambda action: f"silenced {_alert(action)} until {_until_text(action)}",
        subject="alert",
        always=True,
    ),
    "end-silence": _Sentence(
        "alert-unsilenced", lambda action: f"ended the silence of {_alert(action)}", subject="alert"
    ),
    "archive": _Sentence("letters-archived", lambda action: f"archived {_count(action, 'dead letter')}"),
    "cache evict": _Sentence("cache-evicted", lambda action: f"evicted {_count(action, 'cache entry')}"),
    "cache evict-user": _Sentence(
        "cache-evicted",
        lambda action: f"evicted {_count(action, 'cache entry')} of user {action.arguments.get('user')}",
        subject="user",
    ),
    "cancel-plan": _Sentence(
        "plan-cancelled",
        lambda action: f"cancelled plan {action.arguments.get('plan')}",
        subject="plan",
        always=True,
    ),
    "discard": _Sentence("letters-discarded", lambda action: f"discarded {_count(action, 'dead letter')}"),
    "drain": _Sentence(
        "worker-draining",
        _drain_words,
        subject="worker",
        always=True,
    ),
    "undo-drain": _Sentence(
        "worker-resumed",
        lambda action: f"has worker {_worker(action)} take jobs again",
        subject="worker",
    ),
    "enqueue": _Sentence(
        "jobs-enqueued", lambda action: f"enqueued {_count(action, 'job')} on {action.arguments.get('queue')}"
    ),
    "pause": _Sentence("queue-paused", lambda action: f"paused {action.arguments.get('queue')}"),
    "pause-plan": _Sentence(
        "plan-paused",
        lambda action: f"paused plan {action.arguments.get('plan')}",
        subject="plan",
        always=True,
    ),
    "plan": _Sentence(
        "plan-created", lambda action: f"created {action.outcome} of {_count(action, 'dead letter')}"
    ),
    "replay": _Sentence(
        "letters-replayed", lambda action: f"replayed dead letter {action.arguments.get('id')}", subject="id"
    ),
    "restore": _Sentence("letters-restored", lambda action: f"restored {_count(action, 'dead letter')}"),
    "resume": _Sentence("queue-resumed", lambda action: f"resumed {action.arguments.get('queue')}"),
}


def event_of(action: OperatorAction, *, subject: str | None = None, failed: bool = False) -> NewEvent | None:
    """Return the event of an action; None if it changed nothing, or its verb writes its own events."""
    sentence = _SENTENCES.get(action.verb)
    if sentence is None or (action.affected == 0 and (failed or not sentence.always)):
        return None
    if subject is None and sentence.subject is not None:
        value = action.arguments.get(sentence.subject)
        subject = None if value is None else str(value)
    message = f"{action.actor} {sentence.words(action)}"
    if action.reason:
        message += f": {action.reason}"
    if failed:
        message += f" ({action.outcome})"
    return NewEvent(
        sentence.kind,
        message,
        queue=action.arguments.get("queue"),
        subject=subject,
        actor=action.actor,
        detail={"affected": action.affected, "reason": action.reason, "outcome": action.outcome},
        at=action.at,
    )


def plan_started(plan: Plan, actor: str) -> NewEvent:
    """Return the event that a plan is started, or resumed."""
    verb = "resumed" if plan.ledger.sent else "started"
    message = f"{actor} {verb} plan {plan.id}: {plan.ledger.waiting:,} of {plan.total:,} dead letters wait"
    return _plan_event("plan-started", message, plan.id, {"total": plan.total}, actor=actor)


def plan_interrupted(plan_id: int) -> NewEvent:
    """Return the event that the process of a plan ended, or lost a server."""
    message = f"plan {plan_id} was interrupted: resume it with failed-jobs resume {plan_id}"
    return _plan_event("plan-interrupted", message, plan_id, {})


def plan_stopped(plan: Plan, counts: str) -> NewEvent | None:
    """Return the event that a plan halted or is done; None if an operator's action is the event."""
    detail: dict[str, Any] = {
        "sent": plan.ledger.sent,
        "skipped": plan.ledger.skipped,
        "died": plan.ledger.died,
        "note": plan.note,
    }
    if plan.state == "halted":
        message = f"plan {plan.id} halted by itself: {plan.note or counts}"
        return _plan_event("plan-halted", message, plan.id, detail)
    if plan.state == "done":
        return _plan_event("plan-ended", f"plan {plan.id} has enqueued all: {counts}", plan.id, detail)
    return None


def _plan_event(
    kind: EventKind, message: str, plan_id: int, detail: Mapping[str, Any], *, actor: str | None = None
) -> NewEvent:
    return NewEvent(kind, message, subject=str(plan_id), actor=actor, detail=detail)
