"""Dead letters, their groups and their lineage as styled lines.  Pure: nothing here knows a widget."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from tui.text.format import MISSING, clip, count, duration, escape, escape_lines, number, sparkline, utc_time
from tui.text.snapshot import BAD, DIM, WIDE
from workers.monitoring.snapshot import Snapshot
from workers.operations.operations import POISON_DEATHS, DeadLetter, FailureGroup, PlanItem

_DATE = "%Y-%m-%d %H:%M:%S UTC"
_HOURS = 24
_ENDINGS = {
    "waiting": "waits",
    "enqueued": "queued or running",
    "completed": "its job completed",
    "same": "died again of the same error",
    "other": "died again of another error",
    "aborted": "its job was aborted",
    "skipped": "skipped",
}
Lineage = Sequence[tuple[DeadLetter, Sequence[PlanItem]]]


def letter_columns(width: int, *, signs: bool = False, state: bool = False) -> dict[str, int]:
    """The columns of the letter table and their widths; the error has what the others leave.

    With ``signs`` there is room for marks and poison, with ``state`` for the letters' state.
    """
    wide = {"when": 11, "queue": 17, "job": 22, "function": 14, "att": 3}
    narrow = {"when": 11, "queue": 17, "att": 3}
    chosen = dict(wide if width >= WIDE else narrow)
    chosen = ({"": 3} if signs else {}) | chosen | ({"state": 9} if state else {})
    return chosen | {"error": max(20, width - _taken(chosen))}


def letter_cells(
    letter: DeadLetter, columns: Mapping[str, int], *, now: float, marked: bool = False
) -> list[Text]:
    """A row of the letter table, with the cells that ``columns`` name."""
    cells = {
        "when": _moment(letter.failed_at, now),
        "queue": letter.queue_name,
        "job": escape(letter.job_id),
        "function": escape(letter.function),
        "att": str(letter.attempts).rjust(3),
        "state": letter.state,
        "error": _error(letter),
    }
    return [
        Text(clip(cells[name], width)) if name else signs(letter, marked=marked)
        for name, width in columns.items()
    ]


def signs(letter: DeadLetter, *, marked: bool) -> Text:
    """``●`` for a mark, ``×3`` for three deaths of the same error."""
    text = Text("●" if marked else " ", "bold")
    if letter.deaths >= POISON_DEATHS:
        text.append(f"×{letter.deaths}" if letter.deaths < 10 else "×+", BAD)
    return text


def group_columns(width: int) -> dict[str, int]:
    """The columns of the groups and their widths."""
    wide = {"count": 9, "function": 16, "first": 11, "last": 11, "24 hours": _HOURS}
    narrow = {"count": 7, "last": 11, "24 hours": 12}
    chosen = wide if width >= WIDE else narrow
    room = max(20, width - _taken(chosen))
    names = list(chosen)
    at = 2 if width >= WIDE else 1
    return {name: chosen.get(name, room) for name in (*names[:at], "error", *names[at:])}


def group_cells(group: FailureGroup, columns: Mapping[str, int], *, now: float) -> list[Text]:
    """A row of the groups, with the cells that ``columns`` name."""
    cells = {
        "count": count(group.count).rjust(columns["count"]),
        "function": escape(group.sample.function),
        "error": _error(group.sample),
        "first": _moment(group.first_at, now),
        "last": _moment(group.last_at, now),
        "24 hours": sparkline(_summed(group.trend, columns["24 hours"]), columns["24 hours"]),
    }
    return [
        Text(clip(cells[name], width), "cyan" if name == "24 hours" else "")
        for name, width in columns.items()
    ]


def _summed(hours: Sequence[int], cells: int) -> list[float | int | None]:
    """The hours in so many cells, each of as many hours."""
    per = -(-len(hours) // cells)
    return [sum(hours[at : at + per]) for at in range(0, len(hours), per)]


def letter_detail(letter: DeadLetter, lineage: Lineage | None = None) -> Text:
    """All of a letter: what, when, payload, every attempt with its traceback, and what it came of."""
    text = Text()
    state = letter.state + (", archived" if letter.archived else "")
    state += f", replayed {_times(letter.replay_count)}" if letter.replay_count else ""
    rows = (
        ("queue", letter.queue_name),
        ("job", letter.job_id),
        ("function", letter.function),
        ("state", state),
        ("attempts", str(letter.attempts)),
        ("enqueued", utc_time(letter.enqueued_at, _DATE)),
        ("failed", utc_time(letter.failed_at, _DATE)),
        ("worker", letter.worker or MISSING),
        ("group", letter.fingerprint),
    )
    for name, value in rows:
        text.append(f"  {name:<10}", DIM)
        text.append(f"{escape(value)}\n")
    if letter.deaths >= POISON_DEATHS:
        text.append(f"  {'poison':<10}", DIM)
        text.append(f"×{letter.deaths}", BAD)
        text.append(" died so often in a row of this very error; a plan leaves it out unless told not to\n")
    text.append(f"\n  {escape(letter.error_type)}: ", BAD)
    text.append(f"{escape(letter.error_message)}\n", "bold")
    text.append("\n  Payload\n", "bold underline")
    payload = json.dumps(letter.job_data.get("kwargs", letter.job_data), indent=2, ensure_ascii=False)
    text.append(_indented(payload))
    text.append_text(_lineage(letter, lineage))
    for attempt in letter.attempt_errors:
        text.append_text(_attempt(attempt))
    return text


def _attempt(attempt: Mapping[str, Any]) -> Text:
    at, took = utc_time(attempt.get("at")), duration(number(attempt.get("run_seconds")))
    text = Text()
    text.append(f"\n  Attempt {escape(str(attempt.get('attempt', MISSING)))}", "bold underline")
    text.append(f"  at {at}, ran {took}\n", DIM)
    return text.append(_indented(str(attempt.get("traceback") or attempt.get("message") or MISSING)))


def _lineage(letter: DeadLetter, lineage: Lineage | None) -> Text:
    """Which letter came of which, by which plan, and how each replay ended; nothing where there was none."""
    text = Text()
    if lineage is None or (len(lineage) == 1 and not lineage[0][1]):
        return text
    text.append("\n  Replays\n", "bold underline")
    for each, replays in lineage:
        text.append(f"    letter {each.id}", "bold" if each.id == letter.id else "")
        came = f", came of {each.replay_of}" if each.replay_of is not None else ""
        this = " (this one)" if each.id == letter.id else ""
        text.append(f"{this}{came}: died {utc_time(each.failed_at, _DATE)} of {_error(each)}\n")
        for item in replays:
            text.append(_replay(item))
    return text


def _replay(item: PlanItem) -> str:
    edited = ", edited" if item.kwargs is not None else ""
    note = f": {escape(item.note)}" if item.note else ""
    when = f" at {utc_time(item.enqueued_at, _DATE)}" if item.enqueued_at is not None else ""
    return f"      plan {item.plan_id}{edited}{when}: {_ENDINGS.get(item.state, item.state)}{note}\n"


def newest_first_title(snapshot: Snapshot | None, letters: Sequence[DeadLetter], *, all_: bool) -> str:
    """The title above the newest dead letters; ``all_`` says that there are no others.

    Then they are counted: the snapshot's number is some seconds old.
    """
    if snapshot is None:
        return "Dead letters"
    waiting = (
        f" · {count(snapshot.letters_waiting)} wait for the database" if snapshot.letters_waiting else ""
    )
    number = len(letters) if all_ else snapshot.dead_letters
    total = "none" if number == 0 else count(number)
    return f"Dead letters · {total}{waiting}"


def counted(number: int, noun: str = "letter") -> str:
    """``1 letter``, ``1,234 letters``."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{count(number)} times"


def _error(letter: DeadLetter) -> str:
    return escape(f"{letter.error_type.rpartition('.')[2]}: {letter.error_message}")


def _moment(at: datetime, now: float) -> str:
    """A time of today, else date and time without seconds."""
    at = at.astimezone(UTC)
    same_day = datetime.fromtimestamp(now, UTC).date() == at.date()
    return f"{at:%H:%M:%S}" if same_day else f"{at:%m-%d %H:%M}"


def _taken(columns: Mapping[str, int]) -> int:
    """Columns of the terminal: a space on each side of each, and the scroll bar."""
    return sum(columns.values()) + 2 * (len(columns) + 1) + 2


def _indented(block: str) -> str:
    return "".join(f"    {line}\n" for line in escape_lines(block.rstrip()).split("\n"))
