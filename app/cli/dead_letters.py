"""``failed-jobs list``, ``show``, ``groups``, ``discard``, ``restore``, ``export`` and ``archive``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import output
from app.cli.bulk import BulkChange, BulkOptions, check_writable, make_change, require_answer
from app.cli.completion import EXPORT_FORMATS, complete_discarded_letter, complete_format, complete_letter
from app.cli.files import private_file
from app.cli.filter_options import FilterOptions, with_filter_options
from app.cli.options import DataDir, DryRun, Json, Reveal, Yes
from app.cli.render.dead_letters import groups_text, join_some, letter_text, letters_text, preview_text
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
from app.cli.values import check_choice
from app.errors import UsageError
from storage.dead_letters.filters import MAX_AGE_DAYS
from tui.text.export import escape_piece
from workers.words import plural

if TYPE_CHECKING:
    from workers.operations.operations import Operations, Selection

commands = typer.Typer(rich_markup_mode=None)


@commands.command("list")
@with_filter_options()
def list_letters(
    filter_options: FilterOptions,
    limit: Annotated[int, typer.Option("--limit", help="Rows.", min=1, max=1000)] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor", help="`next` of the page before.")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Dead letters, the newest first."""
    letter_filter = filter_options.letter_filter()

    async def run(operations: Operations) -> int:
        page = await operations.dead_letters.page(letter_filter, limit=limit, cursor=cursor)
        if as_json:
            output.print_json(output.page(page.items, page.next))
            return 0
        states = letter_filter.state != "dead"
        output.print_text(letters_text(page.items, width=terminal_width(), states=states))
        output.print_page_note(page.next)
        return 0

    run_operation(data_dir, run, redis="optional")


@commands.command("show")
def show_letter(
    letter_id: Annotated[
        int, typer.Argument(metavar="ID", help="Of a dead letter.", autocompletion=complete_letter)
    ],
    reveal: Reveal = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """One dead letter: payload, lineage, every attempt's traceback."""

    async def run(operations: Operations) -> int:
        letter = await operations.dead_letters.get(letter_id, reveal=reveal)
        lineage = await operations.dead_letters.lineage(letter_id)
        if not as_json:
            output.print_text(letter_text(letter, lineage))
            return 0
        names = ("id", "job_id", "failed_at", "state", "error_type", "error_message", "replay_of")
        members = [
            {name: getattr(member, name) for name in names} | {"replays": [asdict(item) for item in items]}
            for member, items in lineage
        ]
        output.print_json(asdict(letter) | {"lineage": members})
        return 0

    run_operation(data_dir, run, redis="optional")


@commands.command("groups")
@with_filter_options()
def list_groups(
    filter_options: FilterOptions,
    limit: Annotated[int, typer.Option("--limit", help="Groups.", min=1, max=1000)] = 20,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Failures of one kind together, the most frequent first.

    How many and when, by the hour of the last day; the newest of them; the fingerprint for --fingerprint.
    """
    letter_filter = filter_options.letter_filter()

    async def run(operations: Operations) -> int:
        groups = await operations.dead_letters.groups(letter_filter, limit=limit)
        if as_json:
            output.print_json(output.page(groups, None))
        else:
            output.print_text(groups_text(groups, width=terminal_width()))
        return 0

    run_operation(data_dir, run, redis="optional")


@commands.command("discard")
@with_filter_options("state")
def discard(
    filter_options: FilterOptions,
    ids: Ids = None,
    all_: All = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    reason: Reason = "",
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Hide dead letters; restore undoes it."""
    selection = parse_selection(ids, filter_options, all_)
    options = bulk_options(selection, dry_run=dry_run, yes=yes, reason=reason, as_json=as_json)
    run_operation(data_dir, lambda operations: _discard(operations, selection, options), redis="optional")


async def _discard(operations: Operations, selection: Selection, options: BulkOptions) -> int:
    """Discard the named letters; return 1 if some cannot be."""
    check_writable(operations, "discard", options)
    preview = await operations.replays.preview(selection)
    excluded = excluded_ids(selection, preview)
    letters = plural(preview.total, "letter")
    change = BulkChange(
        total=preview.total,
        summary=preview_text(preview, excluded, replay=False, width=terminal_width()),
        document=preview_document(preview, excluded),
        question=f"Discard {letters}? They can be restored" if is_confirmed(selection) else "",
        make=lambda: operations.dead_letters.discard(preview.selection, options.reason),
        result_text=lambda count: _result(count, "discarded", "failed-jobs restore undoes it"),
        result_document=lambda count: {"total": count, "left_out": excluded},
    )
    await make_change(change, options)
    return 1 if excluded and not options.dry_run else 0


@commands.command("restore")
@with_filter_options("state")
def restore(
    filter_options: FilterOptions,
    ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="ID", help="Of dead letters.", autocompletion=complete_discarded_letter),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="All that are discarded.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    reason: Reason = "",
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Undo a discard: the letters are dead again, and shown."""
    selection = parse_selection(ids, filter_options, all_, state="discarded")
    options = bulk_options(selection, dry_run=dry_run, yes=yes, reason=reason, as_json=as_json)
    run_operation(data_dir, lambda operations: _restore(operations, selection, options), redis="optional")


async def _restore(operations: Operations, selection: Selection, options: BulkOptions) -> int:
    """Restore the named letters; return 1 if some are not discarded."""
    check_writable(operations, "restore", options)
    total, excluded = await operations.dead_letters.count_discarded(selection)
    summary = f"{plural(total, 'letter')} {'was' if total == 1 else 'were'} discarded"
    change = BulkChange(
        total=total,
        summary=f"{summary}; not discarded: {join_some(excluded)}" if excluded else summary,
        document={"total": total, "left_out": excluded},
        question=f"Restore {plural(total, 'letter')}?" if is_confirmed(selection) else "",
        make=lambda: operations.dead_letters.restore(selection, options.reason),
        result_text=lambda count: _result(count, "restored"),
        result_document=lambda count: {"total": count, "left_out": excluded},
    )
    await make_change(change, options)
    return 1 if excluded and not options.dry_run else 0


@commands.command("export")
@with_filter_options()
def export(
    filter_options: FilterOptions,
    ids: Annotated[
        list[int] | None,
        typer.Argument(metavar="ID", help="Of dead letters.", autocompletion=complete_letter),
    ] = None,
    all_: All = False,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="jsonl; csv for a spreadsheet; markdown for the report of an incident.",
            autocompletion=complete_format,
        ),
    ] = "jsonl",
    file: Annotated[
        Path | None,
        typer.Option("--output", help="A new file; standard output if it is not given.", metavar="FILE"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    reveal: Reveal = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """A document of dead letters.

    In CSV, a ' precedes a text that begins with = + - @ tab or CR, since spreadsheets run it as a formula.
    """
    check_choice(form, EXPORT_FORMATS, "--format")
    if file is None and (as_json or force):
        raise UsageError(
            f"{'--json' if as_json else '--force'} goes with --output FILE: give one, or drop it"
        )
    selection = parse_selection(ids, filter_options, all_)
    pieces = partial(_escaped_export, selection=selection, form=form, reveal=reveal)
    if file is None:
        run_operation(data_dir, lambda operations: _print_export(pieces(operations)), redis="optional")
    run_operation(
        data_dir,
        lambda operations: _write_export(pieces(operations), form, file, force=force, as_json=as_json),
        redis="optional",
    )


async def _print_export(pieces: AsyncIterator[str]) -> int:
    async for piece in pieces:
        output.write(piece)
    return 0


async def _write_export(
    pieces: AsyncIterator[str], form: str, file: Path, *, force: bool, as_json: bool
) -> int:
    lines = 0
    with private_file(file, force=force) as stream:
        async for piece in pieces:
            stream.write(piece)
            lines += piece.count("\n")
    document = {"file": str(file), "format": form, "lines": lines}
    output.print_result(f"{file}: {plural(lines, 'line')}", document, as_json=as_json)
    return 0


async def _escaped_export(
    operations: Operations, selection: Selection, form: Any, *, reveal: bool
) -> AsyncIterator[str]:
    async for piece in operations.dead_letters.export(selection, form, reveal=reveal):
        yield escape_piece(piece, form)


@commands.command("archive")
def archive(
    days: Annotated[
        int,
        typer.Option(
            "--days", help="Letters that died this many days ago or earlier.", min=0, max=MAX_AGE_DAYS
        ),
    ] = 30,
    dry_run: DryRun = False,
    yes: Yes = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Move old letters into the archive, as a process does daily.

    It can be read and replayed from: --archived.
    """
    options = BulkOptions(dry_run=dry_run, yes=yes, as_json=as_json)
    if options.needs_confirmation:
        require_answer()
    run_operation(data_dir, lambda operations: _archive(operations, days, options))


async def _archive(operations: Operations, days: int, options: BulkOptions) -> int:
    check_writable(operations, "archive", options)
    total = await operations.dead_letters.archive(days=days, dry_run=True)
    letters = plural(total, "letter")
    change = BulkChange(
        total=total,
        summary=f"{letters} of any age" if days == 0 else f"{letters} older than {plural(days, 'day')}",
        document={"total": total},
        question=f"Move {letters} into the archive? They can be read and replayed there",
        make=lambda: operations.dead_letters.archive(days=days),
        result_text=lambda count: _result(count, "archived", "failed-jobs list --archived shows them"),
        result_document=lambda count: {"total": count},
    )
    await make_change(change, options)
    return 0


def _result(count: int, participle: str, hint: str = "") -> str:
    return f"{plural(count, 'letter')} {participle}{f'; {hint}' if hint and count else ''}"
