"""``failed-jobs replay``, and ``plans``, ``plan``, ``pause``, ``resume`` and ``cancel`` of replay plans."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import output
from app.cli.bulk import BulkOptions, check_writable, confirm, go_on_after_preview
from app.cli.completion import ITEM_STATES, complete_item_state, complete_plan
from app.cli.filter_options import FilterOptions, with_filter_options
from app.cli.options import DataDir, DryRun, Json, Yes
from app.cli.progress import run_plan_with_progress, wait_for_jobs
from app.cli.render.dead_letters import preview_text
from app.cli.render.plans import (
    items_text,
    ledger_text,
    plan_text,
    plans_text,
    resume_command,
    state_line,
)
from app.cli.render.tables import terminal_width
from app.cli.runner import run_operation
from app.cli.selection import (
    All,
    Ids,
    Reason,
    bulk_options,
    excluded_ids,
    is_confirmed,
    parse_selection,
    preview_document,
)
from app.cli.values import check_choice, json_object, one_of, percentage
from app.errors import AppError, UsageError
from storage.database.tables import MAX_ID
from storage.dead_letters.filters import LetterFilter
from storage.errors import InvalidFilterError
from tui.text.format import count, escape
from tui.text.words import replay_options
from workers.words import plural

if TYPE_CHECKING:
    from workers.operations.operations import Operations, Plan, PlanItem, ReplayOptions, Selection
    from workers.operations.replays import ReplayOperations

commands = typer.Typer(rich_markup_mode=None)

_MAX_PRINTED_SKIPPED = 20
"""Skipped letters that the result for people names."""
_MAX_LISTED_SKIPPED = 1_000
"""Skipped letters that the result for programs has."""

PlanId = Annotated[
    int,
    typer.Argument(
        metavar="ID", help="Of a plan: failed-jobs plans lists them.", autocompletion=complete_plan
    ),
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until the jobs have ended.")]
Halt = Annotated[
    str | None,
    typer.Option("--halt", help="Halt when more of the ended jobs die again; 100: never.", metavar="PERCENT"),
]


@commands.command("replay")
@with_filter_options("poison", "state")
def replay(
    filter_options: FilterOptions,
    ids: Ids = None,
    all_: All = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    rate: Annotated[float | None, typer.Option("--rate", help="Jobs a second.", metavar="N")] = None,
    canary: Annotated[
        int | None,
        typer.Option(
            "--canary",
            help="Letters to enqueue first; the others follow once their jobs have ended.",
            metavar="N",
        ),
    ] = None,
    halt: Halt = None,
    poison: Annotated[
        bool, typer.Option("--poison", help="Also letters that died three times in a row of the same error.")
    ] = False,
    reason: Reason = "",
    data: Annotated[
        str | None, typer.Option("--data", help="Another payload for exactly one letter.", metavar="JSON")
    ] = None,
    wait: Wait = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Enqueue dead letters again: one at once, many by a plan.

    A plan has the letters that are dead when you confirm it.  It can be paused, resumed and cancelled.
    """
    selection = parse_selection(ids, filter_options, all_)
    one = None if isinstance(selection, LetterFilter) or len(selection) != 1 else selection[0]
    kwargs = _parse_payload(data, one, dry_run=dry_run)
    plan_options = _parse_plan_options(
        rate=rate, canary=canary, halt=percentage(halt, "--halt"), poison=poison
    )
    options = bulk_options(selection, dry_run=dry_run, yes=yes, reason=reason, as_json=as_json)
    if one is not None and not dry_run:
        run_operation(data_dir, lambda operations: _replay_one(operations, one, kwargs, options, wait=wait))
    run_operation(
        data_dir,
        lambda operations: _replay_many(operations, selection, plan_options, options, wait=wait),
        redis="optional" if dry_run else "required",
    )


def _parse_payload(data: str | None, letter_id: int | None, *, dry_run: bool) -> dict[str, Any] | None:
    if data is None:
        return None
    if letter_id is None:
        raise UsageError("--data is the payload of one letter: give exactly one id")
    if dry_run:
        raise UsageError("--dry-run does not check --data: drop one of them")
    return json_object(data, "--data")


def _parse_plan_options(**options: Any) -> ReplayOptions:
    from workers.operations.operations import ReplayOptions

    try:
        return ReplayOptions.from_values(**options)
    except InvalidFilterError as error:
        raise UsageError(error.problem, field=f"--{error.field}") from None


async def _replay_one(
    operations: Operations,
    letter_id: int,
    kwargs: Mapping[str, Any] | None,
    options: BulkOptions,
    *,
    wait: bool,
) -> int:
    job_id, plan_id = await operations.replays.replay(letter_id, kwargs, options.reason)
    if not options.as_json:
        output.print_result(f"{letter_id} replayed as job {escape(job_id)}", {}, as_json=False)
        if not wait:
            return 0
    plan = await operations.replays.get_plan(plan_id)
    if wait:
        plan = await wait_for_jobs(operations, plan)
    document = {**_plan_document(plan), "skipped": [], "job_id": job_id}
    output.print_result(ledger_text(plan.ledger), document, as_json=options.as_json)
    return _exit_code(plan, wait=wait)


async def _replay_many(
    operations: Operations,
    selection: Selection,
    plan_options: ReplayOptions,
    options: BulkOptions,
    *,
    wait: bool,
) -> int:
    """Replay the letters; return 1 unless all were replayed."""
    check_writable(operations, "replay", options)
    preview = await operations.replays.preview(selection, plan_options)
    excluded = excluded_ids(selection, preview)
    document = preview_document(preview, excluded)
    summary = preview_text(preview, excluded, replay=True, width=terminal_width())
    if preview.total:
        summary += f"\n{replay_options(plan_options.canary, plan_options.rate, plan_options.halt)}"
    if not go_on_after_preview(summary, document, options):
        return 0
    if not preview.total:
        nothing: dict[str, Any] = {"plan": None, "ledger": None, "skipped": [], "preview": document}
        output.print_result("nothing to replay", nothing, as_json=options.as_json)
        return 1 if excluded else 0
    if is_confirmed(selection) and options.needs_confirmation:
        confirm(f"Replay {plural(preview.total, 'letter')}?")
    plan = await operations.replays.create_plan(preview.selection, plan_options, options.reason)
    plan = await run_plan_with_progress(operations, plan)
    if wait:
        plan = await wait_for_jobs(operations, plan)
    await _print_result(operations, plan, {"preview": document}, as_json=options.as_json)
    return max(_exit_code(plan, wait=wait), 1 if excluded else 0)


@commands.command("plans")
def list_plans(
    limit: Annotated[int, typer.Option("--limit", help="Plans.", min=1, max=1000)] = 20,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Replays of many letters, the newest first."""

    async def run(operations: Operations) -> int:
        plans = await operations.replays.plans(limit)
        if as_json:
            output.print_json({"items": [_with_state(plan) for plan in plans], "next": None})
            return 0
        output.print_text(plans_text(plans, width=terminal_width()))
        for plan in plans:
            if plan.standing == "interrupted":
                output.print_note(f"plan {plan.id} is interrupted: resume it with {resume_command(plan)}")
        return 0

    run_operation(data_dir, run, redis="optional")


@commands.command("plan")
def show_plan(
    plan_id: PlanId,
    items: Annotated[bool, typer.Option("--items", help="Its letters instead.")] = False,
    state: Annotated[
        str | None,
        typer.Option(
            "--state",
            help=f"Its letters in one state: {one_of(ITEM_STATES)}.",
            autocompletion=complete_item_state,
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="Letters.", min=1, max=1000)] = 50,
    cursor: Annotated[
        int | None, typer.Option("--cursor", help="`next` of the page before.", min=0, max=MAX_ID)
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """One plan with its ledger, or its letters with the results of their replays."""
    if state is not None:
        check_choice(state, ITEM_STATES, "--state")
    if items or state is not None or cursor is not None:
        run_operation(
            data_dir,
            lambda operations: _show_items(
                operations, plan_id, state=state, limit=limit, after=cursor or 0, as_json=as_json
            ),
            redis="optional",
        )
    run_operation(
        data_dir, lambda operations: _show_plan(operations, plan_id, as_json=as_json), redis="optional"
    )


async def _show_plan(operations: Operations, plan_id: int, *, as_json: bool) -> int:
    plan = await operations.replays.get_plan(plan_id)
    if as_json:
        output.print_json(_plan_document(plan))
    else:
        output.print_text(plan_text(plan))
    return 0


async def _show_items(
    operations: Operations, plan_id: int, *, state: str | None, limit: int, after: int, as_json: bool
) -> int:
    items = await operations.replays.plan_items(plan_id, state=state, limit=limit + 1, after=after)
    items, more = items[:limit], len(items) > limit
    following = str(items[-1].id) if more else None
    if as_json:
        plan = await operations.replays.get_plan(plan_id)
        output.print_json({**_plan_document(plan), **output.page(items, following)})
    else:
        output.print_text(items_text(items, width=terminal_width()))
        output.print_page_note(following)
    return 0


@commands.command("resume")
def resume(
    plan_id: PlanId,
    halt: Halt = None,
    wait: Wait = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Resume a plan that was paused, interrupted or has halted."""
    share = percentage(halt, "--halt")
    run_operation(
        data_dir, lambda operations: _resume(operations, plan_id, share, wait=wait, as_json=as_json)
    )


async def _resume(
    operations: Operations, plan_id: int, halt: float | None, *, wait: bool, as_json: bool
) -> int:
    """Resume the plan; return 1 unless it is done."""
    check_writable(operations, "run-plan", BulkOptions())
    plan = await operations.replays.get_plan(plan_id)
    if not plan.can_resume(halt):
        raise AppError(
            f"plan {plan_id} has halted ({plan.note})",
            fix=f"once the cause is fixed, give a limit above {plan.halt * 100:g}, "
            f"for instance {_higher_limit(plan)}; 100 never halts",
        )
    plan = await run_plan_with_progress(operations, plan, halt)
    if wait:
        plan = await wait_for_jobs(operations, plan)
    await _print_result(operations, plan, {}, as_json=as_json)
    return _exit_code(plan, wait=wait)


@commands.command("pause")
def pause(plan_id: PlanId, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Enqueue no more of a plan until it is resumed."""
    end = f"wait: failed-jobs resume {plan_id} resumes it"
    _stop(data_dir, lambda replays: replays.pause_plan(plan_id), "paused", end, as_json=as_json)


@commands.command("cancel")
def cancel(plan_id: PlanId, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Enqueue no more of a plan, ever: its other letters stay dead."""
    end = "stay dead letters"
    _stop(data_dir, lambda replays: replays.cancel_plan(plan_id), "cancelled", end, as_json=as_json)


def _stop(
    data_dir: Path | None,
    verb: Callable[[ReplayOperations], Awaitable[Plan]],
    state: str,
    end: str,
    *,
    as_json: bool,
) -> None:
    """Stop a plan; ``end`` is what becomes of the letters that wait."""

    async def run(operations: Operations) -> int:
        plan = await verb(operations.replays)
        text = f"plan {plan.id} is {state}, {plural(plan.ledger.waiting, 'letter')} of it {end}"
        output.print_result(text, _plan_document(plan), as_json=as_json)
        return 0

    run_operation(data_dir, run, redis="optional")


async def _print_result(
    operations: Operations, plan: Plan, more: Mapping[str, Any], *, as_json: bool
) -> None:
    """Print how a plan has ended, with ``more`` fields for programs."""
    limit = _MAX_LISTED_SKIPPED if as_json else _MAX_PRINTED_SKIPPED
    skipped: Sequence[PlanItem] = ()
    if plan.ledger.skipped:
        skipped = await operations.replays.plan_items(plan.id, state="skipped", limit=limit)
    document = {**_plan_document(plan), "skipped": [asdict(item) for item in skipped], **more}
    output.print_result("\n".join(_result_lines(plan, skipped)), document, as_json=as_json)


def _result_lines(plan: Plan, skipped: Sequence[PlanItem]) -> list[str]:
    command = f"couturecast-tui failed-jobs plan {plan.id}"
    lines = [state_line(plan), ledger_text(plan.ledger)]
    if skipped:
        lines += ["skipped:"]
        lines += [f"  letter {item.letter_id}: {escape(item.note or '')}" for item in skipped]
    if plan.ledger.skipped > len(skipped):
        others = count(plan.ledger.skipped - len(skipped))
        lines.append(f"  and {others} others: {command} --state skipped")
    if plan.state == "halted":
        lines.append("fix the cause, then resume it with a higher limit, or cancel it:")
        lines += [
            f"  couturecast-tui failed-jobs resume {plan.id} {_higher_limit(plan)}",
            f"  couturecast-tui failed-jobs cancel {plan.id}",
        ]
    elif plan.state == "paused":
        lines.append(f"to resume: {resume_command(plan)}")
    elif plan.ledger.enqueued:
        lines.append(f"how they end: {command}")
    return lines


def _higher_limit(plan: Plan) -> str:
    """Return the option with which a plan that has halted can be resumed."""
    return f"--halt {plan.suggested_limit * 100:g}"


def _exit_code(plan: Plan, *, wait: bool) -> int:
    """Return 0 if all letters were replayed and, with ``wait``, no job died again."""
    ledger = plan.ledger
    failed = wait and (ledger.died or ledger.aborted)
    return 1 if plan.state != "done" or ledger.skipped or failed else 0


def _with_state(plan: Plan) -> dict[str, Any]:
    """Return a plan for programs, with the state that it is in effectively."""
    return {**asdict(plan), "standing": plan.standing}


def _plan_document(plan: Plan) -> dict[str, Any]:
    """Return a plan and its ledger, apart."""
    fields = _with_state(plan)
    ledger = fields.pop("ledger")
    return {"plan": fields, "ledger": ledger}
