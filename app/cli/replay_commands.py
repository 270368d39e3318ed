"""What the commands on replays and their plans do and print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from app import output
from app.cli.dead_letters_commands import How, agreed, asks, not_taken, preview_fields, refuse, told, width
from app.cli.progress import carried_out, waited
from app.cli.render.dead_letters import counted, preview_text
from app.cli.render.plans import (
    items_text,
    ledger_text,
    manner,
    plan_text,
    plans_text,
    resume_command,
    standing,
)
from app.errors import AppError
from tui.text.format import count, escape
from workers.operations.operations import Operations, Plan, PlanItem, ReplayOptions, Selection

_SHOWN = 20
"""Skipped letters that are named in the end."""
_ALL_SKIPPED = 1_000
"""Skipped letters that a program is given."""


async def replay_one(
    operations: Operations, letter_id: int, kwargs: Mapping[str, Any] | None, how: How, *, wait: bool
) -> int:
    """Enqueue one letter's job again, with another payload if one is given."""
    job_id = await operations.replays.replay(letter_id, kwargs, how.reason)
    with output.receipt():
        if not how.as_json:
            output.text(f"{letter_id} replayed as job {escape(job_id)}")
    if not (wait or how.as_json):
        return 0
    plan = await _plan_of(operations, letter_id)
    if wait:
        plan = await waited(operations, plan)
    with output.receipt():
        if how.as_json:
            output.document({**_plan_fields(plan), "skipped": [], "job_id": job_id})
        elif wait:
            output.text(ledger_text(plan.ledger))
    return _code(plan, wait=wait)


async def replay(
    operations: Operations, wanted: Selection, options: ReplayOptions, how: How, *, wait: bool
) -> int:
    """Replay many by a plan, after what it would do was shown; 1 where that was not all that was wanted."""
    refuse(operations, "replay", how)
    found = await operations.replays.preview(wanted, options)
    left_out = not_taken(wanted, found)
    shown = {"preview": preview_fields(found, left_out)}
    if how.dry_run and how.as_json:
        output.document({"dry_run": True, **shown["preview"]})
        return 0
    lines = preview_text(found, left_out, replay=True, width=width())
    if found.total:
        lines += f"\n{manner(options.canary, options.rate, options.halt)}"
    told(lines, how)
    if how.dry_run:
        return 0
    if not found.total:
        return _nothing(shown, left_out, how)
    if not how.yes and asks(wanted):
        agreed(f"Replay {counted(found.total)}?")
    plan = await operations.replays.create_plan(found.selection, options, how.reason)
    plan = await carried_out(operations, plan)
    if wait:
        plan = await waited(operations, plan)
    return max(await _ended(operations, plan, how, shown, wait=wait), 1 if left_out else 0)


def _nothing(shown: dict[str, Any], left_out: Sequence[int], how: How) -> int:
    if how.as_json:
        output.document({"plan": None, "ledger": None, "skipped": [], **shown})
    else:
        output.text("nothing to replay")
    return 1 if left_out else 0


async def resume(operations: Operations, plan_id: int, *, halt: float | None, wait: bool, how: How) -> int:
    """Go on with a plan; 1 where that did not bring it to its end."""
    refuse(operations, "run-plan", how)
    plan = await operations.replays.get_plan(plan_id)
    if plan.state == "halted" and (halt is None or halt <= plan.halt):
        raise AppError(
            f"plan {plan_id} has halted ({plan.note}): once the cause is mended, give a limit above "
            f"{plan.halt * 100:g}, for instance {_higher(plan)}; 100 never halts"
        )
    plan = await carried_out(operations, plan, halt)
    if wait:
        plan = await waited(operations, plan)
    return await _ended(operations, plan, how, {}, wait=wait)


async def pause(operations: Operations, plan_id: int, *, as_json: bool) -> int:
    """Enqueue no more of a plan until it is resumed."""
    plan = await operations.replays.pause_plan(plan_id)
    left = f"plan {plan_id} is paused, {counted(plan.ledger.waiting)} of it wait"
    return _stopped(plan, f"{left}: failed-jobs resume {plan_id} goes on", as_json=as_json)


async def cancel(operations: Operations, plan_id: int, *, as_json: bool) -> int:
    """Enqueue no more of a plan, ever."""
    plan = await operations.replays.cancel_plan(plan_id)
    left = f"plan {plan_id} is cancelled, {counted(plan.ledger.waiting)} of it stay dead letters"
    return _stopped(plan, left, as_json=as_json)


def _stopped(plan: Plan, line: str, *, as_json: bool) -> int:
    with output.receipt():
        if as_json:
            output.document(_plan_fields(plan))
        else:
            output.text(line)
    return 0


async def list_plans(operations: Operations, *, limit: int, as_json: bool) -> int:
    """Print the newest plans."""
    plans = await operations.replays.plans(limit)
    if as_json:
        output.document({"items": [_document(each) for each in plans], "next": None})
    else:
        output.text(plans_text(plans, width=width()))
        for plan in plans:
            if plan.standing == "interrupted":
                output.note(f"plan {plan.id} is interrupted: go on with {resume_command(plan)}")
    return 0


async def show_plan(operations: Operations, plan_id: int, *, as_json: bool) -> int:
    """Print one plan with its ledger."""
    plan = await operations.replays.get_plan(plan_id)
    if as_json:
        output.document(_plan_fields(plan))
    else:
        output.text(plan_text(plan))
    return 0


async def plan_items(
    operations: Operations, plan_id: int, *, state: str | None, limit: int, after: int, as_json: bool
) -> int:
    """Print a page of a plan's letters."""
    items = await operations.replays.plan_items(plan_id, state=state, limit=limit + 1, after=after)
    items, more = items[:limit], len(items) > limit
    if as_json:
        plan = await operations.replays.get_plan(plan_id)
        following = str(items[-1].id) if more else None
        output.document({**_plan_fields(plan), "items": [asdict(each) for each in items], "next": following})
        return 0
    output.text(items_text(items))
    if more:
        output.note(f"more: --cursor {items[-1].id}")
    return 0


async def _plan_of(operations: Operations, letter_id: int) -> Plan:
    """The plan by which a letter was replayed last."""
    lineage = await operations.dead_letters.lineage(letter_id)
    items = next(items for letter, items in lineage if letter.id == letter_id)
    return await operations.replays.get_plan(items[-1].plan_id)


async def _ended(
    operations: Operations, plan: Plan, how: How, shown: Mapping[str, Any], *, wait: bool
) -> int:
    """Print what became of a plan; the exit code."""
    most = _ALL_SKIPPED if how.as_json else _SHOWN
    skipped: Sequence[PlanItem] = ()
    if plan.ledger.skipped:
        skipped = await operations.replays.plan_items(plan.id, state="skipped", limit=most)
    with output.receipt():
        if how.as_json:
            output.document({**_plan_fields(plan), "skipped": [asdict(each) for each in skipped], **shown})
        else:
            output.text("\n".join(_told(plan, skipped)))
    return _code(plan, wait=wait)


def _told(plan: Plan, skipped: Sequence[PlanItem]) -> list[str]:
    command = f"couturecast-tui failed-jobs plan {plan.id}"
    lines = [standing(plan)]
    lines.append(ledger_text(plan.ledger))
    if skipped:
        lines += ["skipped:"]
        lines += [f"  letter {each.letter_id}: {escape(each.note or '')}" for each in skipped]
    if plan.ledger.skipped > len(skipped):
        others = count(plan.ledger.skipped - len(skipped))
        lines.append(f"  and {others} others: {command} --state skipped")
    if plan.state == "halted":
        lines.append("mend the cause, then go on with a higher limit, or not at all:")
        lines += [
            f"  couturecast-tui failed-jobs {verb}"
            for verb in (f"resume {plan.id} {_higher(plan)}", f"cancel {plan.id}")
        ]
    elif plan.state == "paused":
        lines.append(f"go on with: {resume_command(plan)}")
    elif plan.ledger.enqueued:
        lines.append(f"how they end: {command}")
    return lines


def _higher(plan: Plan) -> str:
    """The option with which a plan that has halted goes on."""
    return f"--halt {plan.suggested_limit * 100:g}"


def _code(plan: Plan, *, wait: bool) -> int:
    """0 where all that was wanted is done; jobs that died again count where they were waited for."""
    ledger = plan.ledger
    failed = wait and (ledger.died or ledger.aborted)
    return 1 if plan.state != "done" or ledger.skipped or failed else 0


def _document(plan: Plan) -> dict[str, Any]:
    """A plan for programs."""
    return {**asdict(plan), "standing": plan.standing}


def _plan_fields(plan: Plan) -> dict[str, Any]:
    found = _document(plan)
    return {
        "plan": {name: value for name, value in found.items() if name != "ledger"},
        "ledger": found["ledger"],
    }
