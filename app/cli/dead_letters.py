"""``failed-jobs``: the command line of the dead letters."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from app.cli import commands
from app.cli.runner import DataDir, Json, act
from app.errors import UsageError
from storage.dead_letters.filters import STATES, LetterFilter
from storage.errors import InvalidFilterError

if TYPE_CHECKING:
    from app.cli.dead_letters_commands import How
    from workers.operations.operations import ReplayOptions, Selection

failed_jobs = typer.Typer(
    rich_markup_mode=None,
    help="Dead letters: list, show, group, replay by plan, discard, export, archive.  Nothing is deleted.",
)

_STATES = (*STATES, "all")
_ITEM_STATES = ("waiting", "enqueued", "completed", "same", "other", "aborted", "skipped")
"""The fields of a ledger, which to import takes longer than to show help."""
_FORMS: tuple[Literal["jsonl"], Literal["markdown"]] = ("jsonl", "markdown")
_MOST_DAYS = 36_500

Id = Annotated[int, typer.Argument(metavar="ID", help="Of a dead letter.")]
Ids = Annotated[list[int] | None, typer.Argument(metavar="ID", help="Of dead letters.")]
PlanId = Annotated[int, typer.Argument(metavar="ID", help="Of a plan: failed-jobs plans lists them.")]
All = Annotated[bool, typer.Option("--all", help="All that are dead.")]
AllDiscarded = Annotated[bool, typer.Option("--all", help="All that are discarded.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Reason = Annotated[str, typer.Option("--reason", help="Kept with the act.", metavar="TEXT")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until the jobs have ended.")]
Halt = Annotated[
    str | None,
    typer.Option(
        "--halt", help="Halt where more of the ended jobs die again; 100: never.", metavar="PERCENT"
    ),
]


class Given:
    """The conditions of a filter that stand on the command line."""

    def __init__(self, conditions: Mapping[str, Any]) -> None:
        self._conditions = {name: value for name, value in conditions.items() if value not in (None, [])}

    def __bool__(self) -> bool:
        return bool(self._conditions)

    def filter(self, *, state: str = "dead") -> LetterFilter:
        """What they mean; of letters in ``state`` where they do not name one.  Raises UsageError."""
        conditions = {"state": state} | self._conditions
        if conditions["state"] not in _STATES:
            raise UsageError(f"--state: {conditions['state']!r} is none: use {_either(_STATES)}")
        pairs = [_pair(each) for each in conditions.pop("arg", [])]
        if len(dict(pairs)) < len(pairs):
            raise UsageError("--arg: one name has two values, which no job has: give each name once")
        try:
            return LetterFilter.from_options(**conditions, args=dict(pairs))
        except InvalidFilterError as error:
            raise UsageError(error.problem, field=f"--{error.field.replace('arg.', 'arg ', 1)}") from None


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (equals and name and value):
        raise UsageError(f"--arg: {text!r}: use NAME=VALUE, for instance --arg city=lisboa")
    return name, value


def _either(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _conditions(
    queue: Annotated[str | None, typer.Option("--queue", help="Of one queue.")] = None,
    function: Annotated[str | None, typer.Option("--function", help="Of one job function.")] = None,
    state: Annotated[str | None, typer.Option("--state", help=f"{_either(_STATES)}.")] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", help="Died then or later: 2h, 7d, 2026-03-01T12:00.", metavar="TIME"),
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="Died before.", metavar="TIME")] = None,
    error: Annotated[
        str | None, typer.Option("--error", help="A text that the error contains.", metavar="TEXT")
    ] = None,
    fingerprint: Annotated[
        str | None, typer.Option("--fingerprint", help="Of one group.", metavar="HEX")
    ] = None,
    arg: Annotated[
        list[str] | None,
        typer.Option("--arg", help="An argument of the job; may be given again.", metavar="NAME=VALUE"),
    ] = None,
    poison: Annotated[
        bool | None,
        typer.Option("--poison/--no-poison", help="Only, or none, that died thrice in a row of one error."),
    ] = None,
    archived: Annotated[bool | None, typer.Option("--archived", help="Of the archive.")] = None,
) -> None:
    """The options of a filter."""


def _filtered(*without: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of a filter, without some of them, in the place of ``given``."""
    options = inspect.signature(_conditions, eval_str=True).parameters
    chosen = [each for name, each in options.items() if name not in without]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters.values()
        parameters = [new for each in own for new in (chosen if each.name == "given" else [each])]

        @wraps(command)
        def with_filter(**values: Any) -> None:
            command(given=Given({each.name: values.pop(each.name) for each in chosen}), **values)

        with_filter.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_filter.__annotations__ = {each.name: each.annotation for each in parameters}
        return with_filter

    return decorate


@failed_jobs.command("list")
@_filtered()
def list_failed(
    given: Given,
    limit: Annotated[int, typer.Option("--limit", help="Rows.", min=1, max=1000)] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor", help="`next` of the page before.")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Dead letters, the newest first."""
    from app.cli import dead_letters_commands as verbs

    wanted = given.filter()
    act(
        data_dir,
        lambda each: verbs.list_letters(each.operations, wanted, limit=limit, cursor=cursor, as_json=as_json),
    )


@failed_jobs.command("show")
def show_failed(letter_id: Id, data_dir: DataDir = None, as_json: Json = False) -> None:
    """One dead letter: payload, lineage, every attempt's traceback."""
    from app.cli import dead_letters_commands as verbs

    act(data_dir, lambda each: verbs.show_letter(each.operations, letter_id, as_json=as_json))


@failed_jobs.command("groups")
@_filtered()
def groups_of_failed(
    given: Given,
    limit: Annotated[int, typer.Option("--limit", help="Groups.", min=1, max=1000)] = 20,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Failures of one kind together, the most frequent first.

    How many and when, by the hour of the last day; the newest of them; the fingerprint for --fingerprint.
    """
    from app.cli import dead_letters_commands as verbs

    wanted = given.filter()
    act(data_dir, lambda each: verbs.groups(each.operations, wanted, limit=limit, as_json=as_json))


@failed_jobs.command("replay")
@_filtered("poison", "state")
def replay_failed(
    given: Given,
    ids: Ids = None,
    all_: All = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    rate: Annotated[float | None, typer.Option("--rate", help="Jobs a second.", metavar="N")] = None,
    canary: Annotated[
        int | None, typer.Option("--canary", help="So many first, until they have ended.", metavar="N")
    ] = None,
    halt: Halt = None,
    poison: Annotated[
        bool, typer.Option("--poison", help="Also those that died thrice in a row of one error.")
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

    A plan is what was dead when you agreed to it.  It can be paused, resumed after a crash, and cancelled.
    """
    from app.cli import replay_commands as verbs

    wanted = _wanted(ids, given, all_)
    one = None if isinstance(wanted, LetterFilter) or len(wanted) != 1 else wanted[0]
    kwargs = _payload(data, one, dry_run=dry_run)
    options = _options(rate=rate, canary=canary, halt=_share(halt), poison=poison)
    how = _how(wanted, dry_run=dry_run, yes=yes, reason=reason, as_json=as_json)
    if one is not None and not dry_run:
        act(data_dir, lambda each: verbs.replay_one(each.operations, one, kwargs, how, wait=wait))
    act(data_dir, lambda each: verbs.replay(each.operations, wanted, options, how, wait=wait))


@failed_jobs.command("plans")
def list_plans(
    limit: Annotated[int, typer.Option("--limit", help="Plans.", min=1, max=1000)] = 20,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Replays of many letters, the newest first."""
    from app.cli import replay_commands as verbs

    act(data_dir, lambda each: verbs.list_plans(each.operations, limit=limit, as_json=as_json))


@failed_jobs.command("plan")
def show_plan(
    plan_id: PlanId,
    items: Annotated[bool, typer.Option("--items", help="Its letters instead.")] = False,
    state: Annotated[
        str | None, typer.Option("--state", help=f"Its letters in one state: {_either(_ITEM_STATES)}.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="Letters.", min=1, max=1000)] = 50,
    cursor: Annotated[
        int | None, typer.Option("--cursor", help="`next` of the page before.", min=0, max=2**63 - 1)
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """One plan with its ledger, or its letters and what became of each."""
    from app.cli import replay_commands as verbs

    if state is not None and state not in _ITEM_STATES:
        raise UsageError(f"--state: {state!r} is none: use {_either(_ITEM_STATES)}")
    if not items and state is None and cursor is None:
        act(data_dir, lambda each: verbs.show_plan(each.operations, plan_id, as_json=as_json))
    page: dict[str, Any] = {"state": state, "limit": limit, "after": cursor or 0}
    act(data_dir, lambda each: verbs.plan_items(each.operations, plan_id, **page, as_json=as_json))


@failed_jobs.command("resume")
def resume_plan(
    plan_id: PlanId,
    halt: Halt = None,
    wait: Wait = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Go on with a plan that was paused, interrupted or has halted."""
    from app.cli import replay_commands as verbs

    share = _share(halt)
    how = _how([], yes=True, as_json=as_json)
    act(data_dir, lambda each: verbs.resume(each.operations, plan_id, halt=share, wait=wait, how=how))


@failed_jobs.command("pause")
def pause_plan(plan_id: PlanId, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Enqueue no more of a plan until it is resumed."""
    from app.cli import replay_commands as verbs

    act(data_dir, lambda each: verbs.pause(each.operations, plan_id, as_json=as_json))


@failed_jobs.command("cancel")
def cancel_plan(plan_id: PlanId, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Enqueue no more of a plan, ever: what is left of it stays dead."""
    from app.cli import replay_commands as verbs

    act(data_dir, lambda each: verbs.cancel(each.operations, plan_id, as_json=as_json))


@failed_jobs.command("discard")
@_filtered("state")
def discard_failed(
    given: Given,
    ids: Ids = None,
    all_: All = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    reason: Reason = "",
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Hide dead letters; restore undoes it."""
    from app.cli import dead_letters_commands as verbs

    wanted = _wanted(ids, given, all_)
    how = _how(wanted, dry_run=dry_run, yes=yes, reason=reason, as_json=as_json)
    act(data_dir, lambda each: verbs.discard(each.operations, wanted, how))


@failed_jobs.command("restore")
@_filtered("state")
def restore_failed(
    given: Given,
    ids: Ids = None,
    all_: AllDiscarded = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    reason: Reason = "",
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Undo a discard: the letters are dead again, and shown."""
    from app.cli import dead_letters_commands as verbs

    wanted = _wanted(ids, given, all_, state="discarded")
    how = _how(wanted, dry_run=dry_run, yes=yes, reason=reason, as_json=as_json)
    act(data_dir, lambda each: verbs.restore(each.operations, wanted, how))


@failed_jobs.command("export")
@_filtered()
def export_failed(
    given: Given,
    ids: Ids = None,
    all_: All = False,
    form: Annotated[
        str, typer.Option("--format", help="jsonl, or markdown for an incident's report.")
    ] = "jsonl",
    file: Annotated[
        Path | None, typer.Option("--output", help="Standard output without it.", metavar="FILE")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Dead letters as a document to hand on."""
    from app.cli import dead_letters_commands as verbs

    chosen = next((each for each in _FORMS if each == form), None)
    if chosen is None:
        raise UsageError(f"--format: {form!r} is none: use {_either(_FORMS)}")
    if file is None and (as_json or force):
        raise UsageError(
            f"{'--json' if as_json else '--force'} goes with --output FILE: give one, or drop it"
        )
    wanted = _wanted(ids, given, all_)
    into: dict[str, Any] = {"file": file, "force": force, "as_json": as_json}
    act(data_dir, lambda each: verbs.export(each.operations, wanted, chosen, **into))


@failed_jobs.command("archive")
def archive_failed(
    days: Annotated[
        int, typer.Option("--days", help="Those that died so long ago.", min=0, max=_MOST_DAYS)
    ] = 30,
    dry_run: DryRun = False,
    yes: Yes = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Move old letters into the archive, as is done daily.

    It can be read and replayed from: --archived.
    """
    from app.cli import dead_letters_commands as verbs

    how = _how([], dry_run=dry_run, yes=yes, as_json=as_json)
    act(data_dir, lambda each: verbs.archive(each.operations, days, how))


def _wanted(ids: list[int] | None, given: Given, all_: bool, *, state: str = "dead") -> Selection:
    """What an act is about.  Raises UsageError unless it was said in exactly one way."""
    if sum((bool(ids), bool(given), all_)) != 1:
        raise UsageError("say which letters: either ids, or conditions as --queue and --error, or --all")
    return list(dict.fromkeys(ids)) if ids else given.filter(state=state)


def _how(
    wanted: Selection, *, dry_run: bool = False, yes: bool = False, reason: str = "", as_json: bool = False
) -> How:
    """How it is done.  Raises UsageError where it would have to be asked, and nobody is there."""
    from app.cli.dead_letters_commands import How, asks

    if asks(wanted) and not (yes or dry_run or sys.stdin.isatty()):
        raise UsageError("nobody is there to be asked: give --yes, or --dry-run to see what would happen")
    return How(dry_run=dry_run, yes=yes, reason=reason, as_json=as_json)


def _payload(data: str | None, one: int | None, *, dry_run: bool) -> dict[str, Any] | None:
    if data is None:
        return None
    if one is None:
        raise UsageError("--data is the payload of one letter: give exactly one id")
    if dry_run:
        raise UsageError("--dry-run does not look at --data: drop one of them")
    return commands.json_object(data, "--data")


def _share(percent: str | None) -> float | None:
    """``20`` or ``20%`` as a share.  Raises UsageError."""
    if percent is None:
        return None
    try:
        found = float(percent.strip().removesuffix("%"))
    except ValueError:
        found = math.nan
    if not 0 < found <= 100:
        raise UsageError(f"--halt: {percent!r}: use a percentage above 0, up to 100, which never halts")
    return found / 100


def _options(**options: Any) -> ReplayOptions:
    from workers.operations.operations import ReplayOptions

    try:
        return ReplayOptions.from_values(**options)
    except InvalidFilterError as error:
        raise UsageError(f"--{error}") from None
