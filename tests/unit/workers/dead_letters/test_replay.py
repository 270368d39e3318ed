"""The next step of a plan, by how its jobs have ended so far."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.dead_letters.plans import Ledger, Plan
from workers.dead_letters.replay.steps import MAX_STEP_LETTERS, next_step
from workers.dead_letters.replay.token_bucket import TokenBucket

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def plan(total: int, **options: Any) -> Plan:
    settings: dict[str, Any] = {"canary": 0, "rate": None, "halt": 0.2} | options
    return Plan(
        actor="ops",
        reason="",
        selection={},
        id=1,
        created_at=NOON,
        total=total,
        state="running",
        note="",
        ended_at=None,
        **settings,
    )


def step(ledger: Ledger, **options: Any) -> tuple[str, int]:
    total = ledger.waiting + ledger.sent + ledger.skipped
    found = next_step(plan(total, **options), ledger)
    return found.verb, found.max_letters


def test_a_plan_without_a_canary_sends_all_letters() -> None:
    assert step(Ledger(waiting=3_000)) == ("send", MAX_STEP_LETTERS)
    assert step(Ledger(enqueued=3_000)) == ("done", 0)
    assert step(Ledger()) == ("done", 0)


def test_the_canary_goes_first_and_is_waited_for() -> None:
    assert step(Ledger(waiting=100), canary=5) == ("send", 5)
    assert step(Ledger(waiting=97, enqueued=3), canary=5) == ("send", 2)
    assert step(Ledger(waiting=95, enqueued=4, completed=1), canary=5) == ("wait", 0)
    assert step(Ledger(waiting=95, completed=5), canary=5) == ("send", MAX_STEP_LETTERS)


def test_a_canary_letter_that_is_skipped_is_replaced_by_the_next() -> None:
    assert step(Ledger(waiting=95, skipped=2, completed=3), canary=5) == ("send", 2)


def test_a_canary_larger_than_the_plan_is_the_plan() -> None:
    assert step(Ledger(waiting=3), canary=10) == ("send", 3)
    assert step(Ledger(completed=3), canary=10) == ("done", 0)


def test_a_canary_that_fails_halts_as_soon_as_that_is_certain() -> None:
    assert step(Ledger(waiting=95, enqueued=4, same=1), canary=5)[0] == "wait"
    assert step(Ledger(waiting=95, enqueued=3, same=2), canary=5)[0] == "halt"
    assert step(Ledger(waiting=95, completed=4, other=1), canary=5)[0] == "send"
    assert step(Ledger(waiting=95, completed=3, same=1, other=1), canary=5)[0] == "halt"


def test_the_halt_rule_waits_for_some_jobs_to_have_ended() -> None:
    assert step(Ledger(waiting=95, enqueued=1, same=4))[0] == "send"
    assert step(Ledger(waiting=95, same=5))[0] == "halt"
    assert step(Ledger(waiting=1, skipped=1, same=2))[0] == "send"


def test_a_limit_of_one_never_halts() -> None:
    assert step(Ledger(waiting=10, same=90), halt=1.0) == ("send", MAX_STEP_LETTERS)


def test_a_halt_has_its_reason() -> None:
    assert next_step(plan(100), Ledger(waiting=90, completed=6, same=3, other=1)).reason == (
        "4 of 10 died again, limit 20 %"
    )


@pytest.mark.parametrize(
    ("ledger", "halt", "higher"),
    [
        (Ledger(completed=2, same=3), 0.2, 0.7),
        (Ledger(completed=9, same=1), 0.2, 0.3),
        (Ledger(same=5), 0.8, 1.0),
        (Ledger(), 0.05, 0.2),
    ],
)
def test_the_limit_that_is_offered_lets_a_halted_plan_go_on(
    ledger: Ledger, halt: float, higher: float
) -> None:
    halted = replace(plan(5, halt=halt), ledger=ledger)
    assert halted.suggested_limit == pytest.approx(higher, abs=0.11)
    assert halted.suggested_limit > halt
    share = ledger.died / ledger.ended if ledger.ended else 0.0
    assert halted.suggested_limit > share or halted.suggested_limit == 1.0


counts = st.integers(0, 50)
ledgers = st.builds(Ledger, *[counts] * 7)


@given(ledgers, st.integers(0, 60), st.floats(0.01, 1))
def test_no_step_sends_more_than_the_canary_before_it_has_ended(
    ledger: Ledger, canary: int, halt: float
) -> None:
    total = ledger.waiting + ledger.sent + ledger.skipped
    found = next_step(plan(total, canary=canary, halt=halt), ledger)
    if found.verb == "send" and ledger.ended < min(canary, ledger.sent + ledger.waiting):
        assert 0 < found.max_letters <= canary - ledger.sent
    assert (found.verb == "done") == (ledger.waiting == 0)
    if found.verb == "halt":
        assert ledger.died / ledger.ended > halt


@pytest.mark.parametrize("rate", [0.5, 20.0, 1_000.0])
def test_a_rate_is_kept_over_any_time_and_pauses_are_not_made_up_for(rate: float) -> None:
    tokens, sent, clock = TokenBucket(), 0, 100.0
    for tick in range(2_000):
        clock += 60.0 if tick == 1_000 else 0.05
        most = tokens.available(rate, clock)
        tokens.take(most)
        sent += most
    seconds = 1_999 * 0.05
    assert rate * seconds * 0.98 - 1 <= sent <= rate * (seconds + 0.5) + 2
