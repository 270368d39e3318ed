"""Replay plans, their letters and their ledgers as plain text, for the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.cli.render.tables import table_text
from tui.text.format import MISSING, count, escape, local_time
from tui.text.words import DATE_TIME, DATE_TIME_ZONE, DAY_AND_MINUTE, replay_options, replay_state, selection
from workers.words import plural

if TYPE_CHECKING:
    from workers.operations.operations import Ledger, Plan, PlanItem

_NUMBERS = ("id", "letters", "sent", "done", "died", "skipped")


def plans_text(plans: Sequence[Plan], *, width: int | None = None) -> str:
    """Return a row for each plan."""
    if not plans:
        return "no plans: failed-jobs replay makes them"
    head = ("id", "made at", "state", "letters", "sent", "done", "died", "skipped", "selection")
    rows = [
        (
            str(plan.id),
            local_time(plan.created_at, DAY_AND_MINUTE),
            plan.standing,
            count(plan.total),
            count(plan.ledger.sent),
            count(plan.ledger.completed),
            count(plan.ledger.died),
            count(plan.ledger.skipped),
            selection(plan.selection, max_ids=None),
        )
        for plan in plans
    ]
    return table_text(head, rows, right=_NUMBERS, shrink=("selection",), width=width)


def plan_text(plan: Plan) -> str:
    """Return all of one plan."""
    resumable = plan.standing in ("interrupted", "paused")
    lines = [
        state_line(plan),
        *([f"to resume: {resume_command(plan)}"] if resumable else []),
        f"made at {local_time(plan.created_at, DATE_TIME_ZONE)} by {escape(plan.actor)}"
        + (f": {escape(plan.reason)}" if plan.reason else ""),
        f"of {plural(plan.total, 'letter')}: {selection(plan.selection, max_ids=None)}",
        replay_options(plan.canary, plan.rate, plan.halt),
        "",
        ledger_text(plan.ledger),
    ]
    return "\n".join(lines)


def state_line(plan: Plan) -> str:
    """Return the plan's state in a line."""
    if plan.standing == "unknown":
        return f"plan {plan.id} should run: Redis does not answer whether a process runs it"
    return f"plan {plan.id} is {plan.standing}{f': {plan.note}' if plan.note else ''}"


def resume_command(plan: Plan) -> str:
    """Return the command that resumes a plan."""
    return f"couturecast-tui failed-jobs resume {plan.id}"


def ledger_text(ledger: Ledger) -> str:
    """Return how many letters are in which state, a line each."""
    rows = [("replayed", count(ledger.sent))]
    rows += [
        (f"  {replay_state(state)}", count(getattr(ledger, state)))
        for state in ("completed", "enqueued", "same", "other", "aborted")
    ]
    rows += [("skipped", count(ledger.skipped)), ("waiting", count(ledger.waiting))]
    labels = max(len(label) for label, _ in rows)
    numbers = max(len(number) for _, number in rows)
    return "\n".join(f"{label:<{labels}}  {number:>{numbers}}" for label, number in rows)


def progress_text(ledger: Ledger) -> str:
    """Return a ledger in a few words, while it grows."""
    words = [f"{count(ledger.completed)} completed", f"{count(ledger.died)} died again"]
    words += [f"{count(ledger.skipped)} skipped"] if ledger.skipped else []
    return ", ".join(words)


def items_text(items: Sequence[PlanItem], *, width: int | None = None) -> str:
    """Return a row for each letter of a plan."""
    if not items:
        return "no letters"
    rows = [
        (
            str(item.letter_id),
            item.state,
            _time(item.enqueued_at),
            _time(item.ended_at),
            (item.note or "") + (" with another payload" if item.kwargs is not None else ""),
        )
        for item in items
    ]
    head = ("letter", "state", "enqueued at", "ended at", "")
    return table_text(head, rows, right=("letter",), shrink=("",), width=width)


def _time(time: object) -> str:
    return MISSING if time is None else local_time(time, DATE_TIME)
