"""Dead letters, their groups and what an act would change, as plain text for the command line."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from app.cli.render.status import table
from storage.database.tables import POISON_DEATHS
from tui.text.format import MISSING, clip, count, duration, escape, number, sparkline, utc_time
from workers.operations.operations import DeadLetter, FailureGroup, PlanItem, Preview

Lineage = Sequence[tuple[DeadLetter, Sequence[PlanItem]]]

_WIDE = 120
"""Columns from which a terminal has room for whole job keys."""
_DATE = "%Y-%m-%d %H:%M:%S"
_LONGEST_ERROR = 100
_GROUPS = 10
"""Groups that a preview names: the largest."""
_ENDINGS = {
    "waiting": "waiting",
    "enqueued": "queued or running",
    "completed": "completed",
    "same": "died again, same error",
    "other": "died again, other error",
    "aborted": "aborted",
    "skipped": "skipped",
}
"""What became of a letter's replay."""


def letters_text(letters: Sequence[DeadLetter], *, width: int | None = None, states: bool = False) -> str:
    """A row a letter, with its state if ``states``.  ``×3`` died three times in a row of the same error.

    Rows are cut to ``width`` characters where that is given.
    """
    if not letters:
        return "no dead letters"
    poison = any(each.deaths >= POISON_DEATHS for each in letters)
    wide = width is None or width >= _WIDE
    rows = [_letter_cells(each, wide) for each in letters]
    columns = [name for name in rows[0] if (name != "" or poison) and (name != "state" or states)]
    head = tuple(columns)
    right = [at for at, name in enumerate(head) if name in ("id", "att")]
    lines = table([head, *(tuple(row[name] for name in columns) for row in rows)], right=right)
    return "\n".join(_cut(lines, width))


def _letter_cells(letter: DeadLetter, wide: bool) -> dict[str, str]:
    cells = {
        "id": str(letter.id),
        "": poison_sign(letter),
        "failed at": utc_time(letter.failed_at, _DATE if wide else "%m-%d %H:%M"),
        "queue": letter.queue_name,
        "job": escape(letter.job_id[:36]) if wide else clip(escape(letter.job_id), 9),
        "att": str(letter.attempts),
        "state": letter.state,
        "error": _error(letter),
    }
    if not wide:
        del cells["att"]
    return cells


def poison_sign(letter: DeadLetter) -> str:
    """``×3`` where it died three times in a row of the same error; nothing where it did not."""
    return f"×{letter.deaths}" if letter.deaths >= POISON_DEATHS else ""


def _error(letter: DeadLetter) -> str:
    return escape(f"{letter.error_type}: {letter.error_message}"[:_LONGEST_ERROR])


def letter_text(letter: DeadLetter, lineage: Lineage = ()) -> str:
    """All of one letter, with what it came of and what came of it."""
    lines = [
        f"{letter.id}  {letter.queue_name}  {escape(letter.function)}  job {escape(letter.job_id)}",
        f"state {letter.state}{', archived' if letter.archived else ''} · "
        f"{letter.attempts} attempt{'' if letter.attempts == 1 else 's'} · "
        f"failed at {utc_time(letter.failed_at, f'{_DATE} UTC')}",
        f"enqueued at {utc_time(letter.enqueued_at, f'{_DATE} UTC')} · group {letter.fingerprint}",
        f"{letter.error_type}: {letter.error_message}",
    ]
    if letter.deaths >= POISON_DEATHS:
        lines.insert(
            3, f"{poison_sign(letter)} died so often in a row of this error: bulk replays leave it out"
        )
    lines += ["", "payload", _json(letter.job_data.get("kwargs", letter.job_data))]
    lines += _lineage_lines(letter, lineage)
    for attempt in letter.attempt_errors:
        at, took = utc_time(attempt.get("at")), duration(number(attempt.get("run_seconds")))
        which, worker = (attempt.get(name, MISSING) for name in ("attempt", "worker"))
        lines += ["", f"attempt {which} at {at} on {worker}, ran {took}"]
        lines.append(str(attempt.get("traceback") or attempt.get("message") or MISSING).rstrip())
    return "\n".join(lines)


def _lineage_lines(letter: DeadLetter, lineage: Lineage) -> list[str]:
    """Which letter came of which, by which plan, and how that ended; nothing where there was no replay."""
    if len(lineage) <= 1 and not any(items for _, items in lineage):
        return []
    lines = ["", "lineage"]
    for each, items in lineage:
        of = f", of letter {each.replay_of}" if each.replay_of is not None else ""
        this = " (this one)" if each.id == letter.id else ""
        lines.append(f"  letter {each.id}{this}{of}: {utc_time(each.failed_at, _DATE)}  {_error(each)}")
        lines += [f"    {_replay(item)}" for item in items]
    return lines


def _replay(item: PlanItem) -> str:
    at = f"  {utc_time(item.enqueued_at, _DATE)}" if item.enqueued_at is not None else ""
    note = f": {escape(item.note)}" if item.note else ""
    edited = ", with another payload" if item.kwargs is not None else ""
    return f"plan {item.plan_id}{at}  {_ENDINGS.get(item.state, item.state)}{note}{edited}"


def groups_text(groups: Sequence[FailureGroup], *, width: int | None = None) -> str:
    """Three lines a group: how many and when, which, and of what they died."""
    if not groups:
        return "no dead letters"
    digits = max(len(count(group.count)) for group in groups)
    return "\n\n".join(_group(group, digits, width) for group in groups)


def _group(group: FailureGroup, digits: int, width: int | None) -> str:
    sample, margin = group.sample, " " * (digits + 2)
    first, last = (utc_time(at, "%Y-%m-%d %H:%M") for at in (group.first_at, group.last_at))
    trend = sparkline([deaths or None for deaths in group.trend], len(group.trend)).replace(" ", "·")
    lines = [
        f"{count(group.count):>{digits}}  {trend}  {first} – {last}",
        f"{margin}group {group.fingerprint}  newest {sample.id}"
        f"  {sample.queue_name}  {escape(sample.function)}",
        f"{margin}{_error(sample)}",
    ]
    return "\n".join(_cut(lines, width))


def _cut(lines: Sequence[str], width: int | None) -> Sequence[str]:
    return lines if width is None else [clip(line, width) for line in lines]


def preview_text(found: Preview, left_out: Collection[int], *, replay: bool, width: int | None = None) -> str:
    """What a replay, or a discard, would be about."""
    head = f"{counted(found.total)} {'is' if found.total == 1 else 'are'} meant"
    if len(found.queues) == 1:
        head += (
            f", all of {next(iter(found.queues))}" if found.total > 1 else f", of {next(iter(found.queues))}"
        )
    lines = [head]
    if len(found.queues) > 1:
        lines += [
            f"{count(number):>9}  {escape(queue)}"
            for queue, number in sorted(found.queues.items(), key=lambda each: -each[1])
        ]
    if found.groups:
        number = len(found.groups)
        all_ = number < _GROUPS
        lines.append("one group:" if number == 1 else f"{'' if all_ else 'the largest '}{number} groups:")
        lines += _cut([f"{count(group.count):>9}  {_error(group.sample)}" for group in found.groups], width)
    lines += _left_out(found, left_out)
    if replay and found.min_seconds >= 1:
        lines.append(
            f"it takes at least {duration(found.min_seconds)}, by the rate and the queues' own limits"
        )
    return "\n".join(lines)


def _left_out(found: Preview, ids: Collection[int]) -> list[str]:
    """Whom an act does not touch, and why."""
    why = []
    if found.poison_excluded:
        why.append(
            f"{counted(found.poison_excluded)} that died {POISON_DEATHS} times or more in a row "
            "of the same error (--poison takes them too)"
        )
    if found.not_dead:
        why.append(f"{counted(found.not_dead)} that {'is' if found.not_dead == 1 else 'are'} not dead")
    if not why:
        return []
    return [f"left out: {' and '.join(why)}{f': {listed(ids)}' if ids else ''}"]


def counted(letters: int) -> str:
    """``1 letter``, ``1,234 letters``."""
    return f"{count(letters)} letter{'' if letters == 1 else 's'}"


def listed(ids: Collection[int]) -> str:
    """The first ten ids, and how many others."""
    first = ", ".join(str(each) for each in list(ids)[:10])
    return first if len(ids) <= 10 else f"{first} and {len(ids) - 10} others"


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
