"""Replay plans, their letters and their ledgers as plain text, for the command line."""

from __future__ import annotations

from collections.abc import Sequence

from app.cli.render.dead_letters import counted
from app.cli.render.status import table
from tui.text.format import MISSING, clip, count, escape, utc_time
from workers.operations.operations import Ledger, Plan, PlanItem

_WORDS = {"enqueued": "running still", "same": "died, same error", "other": "died, other error"}
"""What the ledger calls the states of a plan's letters, where that says more."""
_DATE = "%Y-%m-%d %H:%M:%S"


def plans_text(plans: Sequence[Plan], *, width: int | None = None) -> str:
    """A row a plan."""
    if not plans:
        return "no plans: failed-jobs replay makes them"
    head = ("id", "made at", "state", "letters", "sent", "done", "died", "skipped", "selection")
    rows = [head]
    rows += [
        (
            str(plan.id),
            utc_time(plan.created_at, "%m-%d %H:%M"),
            plan.standing,
            count(plan.total),
            count(plan.ledger.sent),
            count(plan.ledger.completed),
            count(plan.ledger.died),
            count(plan.ledger.skipped),
            selection(plan),
        )
        for plan in plans
    ]
    lines = table(rows, right=(0, 3, 4, 5, 6, 7))
    return "\n".join(lines if width is None else [clip(line, width) for line in lines])


def plan_text(plan: Plan) -> str:
    """All of one plan."""
    lines = [
        standing(plan),
        *([f"go on with: {resume_command(plan)}"] if plan.standing in ("interrupted", "paused") else []),
        f"made at {utc_time(plan.created_at, f'{_DATE} UTC')} by {escape(plan.actor)}"
        + (f": {escape(plan.reason)}" if plan.reason else ""),
        f"of {counted(plan.total)}: {selection(plan)}",
        manner(plan.canary, plan.rate, plan.halt),
        "",
        ledger_text(plan.ledger),
    ]
    return "\n".join(lines)


def standing(plan: Plan) -> str:
    """The plan's state in a line."""
    if plan.standing == "unknown":
        return f"plan {plan.id} should run: Redis does not say whether a process carries it out"
    return f"plan {plan.id} is {plan.standing}{f': {plan.note}' if plan.note else ''}"


def resume_command(plan: Plan) -> str:
    """What goes on with a plan."""
    return f"couturecast-tui failed-jobs resume {plan.id}"


def selection(plan: Plan) -> str:
    """What was selected: a filter, or ids."""
    ids = plan.selection.get("ids")
    if not isinstance(ids, list):
        return escape(str(plan.selection.get("filter", MISSING)))
    others = int(plan.selection.get("count", len(ids))) - len(ids)
    return f"ids {' '.join(str(each) for each in ids)}{f' and {count(others)} others' if others > 0 else ''}"


def manner(canary: int, rate: float | None, halt: float) -> str:
    """How a plan is carried out."""
    return " · ".join(
        (
            f"canary of {count(canary)} first" if canary else "no canary",
            f"{rate:g} a second" if rate else "as fast as it goes",
            "never halts" if halt >= 1 else f"halts where more than {halt * 100:g} % die again",
        )
    )


def ledger_text(ledger: Ledger) -> str:
    """How many letters came how far, a line each."""
    rows = [("replayed", count(ledger.sent))]
    rows += [
        (f"  {_WORDS.get(name, name)}", count(getattr(ledger, name)))
        for name in ("completed", "enqueued", "same", "other", "aborted")
    ]
    rows += [("skipped", count(ledger.skipped)), ("waiting", count(ledger.waiting))]
    return "\n".join(table(rows, right=(1,)))


def progress_text(ledger: Ledger) -> str:
    """A ledger in a few words, while it grows."""
    words = [f"{count(ledger.completed)} completed", f"{count(ledger.died)} died again"]
    words += [f"{count(ledger.skipped)} skipped"] if ledger.skipped else []
    return ", ".join(words)


def items_text(items: Sequence[PlanItem]) -> str:
    """A row a letter of a plan."""
    if not items:
        return "no letters"
    rows = [("letter", "state", "enqueued at", "ended at", "")]
    rows += [
        (
            str(item.letter_id),
            item.state,
            _time(item.enqueued_at),
            _time(item.ended_at),
            escape(item.note or "") + (" with another payload" if item.kwargs is not None else ""),
        )
        for item in items
    ]
    return "\n".join(table(rows, right=(0,)))


def _time(at: object) -> str:
    return MISSING if at is None else utc_time(at, _DATE)
