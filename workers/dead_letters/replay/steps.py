"""Decides the next step of a replay plan from its ledger.  Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from storage.dead_letters.plans import Ledger, Plan
from workers.percent import percent

MAX_STEP_LETTERS = 1_000
_MIN_ENDED = 5
"""Jobs that must have ended before their share of deaths is conclusive; fewer if the plan has fewer."""


@dataclass(frozen=True, slots=True)
class Step:
    """The next step of a plan: ``send`` up to ``max_letters`` letters, ``wait``, ``halt`` or ``done``."""

    verb: Literal["send", "wait", "halt", "done"]
    max_letters: int = 0
    reason: str = ""
    is_canary: bool = False
    """The step after it depends on its outcome, so the ledger has to be read again."""


def next_step(plan: Plan, ledger: Ledger) -> Step:
    """Return what a running plan does next, by how its jobs ended so far."""
    if ledger.waiting == 0:
        return Step("done")
    canary = min(plan.canary, ledger.sent + ledger.waiting)
    share = ledger.died / ledger.ended if ledger.ended else 0.0
    if share > plan.halt and _is_conclusive(plan, ledger, canary):
        limit = f"limit {percent(plan.halt, None)}"
        return Step("halt", reason=f"{ledger.died} of {ledger.ended} died again, {limit}")
    if ledger.sent < canary:
        return Step("send", min(canary - ledger.sent, MAX_STEP_LETTERS), is_canary=True)
    if ledger.ended < canary:
        return Step("wait")
    return Step("send", MAX_STEP_LETTERS)


def _is_conclusive(plan: Plan, ledger: Ledger, canary: int) -> bool:
    if not canary or ledger.sent > canary:
        return ledger.ended >= min(_MIN_ENDED, plan.total - ledger.skipped)
    # All of the canary have ended, or so many died that the others cannot change the result.
    return ledger.ended >= canary or ledger.died > plan.halt * canary
