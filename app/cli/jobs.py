"""``jobs list``, ``show``, ``why``, ``abort``, ``run-now``, ``duplicate`` and ``remove``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from app.cli import output
from app.cli.arguments import Queue
from app.cli.bulk import BulkChange, BulkOptions, check_writable, make_change, require_answer
from app.cli.completion import JOB_STATES, complete_job, complete_job_state, complete_queue
from app.cli.options import DataDir, DryRun, Json, Reveal, Yes
from app.cli.render.tables import terminal_width
from app.cli.runner import run_operation
from app.cli.selection import Reason
from app.cli.values import check_choice
from tui.text.format import local_time
from tui.text.words import DATE_TIME_ZONE
from workers.words import plural

if TYPE_CHECKING:
    from workers.operations.jobs import JobChange, Verb
    from workers.operations.operations import Operations
    from workers.operations.start_facts import Clock

commands = typer.Typer(rich_markup_mode=None)

Key = Annotated[str, typer.Argument(metavar="KEY", help="Of a job.", autocompletion=complete_job)]
Keys = Annotated[list[str], typer.Argument(metavar="KEY...", help="Of jobs.", autocompletion=complete_job)]

_QUESTIONS: Mapping[str, str] = {
    "abort": "Abort {jobs} of {queue}",
    "run-now": "Put {jobs} at the head of {queue}",
    "duplicate": "Enqueue {jobs} of {queue} once more",
    "remove": "Remove {jobs} of {queue}, which cannot be undone",
}
_CONFIRMED_VERBS = ("abort", "remove")
"""Verbs that ask for one job, too: they cannot be undone."""


@commands.command("list")
def list_jobs(
    queue: Annotated[
        str | None, typer.Option("--queue", help="Of one queue.", autocompletion=complete_queue)
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(
            "--state",
            help="running, ready, scheduled, done or failed; without it the first three.",
            autocompletion=complete_job_state,
        ),
    ] = None,
    function: Annotated[str | None, typer.Option("--function", help="Contained in its name.")] = None,
    worker: Annotated[
        str | None, typer.Option("--worker", help="Contained in host:pid, or in the id of the process.")
    ] = None,
    text: Annotated[str | None, typer.Option("--text", help="Contained in the key or the error.")] = None,
    limit: Annotated[int, typer.Option("--limit", help="Rows.", min=1, max=200)] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor", help="`next` of the page before.")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Jobs by state: those that run, are ready or scheduled; with --state those that ended, too.

    With --function, --worker or --text a page searches the next 1,000 jobs.
    """
    from app.cli.render.jobs import jobs_text

    if state is not None:
        check_choice(state, JOB_STATES, "--state")

    async def run(operations: Operations) -> int:
        from workers.operations.jobs import JobFilter

        selected = JobFilter(function=function, worker=worker, text=text)
        page = await operations.jobs.page(
            queue,
            state,  # type: ignore[arg-type]
            selected=selected,
            limit=limit,
            cursor=cursor,
        )
        if as_json:
            output.print_json(output.page(page.items, page.next))
            return 0
        output.print_text(jobs_text(page.items, width=terminal_width()))
        output.print_page_note(page.next)
        return 0

    run_operation(data_dir, run, database="optional")


@commands.command("show")
def show_job(
    queue: Queue,
    key: Key,
    stack: Annotated[
        bool, typer.Option("--stack", help="Ask where it stands, if it runs, and which others stand there.")
    ] = False,
    reveal: Reveal = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """One job: payload, result, every attempt's error, and why it does not run."""
    from app.cli.render.jobs import finding_document, job_text, stack_text

    async def run(operations: Operations) -> int:
        job = await operations.jobs.get(queue, key, reveal=reveal, clock=_clock(as_json=as_json))
        where = await operations.jobs.stack(queue, key) if stack else None
        alike = await operations.jobs.alike(queue, key) if stack else None
        if as_json:
            more = (
                {} if where is None else {"stack": asdict(where), "alike": alike and finding_document(alike)}
            )
            output.print_json(asdict(job) | more)
        else:
            output.print_text(job_text(job) + ("" if where is None else stack_text(where, alike)))
        return 0

    run_operation(data_dir, run, database="optional")


@commands.command("alike")
def list_findings(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Running jobs that stand at the same line: how many, where, on which workers, in which slots."""
    from app.cli.render.jobs import finding_document, findings_text

    async def run(operations: Operations) -> int:
        alike = await operations.jobs.findings()
        if as_json:
            output.print_json({"items": [finding_document(finding) for finding in alike], "next": None})
        else:
            output.print_text(findings_text(alike))
        return 0

    run_operation(data_dir, run, database="optional")


@commands.command("why")
def why(
    queue: Queue,
    key: Annotated[
        str | None, typer.Argument(metavar="[KEY]", help="Of a job.", autocompletion=complete_job)
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Why a job does not run, or why a queue starts nothing more, in one sentence."""

    async def run(operations: Operations) -> int:
        answer = await operations.jobs.why(queue, key, clock=_clock(as_json=as_json))
        if as_json:
            output.print_json({"queue": queue, "key": key, **asdict(answer)})
        else:
            output.print_text(answer.sentence)
        return 0

    run_operation(data_dir, run, database="optional")


def _clock(*, as_json: bool) -> Clock:
    """Return how a sentence has its times: for people in the zone of the terminal."""
    from workers.operations.start_facts import utc_time

    return utc_time if as_json else partial(local_time, form=DATE_TIME_ZONE)


_HELP: Mapping[Verb, str] = {
    "abort": "End jobs that wait as aborted, and cancel those that run; 1 if one of them cannot be.",
    "run-now": (
        "Put jobs that wait, also for their time, at the head of the queue; 1 if one of them cannot be."
    ),
    "duplicate": "Enqueue the same function and payload under a new key; 1 if one of them cannot be.",
    "remove": (
        "Remove jobs that wait or have ended, for good, never one that runs; 1 if one of them cannot be."
    ),
}


def _add_command(verb: Verb, summary: str) -> None:
    """Add the command of a verb."""

    def change(
        queue: Queue,
        keys: Keys,
        reason: Reason = "",
        dry_run: DryRun = False,
        yes: Yes = False,
        data_dir: DataDir = None,
        as_json: Json = False,
    ) -> None:
        options = BulkOptions(dry_run=dry_run, yes=yes, reason=reason, as_json=as_json)
        _run_verb(data_dir, verb, queue, keys, options)

    commands.command(verb, help=summary)(change)


for _verb, _summary in _HELP.items():
    _add_command(_verb, _summary)


def _run_verb(
    data_dir: Path | None, verb: Verb, queue: str, keys: Sequence[str], options: BulkOptions
) -> NoReturn:
    keys = list(dict.fromkeys(keys))
    if (len(keys) > 1 or verb in _CONFIRMED_VERBS) and options.needs_confirmation:
        require_answer()
    run_operation(
        data_dir, lambda operations: _change(operations, verb, queue, keys, options), database="optional"
    )


async def _change(
    operations: Operations, verb: Verb, queue: str, keys: Sequence[str], options: BulkOptions
) -> int:
    """Change the named jobs; return 1 if some cannot be."""
    from app.cli.render.jobs import change_document, changes_text
    from workers.operations.jobs import JobRef

    check_writable(operations, verb, options)
    preview = await operations.jobs.preview(verb, queue, [JobRef(key) for key in keys])
    refused = [change for change in preview if change.outcome != "done"]
    refs = [JobRef(change.key, change.version) for change in preview if change.outcome == "done"]
    changes: list[JobChange] = []

    async def make() -> int:
        changes.extend(await operations.jobs.change(verb, queue, refs, options.reason))
        return sum(change.outcome == "done" for change in changes)

    jobs = plural(len(refs), "job")
    asks = len(keys) > 1 or verb in _CONFIRMED_VERBS
    change = BulkChange(
        total=len(refs),
        summary=changes_text(preview),
        document={"total": len(refs), "jobs": [change_document(change) for change in preview]},
        question=f"{_QUESTIONS[verb].format(jobs=jobs, queue=queue)}?" if asks else "",
        make=make,
        result_text=lambda _: changes_text([*changes, *refused]),
        result_document=lambda count: {
            "total": count,
            "jobs": [change_document(change) for change in [*changes, *refused]],
        },
    )
    await make_change(change, options)
    unchanged = [change for change in [*changes, *refused] if change.outcome != "done"]
    return 1 if unchanged and not options.dry_run else 0
