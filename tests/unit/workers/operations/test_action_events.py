"""Actions of operators as events: a kind and a plain sentence."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from storage.database.events import NewEvent
from storage.dead_letters.plans import Ledger, Plan, PlanState
from storage.repositories.operator_actions import OperatorAction
from workers.operations.action_events import event_of, plan_started, plan_stopped

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
QUEUE = {"queue": "color-extraction"}


def action(verb: str, arguments: dict[str, Any], affected: int = 1, **fields: str) -> OperatorAction:
    return OperatorAction(
        AT, "anna", verb, arguments, affected, fields.get("reason", ""), fields.get("outcome", "done")
    )


def event(verb: str, arguments: dict[str, Any], affected: int = 1, **fields: str) -> NewEvent:
    found = event_of(action(verb, arguments, affected, **fields))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("verb", "arguments", "affected", "kind", "message"),
    [
        ("pause", QUEUE, 1, "queue-paused", "anna paused color-extraction"),
        ("resume", QUEUE, 1, "queue-resumed", "anna resumed color-extraction"),
        ("enqueue", QUEUE | {"jobs": 1}, 1, "jobs-enqueued", "anna enqueued 1 job on color-extraction"),
        (
            "enqueue",
            QUEUE | {"jobs": 9},
            2_000,
            "jobs-enqueued",
            "anna enqueued 2,000 jobs on color-extraction",
        ),
        ("discard", {"selection": {}}, 3, "letters-discarded", "anna discarded 3 dead letters"),
        ("restore", {"selection": {}}, 1, "letters-restored", "anna restored 1 dead letter"),
        ("archive", {"days": 30}, 2, "letters-archived", "anna archived 2 dead letters"),
        ("replay", {"id": 7}, 1, "letters-replayed", "anna replayed dead letter 7"),
        ("pause-plan", {"plan": 7}, 0, "plan-paused", "anna paused plan 7"),
        ("cancel-plan", {"plan": 7}, 3, "plan-cancelled", "anna cancelled plan 7"),
        ("cache evict", {"keys": ["a"]}, 1, "cache-evicted", "anna evicted 1 cache entry"),
        ("cache evict-user", {"user": "u1"}, 2, "cache-evicted", "anna evicted 2 cache entries of user u1"),
        (
            "acknowledge",
            QUEUE | {"alert": "backlog"},
            1,
            "alert-acknowledged",
            "anna acknowledged backlog of color-extraction",
        ),
        (
            "silence",
            {"alert": None, "queue": None, "until": "2026-03-01T13:00:05.123+00:00"},
            0,
            "alert-silenced",
            "anna silenced all alerts until 2026-03-01 13:00:05 UTC",
        ),
        (
            "end-silence",
            {"alert": "backlog", "queue": None},
            1,
            "alert-unsilenced",
            "anna ended the silence of backlog",
        ),
        ("drain", {"worker": "w1"}, 0, "worker-draining", "anna drains worker w1, 0 jobs in flight"),
        (
            "drain",
            {"worker": "w1", "now": True},
            2,
            "worker-draining",
            "anna drains worker w1 at once: its 2 jobs in flight are requeued",
        ),
    ],
)
def test_each_verb_has_a_kind_and_a_sentence(
    verb: str, arguments: dict[str, Any], affected: int, kind: str, message: str
) -> None:
    found = event(verb, arguments, affected)
    assert (found.kind, found.message, found.actor, found.at) == (kind, message, "anna", AT)


def test_a_reason_and_the_subject_are_part_of_the_event() -> None:
    found = event("pause", QUEUE, reason="new model")
    assert (found.message, found.queue) == ("anna paused color-extraction: new model", "color-extraction")
    assert event("pause-plan", {"plan": 7}).subject == "7"
    assert event("replay", {"id": 7}).subject == "7"


@pytest.mark.parametrize(
    ("verb", "affected", "failed"),
    [
        ("resume", 0, False),
        ("discard", 0, False),
        ("pause", 0, True),
        ("pause-plan", 0, True),
        ("run-plan", 5, False),
        ("a verb of tomorrow", 1, False),
    ],
)
def test_what_changed_nothing_is_no_event(verb: str, affected: int, failed: bool) -> None:
    assert event_of(action(verb, {"plan": 7} | QUEUE, affected), failed=failed) is None


def test_what_failed_half_way_says_so() -> None:
    found = event_of(action("discard", {}, 500, outcome="interrupted"), failed=True)
    assert found is not None
    assert found.message == "anna discarded 500 dead letters (interrupted)"


def plan(state: PlanState, **ledger: int) -> Plan:
    return Plan("anna", "", {}, 0, None, 0.2, 7, AT, 10, state, "3 of 8 died again", None, Ledger(**ledger))


def test_a_plan_starts_resumes_halts_and_ends() -> None:
    assert plan_started(plan("frozen", waiting=10), "bert").message == (
        "bert started plan 7: 10 of 10 dead letters wait"
    )
    assert plan_started(plan("halted", waiting=2, completed=8), "bert").message.startswith(
        "bert resumed plan 7"
    )
    halted, ended = plan_stopped(plan("halted"), "8 replayed"), plan_stopped(plan("done"), "8 replayed")
    assert halted is not None
    assert (halted.kind, halted.subject) == ("plan-halted", "7")
    assert halted.message == "plan 7 halted by itself: 3 of 8 died again"
    assert ended is not None
    assert (ended.kind, ended.message) == ("plan-ended", "plan 7 has enqueued all: 8 replayed")
    assert plan_stopped(plan("paused"), "") is None
    assert plan_stopped(plan("cancelled"), "") is None
