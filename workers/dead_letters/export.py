"""Dead letters as a document to hand on: JSON lines for programs, Markdown for people."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal

from storage.dead_letters.filters import LetterFilter
from storage.dead_letters.records import DeadLetter, FailureGroup
from storage.dead_letters.repository import DeadLetterRepository
from storage.repositories.operator_actions import OperatorAction, OperatorActionRepository

ExportFormat = Literal["jsonl", "markdown"]

_PAGE = 500
_GROUPS = 50
_SAMPLES = 3
"""Letters of a group that are shown whole."""
_ACTIONS = 50
_BLOCKS = " ▁▂▃▄▅▆▇█"


async def export_letters(
    letters: DeadLetterRepository,
    actions: OperatorActionRepository,
    wanted: LetterFilter | Sequence[int],
    form: ExportFormat,
) -> AsyncIterator[str]:
    """The document, piece by piece; each piece ends a line."""
    if form == "jsonl":
        async for letter in _all(letters, wanted):
            yield json.dumps(fields(letter), ensure_ascii=False) + "\n"
        return
    if isinstance(wanted, LetterFilter):
        groups = await letters.groups(wanted, limit=_GROUPS)
        yield f"# Dead letters: {_plain(wanted.to_query() or 'all that are dead')}\n"
        for group in groups:
            same = wanted.model_copy(update={"fingerprint": group.fingerprint})
            samples = (await letters.page(same, limit=_SAMPLES)).items
            yield _group(group, samples)
    else:
        yield "# Dead letters\n"
        for letter in (await letters.get_many(wanted)).values():
            yield _letter(letter, 2)
    yield _timeline(await actions.newest(_ACTIONS))


def fields(letter: DeadLetter) -> dict[str, Any]:
    """A letter by the names of its columns, times in ISO 8601."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(letter).items()
    }


async def _all(
    letters: DeadLetterRepository, wanted: LetterFilter | Sequence[int]
) -> AsyncIterator[DeadLetter]:
    if not isinstance(wanted, LetterFilter):
        for at in range(0, len(wanted), _PAGE):
            for letter in (await letters.get_many(wanted[at : at + _PAGE])).values():
                yield letter
        return
    cursor: str | None = None
    while True:
        page = await letters.page(wanted, limit=_PAGE, cursor=cursor)
        for letter in page.items:
            yield letter
        cursor = page.next
        if cursor is None:
            return


def _group(group: FailureGroup, samples: Sequence[DeadLetter]) -> str:
    sample = group.sample
    top = max(group.trend) or 1
    trend = "".join(_BLOCKS[-(-deaths * 8 // top)] for deaths in group.trend)
    head = (
        f"\n## {group.count:,} × {_plain(sample.function)}: {_plain(sample.error_type)}\n\n"
        f"{_code(sample.error_message)}\n"
        f"- queue {_plain(sample.queue_name)}, group `{group.fingerprint}`\n"
        f"- first {_at(group.first_at)}, last {_at(group.last_at)}\n"
        f"- the last 24 hours, by hour: `{trend}`\n"
    )
    return head + "".join(_letter(each, 3) for each in samples)


def _letter(letter: DeadLetter, level: int) -> str:
    lines = [
        f"\n{'#' * level} Letter {letter.id}: job {_plain(letter.job_id)}\n",
        f"{letter.state}, {letter.attempts} attempts, died at {_at(letter.failed_at)}"
        f" on {_plain(letter.worker or '–')}\n",
        _code(json.dumps(letter.job_data.get("kwargs", letter.job_data), indent=2, ensure_ascii=False)),
    ]
    for attempt in letter.attempt_errors:
        said = attempt.get("traceback") or f"{attempt.get('error_type')}: {attempt.get('message')}"
        lines += [f"Attempt {attempt.get('attempt')}:\n", _code(str(said).rstrip())]
    return "\n".join(lines)


def _timeline(actions: Sequence[OperatorAction]) -> str:
    lines = ["\n## What operators did last\n"]
    lines += [
        f"- {_at(each.at)} {_plain(each.actor)}: {each.verb}, {each.affected} affected"
        + (f", {_plain(each.reason)}" if each.reason else "")
        + f" ({_plain(each.outcome)})"
        for each in reversed(actions)
    ]
    return "\n".join(lines) + "\n"


def _at(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _plain(text: str) -> str:
    """Text from jobs on one line, without what Markdown would read as its own."""
    return "".join(f"\\{each}" if each in "\\`*_[]<>#|" else each for each in " ".join(text.split()))


def _code(text: str) -> str:
    """A block with a fence that is longer than any in the text."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text}\n{fence}\n"
