"""Makes a document of dead letters: JSON lines for programs, CSV for spreadsheets, Markdown for people."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any, Literal

from storage.database.tables import LETTERS
from storage.dead_letters.filters import LetterFilter
from storage.dead_letters.records import DeadLetter, FailureGroup
from storage.dead_letters.repository import DeadLetterRepository
from storage.repositories.operator_actions import OperatorAction, OperatorActionRepository
from workers.words import BLOCKS

ExportFormat = Literal["jsonl", "csv", "markdown"]

_MAX_PAGE_LETTERS = 500
_MAX_GROUPS = 50
_MAX_SAMPLES = 3
"""Letters of a group that are shown in full."""
_MAX_ACTIONS = 50
_CSV_COLUMNS = (*LETTERS.columns.keys(), "archived")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet runs a cell that starts with one of these: OWASP, "CSV Injection"."""


async def export_letters(
    letters: DeadLetterRepository,
    actions: OperatorActionRepository,
    selection: LetterFilter | Sequence[int],
    form: ExportFormat,
    mask: Callable[[DeadLetter], DeadLetter],
) -> AsyncIterator[str]:
    """Yield the document, piece by piece; each piece ends a line.

    ``mask`` returns a letter as it is written.
    """
    if form == "csv":
        yield _csv_record(_CSV_COLUMNS)
        async for letter in _all(letters, selection):
            row = fields(mask(letter))
            yield _csv_record([_csv_cell(row[name]) for name in _CSV_COLUMNS])
        return
    if form == "jsonl":
        async for letter in _all(letters, selection):
            yield json.dumps(fields(mask(letter)), ensure_ascii=False) + "\n"
        return
    if isinstance(selection, LetterFilter):
        groups = await letters.groups(selection, limit=_MAX_GROUPS)
        yield f"# Dead letters: {_escape(selection.to_query() or 'all that are dead')}\n"
        for group in groups:
            same = selection.model_copy(update={"fingerprint": group.fingerprint})
            samples = (await letters.page(same, limit=_MAX_SAMPLES)).items
            yield _group(replace(group, sample=mask(group.sample)), [mask(letter) for letter in samples])
    else:
        yield "# Dead letters\n"
        for letter in (await letters.get_many(selection)).values():
            yield _letter(mask(letter), 2)
    yield _actions_section(await actions.newest(_MAX_ACTIONS))


def fields(letter: DeadLetter) -> dict[str, Any]:
    """Return a letter by the names of its columns, times in ISO 8601."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(letter).items()
    }


async def _all(
    letters: DeadLetterRepository, selection: LetterFilter | Sequence[int]
) -> AsyncIterator[DeadLetter]:
    if not isinstance(selection, LetterFilter):
        for offset in range(0, len(selection), _MAX_PAGE_LETTERS):
            for letter in (await letters.get_many(selection[offset : offset + _MAX_PAGE_LETTERS])).values():
                yield letter
        return
    cursor: str | None = None
    while True:
        page = await letters.page(selection, limit=_MAX_PAGE_LETTERS, cursor=cursor)
        for letter in page.items:
            yield letter
        cursor = page.next
        if cursor is None:
            return


def _csv_record(cells: Sequence[str]) -> str:
    """Return one record of RFC 4180, with its CRLF."""
    record = io.StringIO()
    csv.writer(record).writerow(cells)
    return record.getvalue()


def _csv_cell(value: Any) -> str:
    """Write text as it is, unless a spreadsheet would run it.

    Anything else is compact JSON, and None is nothing.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA_STARTS) else value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _group(group: FailureGroup, samples: Sequence[DeadLetter]) -> str:
    sample = group.sample
    top = max(group.trend) or 1
    trend = "".join(BLOCKS[-(-deaths * 8 // top)] for deaths in group.trend)
    head = (
        f"\n## {group.count:,} × {_escape(sample.function)}: {_escape(sample.error_type)}\n\n"
        f"{_code(sample.error_message)}\n"
        f"- queue {_escape(sample.queue_name)}, group `{group.fingerprint}`\n"
        f"- first {_format_time(group.first_at)}, last {_format_time(group.last_at)}\n"
        f"- in {', '.join(map(_escape, group.releases)) or 'an unknown release'}\n"
        f"- the last 24 hours, by hour: `{trend}`\n"
    )
    return head + "".join(_letter(letter, 3) for letter in samples)


def _letter(letter: DeadLetter, level: int) -> str:
    lines = [
        f"\n{'#' * level} Letter {letter.id}: job {_escape(letter.job_id)}\n",
        f"{letter.state}, {letter.attempts} attempts, died at {_format_time(letter.failed_at)}"
        f" on {_escape(letter.worker or '–')}, release {_escape(letter.release or '–')}\n",
        _code(json.dumps(letter.job_data.get("kwargs", letter.job_data), indent=2, ensure_ascii=False)),
    ]
    for attempt in letter.attempt_errors:
        traceback = attempt.get("traceback") or f"{attempt.get('error_type')}: {attempt.get('message')}"
        lines += [f"Attempt {attempt.get('attempt')}:\n", _code(str(traceback).rstrip())]
        if attempt.get("log"):
            lines += ["It logged:\n", _code("\n".join(attempt["log"]))]
    return "\n".join(lines)


def _actions_section(actions: Sequence[OperatorAction]) -> str:
    lines = ["\n## What operators did last\n"]
    lines += [
        f"- {_format_time(action.at)} {_escape(action.actor)}: {action.verb}, {action.affected} affected"
        + (f", {_escape(action.reason)}" if action.reason else "")
        + f" ({_escape(action.outcome)})"
        for action in reversed(actions)
    ]
    return "\n".join(lines) + "\n"


def _format_time(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M:%S} UTC"


def _escape(text: str) -> str:
    """Write text from jobs on one line, without what Markdown would read as its own."""
    return "".join(f"\\{char}" if char in "\\`*_[]<>#|" else char for char in " ".join(text.split()))


def _code(text: str) -> str:
    """Return a block with a fence that is longer than any in the text."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text}\n{fence}\n"
