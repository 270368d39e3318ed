"""Turns dead letters, their groups and their lineage into styled lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.text import Text

from tui.text.completion import MAX_CANDIDATES, TIMES, Values
from tui.text.format import (
    MISSING,
    SHORT_TIME_CHARS,
    clip,
    clock_time,
    count,
    duration,
    escape,
    escape_lines,
    local_log,
    local_time,
    number,
    sparkline,
)
from tui.text.sorting import Order, SortColumn, Sorting
from tui.text.styles import ACCENT, BREACH, MARK, MUTED, WIDE_COLUMNS
from tui.text.words import DATE_TIME_ZONE, class_name, error_line, replay_state, times
from workers.monitoring.snapshot import QueueSnapshot, Snapshot
from workers.operations.job_views import worker_name, worker_of
from workers.operations.operations import (
    NEWEST_FIRST,
    POISON_DEATHS,
    STATES,
    DeadLetter,
    FailureGroup,
    LetterFilter,
    LetterOrder,
    OrderColumn,
    PlanItem,
    sortable_columns,
)
from workers.operations.secrets import MASK

POISON_LEGEND = "×3 poison: died this often in a row of the same error; plans leave it out"
_TREND_HOURS = 24
Lineage = Sequence[tuple[DeadLetter, Sequence[PlanItem]]]


_MIN_ERROR_CHARS = 20


def letter_columns(width: int, *, marks: bool = False, state: bool = False) -> dict[str, int]:
    """Return the columns of the letter table and their widths; the error gets what the others leave.

    ``marks`` adds a column for marks and poison, ``state`` one for the letters' state.
    """
    wide = {"when": 11, "queue": 17, "job": 22, "function": 14, "att": 3}
    compact = {"when": 11, "queue": 17, "att": 3}
    for middle in (wide, compact) if width >= WIDE_COLUMNS else (compact,):
        columns = ({"": 3} if marks else {}) | middle | ({"state": 9} if state else {})
        left = width - _used_width(columns)
        if left >= _MIN_ERROR_CHARS:
            break
    return columns | {"error": max(_MIN_ERROR_CHARS, left)}


NEWEST_LETTERS_FIRST = Order("when", descending=True)
_ORDER_COLUMNS: dict[str, OrderColumn] = {
    "when": "failed_at",
    "queue": "queue_name",
    "function": "function",
    "error": "fingerprint",
}


def letter_sorting(letter_filter: LetterFilter) -> Sorting[DeadLetter]:
    """Return the columns by which the database can sort a filter's letters without reading all of them."""
    sortable = sortable_columns(letter_filter)
    columns = [name for name, column in _ORDER_COLUMNS.items() if column in sortable]
    note = "Only columns with an index sort a million letters at once. error: those of one group together."
    if not sortable:
        note = "A search lists the letters that were recorded last first: no index has another order."
    elif len(sortable) == 1:
        note = (
            "With this filter only the time has an index; without it queue, function and error have one, too."
        )
    return Sorting(
        "letters",
        tuple(SortColumn(name, descending=True) for name in columns),
        NEWEST_LETTERS_FIRST,
        note,
    )


_MAX_VALUE_CHARS = 40


def filter_values(queues: Sequence[QueueSnapshot], letters: Sequence[DeadLetter]) -> Values:
    """Return the fields of a filter, with the values that these queues and letters have."""
    names = [queue.name for queue in queues]
    values: dict[str, Iterable[str]] = {
        "queue:": dict.fromkeys([*names, *(letter.queue_name for letter in letters)]),
        "function:": sorted({queue.function for queue in queues} | {letter.function for letter in letters}),
        "state:": (*STATES, "all"),
        "since:": TIMES,
        "until:": TIMES,
        "error:": sorted({class_name(letter.error_type) for letter in letters}),
        "fingerprint:": dict.fromkeys(letter.fingerprint for letter in letters),
        "poison:": ("yes", "no"),
        "archived:": ("yes",),
    }
    values |= _argument_values(letters)
    return {name: [value for value in texts if value.isprintable()] for name, texts in values.items()}


def _argument_values(letters: Sequence[DeadLetter]) -> dict[str, list[str]]:
    """Return the short values of the arguments of these letters, by ``arg.NAME:``; no masks of secrets."""
    values: dict[str, list[str]] = {}
    for letter in letters:
        arguments = letter.job_data.get("kwargs")
        for name, value in arguments.items() if isinstance(arguments, dict) else ():
            texts = values.setdefault(f"arg.{name}:", [])
            text = str(value) if isinstance(value, str | int | float) else ""
            if (
                0 < len(text) <= _MAX_VALUE_CHARS
                and len(texts) < MAX_CANDIDATES
                and text not in (*texts, MASK)
            ):
                texts.append(text)
    return values


def letter_order(order: Order | None) -> LetterOrder:
    """Return the order as the operation takes it."""
    return NEWEST_FIRST if order is None else LetterOrder(_ORDER_COLUMNS[order.column], order.descending)


def letter_cells(
    letter: DeadLetter, columns: Mapping[str, int], *, now: float, marked: bool = False
) -> list[Text]:
    """Return a row of the letter table with these columns."""
    cells = {
        "when": _short_time(letter.failed_at, now),
        "queue": letter.queue_name,
        "job": escape(letter.job_id),
        "function": escape(letter.function),
        "att": str(letter.attempts).rjust(3),
        "state": letter.state,
        "error": _error(letter),
    }
    return [
        Text(clip(cells[name], width)) if name else mark_cell(letter, marked=marked)
        for name, width in columns.items()
    ]


def mark_cell(letter: DeadLetter, *, marked: bool) -> Text:
    """Return its mark, and ``×3`` if it died three times in a row of the same error."""
    text = Text.assemble((MARK if marked else " ", ACCENT))
    if letter.deaths >= POISON_DEATHS:
        text.append(f"×{letter.deaths}" if letter.deaths < 10 else "×+", BREACH)
    return text


def group_columns(width: int) -> dict[str, int]:
    """Return the columns of the groups and their widths."""
    wide = {"count": 9, "function": 16, "first": 11, "last": 11, "24 hours": _TREND_HOURS}
    compact = {"count": 7, "function": 14, "last": 11, "24 hours": 8}
    columns = wide if width >= WIDE_COLUMNS else compact
    error_width = max(_MIN_ERROR_CHARS, width - _used_width(columns))
    names = list(columns)
    names.insert(2, "error")
    return {name: columns.get(name, error_width) for name in names}


def group_cells(group: FailureGroup, columns: Mapping[str, int], *, now: float) -> list[Text]:
    """Return a row of the groups with these columns."""
    trend_width = columns["24 hours"]
    cells = {
        "count": count(group.count).rjust(columns["count"]),
        "function": escape(group.sample.function),
        "error": _error(group.sample),
        "first": _short_time(group.first_at, now),
        "last": _short_time(group.last_at, now),
        "24 hours": sparkline(_sum_hours(group.trend, trend_width), trend_width),
    }
    return [
        Text(clip(cells[name], width), ACCENT if name == "24 hours" else "")
        for name, width in columns.items()
    ]


GROUP_SORTING: Sorting[FailureGroup] = Sorting(
    "groups",
    (
        SortColumn("count", lambda group: group.count, descending=True),
        SortColumn("function", lambda group: group.sample.function),
        SortColumn("error", lambda group: _error(group.sample)),
        SortColumn("first", lambda group: group.first_at, descending=True),
        SortColumn("last", lambda group: group.last_at, descending=True),
        SortColumn("24 hours", lambda group: sum(group.trend), descending=True),
    ),
    Order("count", descending=True),
)


def _sum_hours(hours: Sequence[int], cells: int) -> list[int]:
    """Sum the hours into this many cells, each of as many hours."""
    per_cell = -(-len(hours) // cells)
    return [sum(hours[start : start + per_cell]) for start in range(0, len(hours), per_cell)]


def letter_detail(
    letter: DeadLetter, lineage: Lineage | None = None, snapshot: Snapshot | None = None
) -> Text:
    """Return all of a letter: its fields, payload and replays, and each attempt with its traceback."""
    text = Text()
    state = letter.state + (", archived" if letter.archived else "")
    state += f", replayed {times(letter.replay_count)}" if letter.replay_count else ""
    fields = (
        ("queue", letter.queue_name),
        ("job", letter.job_id),
        ("function", letter.function),
        ("state", state),
        ("attempts", str(letter.attempts)),
        ("enqueued", local_time(letter.enqueued_at, DATE_TIME_ZONE)),
        ("failed", local_time(letter.failed_at, DATE_TIME_ZONE)),
        ("worker", letter_worker(letter, snapshot)),
        *([("release", letter.release)] if letter.release else []),
        ("group", letter.fingerprint),
    )
    for label, field in fields:
        text.append(f"  {label:<10}", MUTED)
        text.append(f"{escape(field)}\n")
    if letter.deaths >= POISON_DEATHS:
        text.append(f"  {'poison':<10}", MUTED)
        text.append(f"×{letter.deaths}", BREACH)
        text.append(" deaths in a row of the same error; plans leave it out unless they include poison\n")
    text.append(f"\n  {escape(letter.error_type)}: ", BREACH)
    text.append(f"{escape(letter.error_message)}\n", "bold")
    text.append("\n  Payload\n", "bold underline")
    payload = json.dumps(letter.job_data.get("kwargs", letter.job_data), indent=2, ensure_ascii=False)
    text.append(_indent(payload))
    text.append_text(_lineage(letter, lineage))
    for attempt in letter.attempt_errors:
        text.append_text(_attempt(attempt))
    return text


def letter_worker(letter: DeadLetter, snapshot: Snapshot | None) -> str:
    """Return host and pid of the process in which it died; the beginning of its id if that has ended."""
    if not letter.worker:
        return MISSING
    return worker_name(letter.worker, worker_of(snapshot, letter.worker))


def _attempt(attempt: Mapping[str, Any]) -> Text:
    when, ran = clock_time(attempt.get("at")), duration(number(attempt.get("run_seconds")))
    text = Text()
    text.append(f"\n  Attempt {escape(str(attempt.get('attempt', MISSING)))}", "bold underline")
    text.append(f"  at {when}, ran {ran}\n", MUTED)
    text.append(_indent(str(attempt.get("traceback") or attempt.get("message") or MISSING)))
    if attempt.get("log"):
        text.append("  It logged\n", MUTED)
        text.append(_indent("\n".join(local_log(attempt["log"]))))
    return text


def _lineage(letter: DeadLetter, lineage: Lineage | None) -> Text:
    """Return the letters that replays led from and to, and their ends; empty without a replay."""
    text = Text()
    if lineage is None or (len(lineage) == 1 and not lineage[0][1]):
        return text
    text.append("\n  Replays\n", "bold underline")
    for relative, replays in lineage:
        is_this_letter = relative.id == letter.id
        text.append(f"    letter {relative.id}", "bold" if is_this_letter else "")
        text.append(" (this one)" if is_this_letter else "")
        text.append(f", a replay of letter {relative.replay_of}" if relative.replay_of is not None else "")
        text.append(f": died {local_time(relative.failed_at, DATE_TIME_ZONE)} of {_error(relative)}\n")
        for item in replays:
            text.append(_replay(item))
    return text


def _replay(item: PlanItem) -> str:
    edited = ", edited" if item.kwargs is not None else ""
    note = f": {escape(item.note)}" if item.note else ""
    when = f" at {local_time(item.enqueued_at, DATE_TIME_ZONE)}" if item.enqueued_at is not None else ""
    return f"      plan {item.plan_id}{edited}{when}: {replay_state(item.state)}{note}\n"


def _error(letter: DeadLetter) -> str:
    return escape(error_line(letter.error_type, letter.error_message))


def _short_time(time: datetime, now: float) -> str:
    """Return a time of today, else date and time without seconds."""
    return clock_time(time, now, SHORT_TIME_CHARS)


def _used_width(columns: Mapping[str, int]) -> int:
    """Return the width of these columns, with a space on both sides, another column, and the scroll bar."""
    return sum(columns.values()) + 2 * (len(columns) + 1) + 2


def _indent(block: str) -> str:
    return "".join(f"    {line}\n" for line in escape_lines(block.rstrip()).split("\n"))
