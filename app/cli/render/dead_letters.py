"""Dead letters, their groups and previews of changes as plain text, for the command line."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from app.cli.render.tables import table_text
from tui.text.format import MISSING, clip, clock_time, count, duration, escape, local_time, number, sparkline
from tui.text.words import DATE_TIME, DATE_TIME_ZONE, DAY_AND_MINUTE, replay_state, times
from workers.words import plural

if TYPE_CHECKING:
    from workers.operations.operations import DeadLetter, FailureGroup, PlanItem, Preview

_WIDE_COLUMNS = 120
"""Columns from which a terminal has room for whole job keys."""
_MAX_ERROR_CHARS = 100
_MAX_JOB_CHARS = 36
_NARROW_JOB_CHARS = 9
_MAX_LISTED_IDS = 10
_MAX_GROUPS = 10
"""Groups that a preview has: the largest."""


def letters_text(letters: Sequence[DeadLetter], *, width: int | None = None, states: bool = False) -> str:
    """Return a row for each letter, with its state if ``states``.

    ``×3``: died three times in a row of the same error.
    """
    if not letters:
        return "no dead letters"
    poison = any(poison_sign(letter) for letter in letters)
    wide = width is None or width >= _WIDE_COLUMNS
    rows = [_letter_cells(letter, wide) for letter in letters]
    head = [name for name in rows[0] if (name != "" or poison) and (name != "state" or states)]
    cells = [[row[name] for name in head] for row in rows]
    return table_text(head, cells, right=("id", "att"), shrink=("error",), width=width)


def _letter_cells(letter: DeadLetter, wide: bool) -> dict[str, str]:
    cells = {
        "id": str(letter.id),
        "": poison_sign(letter),
        "failed at": local_time(letter.failed_at, DATE_TIME if wide else DAY_AND_MINUTE),
        "queue": letter.queue_name,
        "job": escape(letter.job_id[:_MAX_JOB_CHARS])
        if wide
        else clip(escape(letter.job_id), _NARROW_JOB_CHARS),
        "att": str(letter.attempts),
        "state": letter.state,
        "error": _error(letter),
    }
    if not wide:
        del cells["att"]
    return cells


def poison_sign(letter: DeadLetter) -> str:
    """Return ``×3`` if it died three times in a row of the same error, else nothing."""
    return f"×{letter.deaths}" if letter.deaths >= _poison_deaths() else ""


def _poison_deaths() -> int:
    """Return the number of deaths in a row of the same error that makes a letter poison."""
    from workers.operations.operations import POISON_DEATHS

    return POISON_DEATHS


def _error(letter: DeadLetter) -> str:
    return escape(f"{letter.error_type}: {letter.error_message}"[:_MAX_ERROR_CHARS])


def letter_text(letter: DeadLetter, lineage: Sequence[tuple[DeadLetter, Sequence[PlanItem]]] = ()) -> str:
    """Return all of one letter: payload, lineage and attempts."""
    lines = [
        f"{letter.id}  {letter.queue_name}  {escape(letter.function)}  job {escape(letter.job_id)}",
        f"state {letter.state}{', archived' if letter.archived else ''} · "
        f"{plural(letter.attempts, 'attempt')} · failed at {local_time(letter.failed_at, DATE_TIME_ZONE)}",
        f"enqueued at {local_time(letter.enqueued_at, DATE_TIME_ZONE)} · group {letter.fingerprint} · "
        f"release {escape(letter.release or MISSING)}",
        f"{letter.error_type}: {letter.error_message}",
    ]
    if poison_sign(letter):
        deaths = f"died {times(letter.deaths)} in a row of the same error"
        lines.insert(3, f"{poison_sign(letter)} {deaths}, so bulk replays exclude it")
    lines += ["", "payload", _json(letter.job_data.get("kwargs", letter.job_data))]
    lines += _lineage_lines(letter, lineage)
    for attempt in letter.attempt_errors:
        failed_at, ran = clock_time(attempt.get("at")), duration(number(attempt.get("run_seconds")))
        names = ("attempt", "worker", "release")
        attempt_number, worker, release = (escape(str(attempt.get(name) or MISSING)) for name in names)
        lines += ["", f"attempt {attempt_number} at {failed_at} on {worker}, release {release}, ran {ran}"]
        lines.append(str(attempt.get("traceback") or attempt.get("message") or MISSING).rstrip())
        if attempt.get("log"):
            lines += ["it logged", *(f"  {line}" for line in attempt["log"])]
    return "\n".join(lines)


def _lineage_lines(letter: DeadLetter, lineage: Sequence[tuple[DeadLetter, Sequence[PlanItem]]]) -> list[str]:
    """Return each letter of the lineage with its replays and their ends; nothing without a replay."""
    if len(lineage) <= 1 and not any(items for _, items in lineage):
        return []
    lines = ["", "lineage"]
    for member, items in lineage:
        origin = f", of letter {member.replay_of}" if member.replay_of is not None else ""
        suffix = " (this one)" if member.id == letter.id else ""
        failed_at = local_time(member.failed_at, DATE_TIME)
        lines.append(f"  letter {member.id}{suffix}{origin}: {failed_at}  {_error(member)}")
        lines += [f"    {_replay(item)}" for item in items]
    return lines


def _replay(item: PlanItem) -> str:
    enqueued_at = f"  {local_time(item.enqueued_at, DATE_TIME)}" if item.enqueued_at is not None else ""
    note = f": {escape(item.note)}" if item.note else ""
    edited = ", with another payload" if item.kwargs is not None else ""
    return f"plan {item.plan_id}{enqueued_at}  {replay_state(item.state)}{note}{edited}"


def groups_text(groups: Sequence[FailureGroup], *, width: int | None = None) -> str:
    """Render some lines a group: how many and when, which, their error, and their releases."""
    if not groups:
        return "no dead letters"
    digits = max(len(count(group.count)) for group in groups)
    return "\n\n".join(_group(group, digits, width) for group in groups)


def _group(group: FailureGroup, digits: int, width: int | None) -> str:
    sample, margin = group.sample, " " * (digits + 2)
    first, last = (local_time(time, "%Y-%m-%d %H:%M") for time in (group.first_at, group.last_at))
    trend = sparkline([deaths or None for deaths in group.trend], len(group.trend)).replace(" ", "·")
    lines = [
        f"{count(group.count):>{digits}}  {trend}  {first} – {last}",
        f"{margin}group {group.fingerprint}  newest {sample.id}"
        f"  {sample.queue_name}  {escape(sample.function)}",
        f"{margin}{_error(sample)}",
    ]
    if group.releases:
        lines.append(f"{margin}in {', '.join(map(escape, group.releases))}")
    return "\n".join(_cut(lines, width))


def _cut(lines: Sequence[str], width: int | None) -> Sequence[str]:
    return lines if width is None else [clip(line, width) for line in lines]


def preview_text(
    preview: Preview, excluded: Collection[int], *, replay: bool, width: int | None = None
) -> str:
    """Return the letters that a replay, or a discard, would change."""
    lines = [f"{plural(preview.total, 'letter')} selected{_of_one_queue(preview)}"]
    if len(preview.queues) > 1:
        largest_first = sorted(preview.queues.items(), key=lambda queue: -queue[1])
        lines += [f"{count(letters):>9}  {escape(queue)}" for queue, letters in largest_first]
    if preview.groups:
        groups = plural(len(preview.groups), "group")
        lines.append(f"{'' if len(preview.groups) < _MAX_GROUPS else 'the largest '}{groups}:")
        lines += _cut([f"{count(group.count):>9}  {_error(group.sample)}" for group in preview.groups], width)
    lines += _exclusions(preview, excluded)
    if replay and preview.min_seconds >= 1:
        seconds = duration(preview.min_seconds)
        lines.append(f"takes at least {seconds}, by its rate and the queues' own limits")
    return "\n".join(lines)


def _of_one_queue(preview: Preview) -> str:
    if len(preview.queues) != 1:
        return ""
    return f", {'all ' if preview.total > 1 else ''}of {next(iter(preview.queues))}"


def _exclusions(preview: Preview, ids: Collection[int]) -> list[str]:
    """Return how many selected letters stay as they are, and why."""
    reasons = []
    if preview.poison_excluded:
        reasons.append(
            f"{plural(preview.poison_excluded, 'letter')} that died {_poison_deaths()} times or more "
            "in a row of the same error (--poison includes them)"
        )
    if preview.not_dead:
        verb = "is" if preview.not_dead == 1 else "are"
        reasons.append(f"{plural(preview.not_dead, 'letter')} that {verb} not dead")
    if not reasons:
        return []
    return [f"excluded: {' and '.join(reasons)}{f': {join_some(ids)}' if ids else ''}"]


def join_some(ids: Collection[int]) -> str:
    """Return the first ids, and how many others there are."""
    first = ", ".join(str(letter_id) for letter_id in list(ids)[:_MAX_LISTED_IDS])
    others = len(ids) - _MAX_LISTED_IDS
    return first if others <= 0 else f"{first} and {plural(others, 'other')}"


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
