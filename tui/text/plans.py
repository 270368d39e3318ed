"""Turns replay plans into styled lines."""

from __future__ import annotations

from collections.abc import Mapping

from rich.text import Text

from tui.text.format import SHORT_TIME_CHARS, clip, clock_time, count, duration, escape, gauge, local_time
from tui.text.styles import BREACH, MUTED, OK, WATCH, WIDE_COLUMNS
from tui.text.words import (
    DAY_AND_MINUTE,
    REPLAY_STATE_LABELS,
    KeyNames,
    replay_options,
    replay_state,
    selection,
)
from workers.operations.operations import Ledger, Plan, PlanItem, Preview
from workers.words import plural

_STYLES = {
    "running": OK,
    "done": OK,
    "halted": BREACH,
    "interrupted": BREACH,
    "unknown": WATCH,
    "paused": WATCH,
    "cancelled": WATCH,
    "completed": OK,
    "same": BREACH,
    "other": BREACH,
}
"""Styles of the states of plans and of their letters."""
_SIGNS = {
    "running": "▸",
    "done": "●",
    "halted": "▲",
    "interrupted": "▲",
    "unknown": "?",
    "paused": "‖",
    "cancelled": "×",
}
_MAX_BAR_WIDTH = 24
_MAX_PREVIEW_GROUPS = 10
"""Groups that a preview has at most; with so many there may be more."""
_MAX_PREVIEW_QUEUES = 4
RIGHT_ALIGNED = ("id", "total", "replayed", "died")
"""Columns of the list of plans whose headings are right-aligned."""


def has_ended(plan: Plan) -> bool:
    """Return whether nothing of it will change any more."""
    return plan.state in ("done", "cancelled") and plan.ledger.enqueued == 0


def preview(preview: Preview, rate: float | None, *, counted_at: float) -> Text:
    """Describe what a replay would select, and how long it takes at least."""
    if preview.total == 0 and not preview.poison_excluded:
        return Text("No dead letter matches: there is nothing to replay.", WATCH)
    text = Text()
    text.append(plural(preview.total, "letter"), "bold")
    text.append(f" in {_sources(preview)}, as of {clock_time(counted_at)}, and none that come in later.\n")
    if preview.poison_excluded:
        text.append("▲ ", WATCH)
        poison = plural(preview.poison_excluded, "letter")
        text.append(f"left out: {poison} that died too often of the same error ×3\n", WATCH)
    if preview.not_dead:
        text.append(f"  left out: {plural(preview.not_dead, 'letter')} not dead any more\n", WATCH)
    by_number = sorted(preview.queues.items(), key=lambda queue: -queue[1])
    for name, number in by_number[:_MAX_PREVIEW_QUEUES]:
        text.append(f"  {count(number):>9}  ")
        text.append(f"{escape(name)}\n", MUTED)
    seconds = max(preview.min_seconds, preview.total / rate if rate else 0.0)
    limits = "by this rate and the queues' own limits" if rate else "by the queues' own limits"
    return text.append(
        f"It takes {duration(seconds)} at least, {limits}." if seconds >= 1 else "It takes a moment."
    )


def _sources(preview: Preview) -> str:
    queues = plural(len(preview.queues), "queue")
    if not preview.groups:
        return queues
    many = len(preview.groups) >= _MAX_PREVIEW_GROUPS
    return (
        f"{f'{_MAX_PREVIEW_GROUPS}+ groups' if many else plural(len(preview.groups), 'group')} and {queues}"
    )


def title(plan: Plan, width: int) -> str:
    """Return the plan's id and selection."""
    return clip(f"Plan {plan.id} · {selection(plan.selection)}", width)


def summary(plan: Plan) -> Text:
    """Return how many letters the plan has, and its options."""
    text = Text.assemble((plural(plan.total, "letter"), "bold"), f", frozen at {clock_time(plan.created_at)}")
    text.append(f" by {escape(plan.actor)}, and none that came in since.\n")
    return text.append(replay_options(plan.canary, plan.rate, plan.halt), MUTED)


def progress_bars(plan: Plan, width: int) -> Text:
    """Return a bar for the canary, and one for all other letters."""
    ledger, text = plan.ledger, Text()
    total = plan.total - ledger.skipped
    canary = min(plan.canary, total)
    bar_width = min(_MAX_BAR_WIDTH, max(8, width - 40))
    if canary:
        ended_jobs = min(ledger.ended if ledger.sent <= canary else canary, canary)
        bar = gauge(ended_jobs, canary, bar_width)
        text.append(f"canary  {bar} {count(ended_jobs)}/{count(canary)} ended\n")
    enqueued, rest = max(0, ledger.sent - canary), total - canary
    if rest > 0 or not canary:
        text.append(f"replay  {gauge(enqueued, rest, bar_width)} {count(enqueued)}/{count(rest)} enqueued")
    text.rstrip()
    return text


def ledger_line(ledger: Ledger, *, cancelled: bool = False) -> Text:
    """Return how many letters are in each state; empty states are left out unless they matter."""
    text = Text()
    labels = {**REPLAY_STATE_LABELS, **({"waiting": "stay dead"} if cancelled else {})}
    for state, label in labels.items():
        number = getattr(ledger, state)
        if number or state in ("enqueued", "completed"):
            text.append(f"{' · ' if text else ''}")
            text.append(f"{count(number)} {label}", _STYLES.get(state, "") if number else MUTED)
    return text if ledger.died else text.append(" · 0 died again", MUTED)


def state_line(plan: Plan, key: KeyNames) -> Text:
    """Return the plan's state, and what can be done about it."""
    state, running, pause = plan.standing, plan.ledger.enqueued, key("plan.pause")
    text = Text(f"{_SIGNS.get(state, '–')} {state}", _STYLES.get(state, ""))
    explanations = {
        "done": f": {plural(running, 'job')} still to end" if running else ": all have ended",
        "interrupted": f": its process has gone; {pause} resumes it, as does "
        f"couturecast-tui failed-jobs resume {plan.id}",
        "unknown": ": Redis does not answer whether a process runs it",
        "halted": f": {escape(plan.note)}; {pause} resumes it with a higher limit",
        "paused": f": {pause} resumes it",
        "cancelled": ": the jobs that were enqueued go on" if running else "",
        "frozen": f": not started; {pause} starts it",
    }
    return text.append(explanations.get(state, ""), "")


def plan_columns(width: int) -> dict[str, int]:
    """Return the columns of the list of plans and their widths."""
    compact = {"id": 5, "when": 11, "state": 13, "total": 7, "replayed": 8, "died": 5}
    wide = {"id": 6, "when": 11, "who": 15, "state": 13, "total": 9, "replayed": 9, "died": 8}
    columns = wide if width >= WIDE_COLUMNS else compact
    left = max(12, width - sum(columns.values()) - 2 * (len(columns) + 1) - 2)
    if width < WIDE_COLUMNS:
        return columns | {"selection": left}
    return columns | {"selection": left // 2, "note": max(8, left - left // 2 - 2)}


def plan_cells(plan: Plan, columns: Mapping[str, int]) -> list[Text]:
    """Return a row of the list of plans."""
    state = plan.standing
    numbers = zip(RIGHT_ALIGNED, (plan.id, plan.total, plan.ledger.sent, plan.ledger.died), strict=True)
    cells = {
        "when": local_time(plan.created_at, DAY_AND_MINUTE),
        "who": escape(plan.actor),
        "state": f"{_SIGNS.get(state, '–')} {state}",
        "selection": selection(plan.selection),
        "note": escape(plan.note or plan.reason),
    }
    cells |= {name: count(number, columns[name]).rjust(columns[name]) for name, number in numbers}
    return _row(cells, columns, _STYLES.get(state, ""))


def item_columns(width: int) -> dict[str, int]:
    """Return the columns of a plan's letters and their widths."""
    times = dict.fromkeys(("enqueued", "ended"), SHORT_TIME_CHARS) if width >= 84 else {}
    columns = {"letter": 9, "state": 17} | times
    return columns | {"note": max(10, width - sum(columns.values()) - 2 * (len(columns) + 1) - 2)}


def item_cells(item: PlanItem, columns: Mapping[str, int]) -> list[Text]:
    """Return a row of a plan's letters: letter, state, when its job was enqueued and when it ended, note."""
    cells = {
        "letter": str(item.letter_id).rjust(columns["letter"]),
        "state": replay_state(item.state),
        "enqueued": clock_time(item.enqueued_at, max_chars=SHORT_TIME_CHARS),
        "ended": clock_time(item.ended_at, max_chars=SHORT_TIME_CHARS),
        "note": escape(item.note or ("edited" if item.kwargs is not None else "")),
    }
    return _row(cells, columns, _STYLES.get(item.state, ""))


def _row(cells: Mapping[str, str], columns: Mapping[str, int], state_style: str) -> list[Text]:
    return [
        Text(clip(cells[name], width), state_style if name == "state" else "")
        for name, width in columns.items()
    ]


def key_hints(plan: Plan, key: KeyNames) -> str:
    """Return the keys that work now."""
    state = plan.standing
    verb = {"running": "pause", "frozen": "start", "unknown": ""}.get(state, "resume")
    pause = f"{key('plan.pause')} {verb}" if verb else ""
    cancel = f"{key('plan.cancel')} cancel"
    letters = f"{key('plan.letters')} letters"
    leave = f"{key('plan.leave')} {'leave it running' if state == 'running' else 'close'}"
    has_ended = state in ("done", "cancelled")
    return "   ".join(filter(None, (letters, leave) if has_ended else (pause, cancel, letters, leave)))
