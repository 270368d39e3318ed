"""What the commands on dead letters do and print: look at them, put them away, hand them on."""

from __future__ import annotations

import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from app import output
from app.cli.render.dead_letters import counted, groups_text, letter_text, letters_text, listed, preview_text
from app.errors import AppError
from storage.dead_letters.filters import LetterFilter
from tui.text.format import escape_lines
from workers.errors import ReadOnlyError
from workers.operations.operations import Operations, Preview, Selection

_CONTROL = (*range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_ESCAPES = {code: f"\\u{code:04x}" for code in _CONTROL}
"""What a terminal reads as its own, and JSON leaves as it is: in strings, where it can be escaped."""


@dataclass(frozen=True, slots=True)
class How:
    """How an act on many is carried out: only tried, without asking, why, and what is printed."""

    dry_run: bool = False
    yes: bool = False
    reason: str = ""
    as_json: bool = False


async def list_letters(
    operations: Operations, wanted: LetterFilter, *, limit: int, cursor: str | None, as_json: bool
) -> int:
    """Print a page of dead letters."""
    page = await operations.dead_letters.page(wanted, limit=limit, cursor=cursor)
    if as_json:
        output.document({"items": [asdict(each) for each in page.items], "next": page.next})
        return 0
    output.text(letters_text(page.items, width=width(), states=wanted.state != "dead"))
    if page.next is not None:
        output.note(f"more: --cursor {page.next}")
    return 0


async def show_letter(operations: Operations, letter_id: int, *, as_json: bool) -> int:
    """Print one dead letter, with its lineage."""
    letter = await operations.dead_letters.get(letter_id)
    lineage = await operations.dead_letters.lineage(letter_id)
    if not as_json:
        output.text(letter_text(letter, lineage))
        return 0
    names = ("id", "job_id", "failed_at", "state", "error_type", "error_message", "replay_of")
    output.document(
        asdict(letter)
        | {
            "lineage": [
                {name: getattr(each, name) for name in names} | {"replays": [asdict(item) for item in items]}
                for each, items in lineage
            ]
        }
    )
    return 0


async def groups(operations: Operations, wanted: LetterFilter, *, limit: int, as_json: bool) -> int:
    """Print the groups with the most letters."""
    found = await operations.dead_letters.groups(wanted, limit=limit)
    if as_json:
        output.document({"items": [asdict(each) for each in found], "next": None})
    else:
        output.text(groups_text(found, width=width()))
    return 0


async def discard(operations: Operations, wanted: Selection, how: How) -> int:
    """Hide dead letters, after the count was shown; 1 where some of those that were named could not be."""
    letters = operations.dead_letters
    refuse(operations, "discard", how)
    found = await operations.replays.preview(wanted)
    left_out = not_taken(wanted, found)
    if how.dry_run and how.as_json:
        output.document({"dry_run": True, **preview_fields(found, left_out)})
        return 0
    told(preview_text(found, left_out, replay=False, width=width()), how)
    if how.dry_run:
        return 0
    done = 0
    if found.total:
        _ask(f"Discard {counted(found.total)}? They can be restored", wanted, how)
        done = await letters.discard(found.selection, how.reason)
    _moved("discarded", done, how, left_out, also="failed-jobs restore undoes it")
    return 1 if left_out else 0


async def restore(operations: Operations, wanted: Selection, how: How) -> int:
    """Undo a discard, after the count was shown; 1 where some of those that were named were not discarded."""
    letters = operations.dead_letters
    refuse(operations, "restore", how)
    left_out: tuple[int, ...] = ()
    if isinstance(wanted, LetterFilter):
        total = await letters.count(wanted)
    else:
        states = {each: (await letters.get(each)).state for each in dict.fromkeys(wanted)}
        left_out = tuple(each for each, state in states.items() if state != "discarded")
        total = len(states) - len(left_out)
    if how.dry_run and how.as_json:
        output.document({"dry_run": True, "total": total, "left_out": left_out})
        return 0
    are = f"{counted(total)} {'was' if total == 1 else 'were'} discarded"
    told(are + (f"; not discarded: {listed(left_out)}" if left_out else ""), how)
    if how.dry_run:
        return 0
    done = 0
    if total:
        _ask(f"Restore {counted(total)}?", wanted, how)
        done = await letters.restore(wanted, how.reason)
    _moved("restored", done, how, left_out)
    return 1 if left_out else 0


async def archive(operations: Operations, days: int, how: How) -> int:
    """Move old letters into the archive, after the count was shown."""
    letters = operations.dead_letters
    refuse(operations, "archive", how)
    total = await letters.archive(days=days, dry_run=True)
    if how.dry_run and how.as_json:
        output.document({"dry_run": True, "total": total})
        return 0
    age = "of whatever age" if days == 0 else f"older than {days} day{'' if days == 1 else 's'}"
    told(f"{counted(total)} {age}", how)
    if how.dry_run:
        return 0
    done = 0
    if total:
        _ask(f"Move {counted(total)} into the archive? They can be read and replayed there", (), how)
        done = await letters.archive(days=days)
    _moved("archived", done, how, also="failed-jobs list --archived shows them")
    return 0


async def export(
    operations: Operations,
    wanted: Selection,
    form: Literal["jsonl", "markdown"],
    *,
    file: Path | None,
    force: bool,
    as_json: bool,
) -> int:
    """Write a document of letters to stdout, or into a file that is for its owner only."""
    pieces = _safe(operations.dead_letters.export(wanted, form), form)
    if file is None:
        async for each in pieces:
            output.piece(each)
        return 0
    lines = 0
    with output.into(file, force=force) as written:
        async for each in pieces:
            written.write(each)
            lines += each.count("\n")
    with output.receipt():
        if as_json:
            output.document({"file": str(file), "format": form, "lines": lines})
        else:
            output.text(f"{file}: {lines:,} lines")
    return 0


def width() -> int | None:
    """Columns of the terminal that stdout is; None where it is none: there nothing is cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def refuse(operations: Operations, verb: str, how: How) -> None:
    """Raises ReadOnlyError before anything is asked that read-only mode refuses in the end."""
    if operations.read_only and not how.dry_run:
        raise ReadOnlyError(verb)


def told(lines: str, how: How) -> None:
    """What an act is about: of a dry run it is the output, else it stands beside the output."""
    if how.dry_run:
        output.text(lines)
    elif not how.as_json:
        output.note(lines)


def not_taken(wanted: Selection, found: Preview) -> tuple[int, ...]:
    """Those of the ids that an act leaves out."""
    if isinstance(wanted, LetterFilter) or isinstance(found.selection, LetterFilter):
        return ()
    taken = set(found.selection)
    return tuple(each for each in dict.fromkeys(wanted) if each not in taken)


def preview_fields(found: Preview, left_out: Sequence[int]) -> dict[str, Any]:
    """A preview for programs."""
    return {
        "total": found.total,
        "poison": found.poison_excluded,
        "others": found.not_dead,
        "left_out": left_out,
        "queues": dict(found.queues),
        "groups": [asdict(each) for each in found.groups],
        "seconds": found.min_seconds,
    }


def asks(wanted: Selection) -> bool:
    """Whether an act is asked about: not that on one letter that is named."""
    return isinstance(wanted, LetterFilter) or len(set(wanted)) != 1


def _ask(question: str, wanted: Selection, how: How) -> None:
    if not how.yes and asks(wanted):
        agreed(question)


def agreed(question: str) -> None:
    """Raises AppError where the answer is no."""
    if not output.confirmed(question):
        raise AppError("nothing was changed")


def _moved(
    verb: str, number: int, how: How, left_out: Sequence[int] | None = None, *, also: str = ""
) -> None:
    with output.receipt():
        if how.as_json:
            named = {} if left_out is None else {"left_out": left_out}
            output.document({"dry_run": False, "total": number, **named})
        else:
            output.text(f"{counted(number)} {verb}{f'; {also}' if also and number else ''}")


async def _safe(pieces: AsyncIterator[str], form: str) -> AsyncIterator[str]:
    """Neither a terminal, nor a file that is shown in one, gets control characters from jobs."""
    async for each in pieces:
        yield each.translate(_ESCAPES) if form == "jsonl" else escape_lines(each)
