"""Replay plans as styled lines.  Pure: nothing here knows a widget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from tui.text.dead_letters import counted
from tui.text.format import MISSING, clip, count, duration, escape, gauge, utc_time
from tui.text.snapshot import BAD, DIM, GOOD, WARN, WIDE
from workers.operations.operations import Ledger, Plan, PlanItem, Preview

STATES = ("waiting", "enqueued", "completed", "same", "other", "aborted", "skipped")
"""Of a plan's letters, in the order of their life."""
_WORDS = {"enqueued": "running", "same": "died, same error", "other": "died, other error"}
_STYLES = {
    "running": GOOD,
    "done": GOOD,
    "halted": BAD,
    "interrupted": BAD,
    "unknown": WARN,
    "paused": WARN,
    "cancelled": WARN,
    "completed": GOOD,
    "same": BAD,
    "other": BAD,
}
_SIGNS = {
    "running": "▸",
    "done": "●",
    "halted": "▲",
    "interrupted": "▲",
    "unknown": "?",
    "paused": "‖",
    "cancelled": "×",
}
_BAR = 24
_NAMED = 10
"""Groups that a preview names at the most; there may be more."""
NUMBERS = ("id", "total", "replayed", "died")
"""Columns of the list of plans that are written from the right."""


def word(state: str) -> str:
    """What the operator calls the state of a plan's letter."""
    return _WORDS.get(state, state)


def ended(plan: Plan) -> bool:
    """Whether nothing of it will change any more."""
    return plan.state in ("done", "cancelled") and plan.ledger.enqueued == 0


def preview(found: Preview, rate: float | None, *, counted_at: float) -> Text:
    """What a replay would be about, and how long it takes at least."""
    if found.total == 0 and not found.poison:
        return Text("No dead letter is meant by that: there is nothing to replay.", WARN)
    text = Text()
    groups = f"{_NAMED}+ groups" if len(found.groups) >= _NAMED else counted(len(found.groups), "group")
    of = [groups if found.groups else "", counted(len(found.queues), "queue")]
    text.append(counted(found.total), "bold")
    text.append(f" in {' and '.join(filter(None, of))}, as of {utc_time(counted_at)}, and none that come in ")
    text.append("later.\n")
    if found.poison:
        text.append("▲ ", WARN)
        text.append(f"left out: {counted(found.poison)} that died too often of the same error ×3\n", WARN)
    if found.others:
        text.append(f"  left out: {counted(found.others)} not dead any more\n", WARN)
    for name, number in sorted(found.queues.items(), key=lambda each: -each[1])[:4]:
        text.append(f"  {count(number):>9}  ")
        text.append(f"{escape(name)}\n", DIM)
    longest = max(found.seconds, found.total / rate if rate else 0.0)
    limits = "by this rate and the queues' own limits" if rate else "by the queues' own limits"
    text.append(f"It takes {duration(longest)} at least, {limits}." if longest >= 1 else "It takes a moment.")
    return text


def title(plan: Plan, width: int) -> str:
    """Which plan it is, and of what."""
    return clip(f"Plan {plan.id} · {selection(plan.selection)}", width)


def frozen(plan: Plan) -> Text:
    """What the plan is about, and how it is to be carried out."""
    text = Text.assemble((counted(plan.total), "bold"), f", frozen at {utc_time(plan.created_at)}")
    text.append(f" by {escape(plan.actor)}, and none that came in since.\n")
    rate = f"{plan.rate:g} a second" if plan.rate else "as fast as it goes"
    canary = f"{counted(plan.canary)} first" if plan.canary else "no canary"
    halt = "never halts" if plan.halt >= 1 else f"halts when more than {plan.halt * 100:.0f} % die again"
    return text.append(f"{canary} · {rate} · {halt}", DIM)


def bars(plan: Plan, width: int) -> Text:
    """How far it is: the canary, and all the others."""
    ledger, text = plan.ledger, Text()
    going = plan.total - ledger.skipped
    canary = min(plan.canary, going)
    length = min(_BAR, max(8, width - 40))
    if canary:
        tried = min(ledger.ended if ledger.sent <= canary else canary, canary)
        text.append(f"canary  {gauge(tried, canary, length)} {count(tried)}/{count(canary)} ended\n")
    sent, rest = max(0, ledger.sent - canary), going - canary
    if rest > 0 or not canary:
        text.append(f"replay  {gauge(sent, rest, length)} {count(sent)}/{count(rest)} enqueued")
    text.rstrip()
    return text


def ledger(found: Ledger) -> Text:
    """How many letters are in which state; what is not there yet is left out, but not what matters."""
    text = Text()
    for name in STATES:
        number = getattr(found, name)
        if number or name in ("enqueued", "completed"):
            text.append(f"{' · ' if text else ''}")
            text.append(f"{count(number)} {word(name)}", _STYLES.get(name, "") if number else DIM)
    return text if found.died else text.append(" · 0 died again", DIM)


def standing(plan: Plan) -> Text:
    """The plan's state in a sentence."""
    now = plan.standing
    text = Text(f"{_SIGNS.get(now, '–')} {now}", _STYLES.get(now, ""))
    running = plan.ledger.enqueued
    says = {
        "done": f": {counted(running, 'job')} still to end" if running else ": all have ended",
        "interrupted": ": its process is gone; space goes on with it, as does "
        f"couturecast-tui failed-jobs resume {plan.id}",
        "unknown": ": Redis does not say whether a process carries it out",
        "halted": f": {escape(plan.note)}; space goes on with a higher limit",
        "paused": ": space goes on",
        "cancelled": ": what was enqueued goes on" if running else "",
        "frozen": ": not begun; space starts it",
    }
    return text.append(says.get(now, ""), "")


def plan_columns(width: int) -> dict[str, int]:
    """The columns of the list of plans and their widths."""
    narrow = {"id": 5, "when": 11, "state": 13, "total": 7, "replayed": 8, "died": 5}
    wide = {"id": 6, "when": 11, "who": 15, "state": 13, "total": 9, "replayed": 9, "died": 8}
    chosen = wide if width >= WIDE else narrow
    room = max(12, width - sum(chosen.values()) - 2 * (len(chosen) + 1) - 2)
    if width < WIDE:
        return chosen | {"selection": room}
    selection = room // 2
    return chosen | {"selection": selection, "note": max(8, room - selection - 2)}


def plan_cells(plan: Plan, columns: Mapping[str, int]) -> list[Text]:
    """A row of the list of plans."""
    now = plan.standing
    numbers = zip(NUMBERS, (plan.id, plan.total, plan.ledger.sent, plan.ledger.died), strict=True)
    cells = {
        "when": utc_time(plan.created_at, "%m-%d %H:%M"),
        "who": escape(plan.actor),
        "state": f"{_SIGNS.get(now, '–')} {now}",
        "selection": selection(plan.selection),
        "note": escape(plan.note or plan.reason),
    }
    cells |= {name: count(number, columns[name]).rjust(columns[name]) for name, number in numbers}
    return [
        Text(clip(cells[name], width), _STYLES.get(now, "") if name == "state" else "")
        for name, width in columns.items()
    ]


def selection(selected: Mapping[str, Any]) -> str:
    """What was selected, on one line: a filter, or letters by id."""
    if "filter" in selected:
        return escape(str(selected["filter"]))
    ids = selected.get("ids")
    if not isinstance(ids, list) or not ids:
        return MISSING
    more = " …" if selected.get("count", len(ids)) > 5 else ""
    return escape(f"{'letter' if len(ids) == 1 else 'letters'} {', '.join(map(str, ids[:5]))}{more}")


def item_columns(width: int) -> dict[str, int]:
    """The columns of a plan's ledger and their widths."""
    chosen = {"letter": 9, "state": 17} | ({"enqueued": 8, "ended": 8} if width >= 84 else {})
    return chosen | {"note": max(10, width - sum(chosen.values()) - 2 * (len(chosen) + 1) - 2)}


def item_cells(item: PlanItem, columns: Mapping[str, int]) -> list[Text]:
    """A row of a plan's ledger: letter, state, when its job was enqueued and when it ended, note."""
    cells = {
        "letter": str(item.letter_id).rjust(columns["letter"]),
        "state": word(item.state),
        "enqueued": utc_time(item.enqueued_at),
        "ended": utc_time(item.ended_at),
        "note": escape(item.note or ("edited" if item.kwargs is not None else "")),
    }
    return [
        Text(clip(cells[name], width), _STYLES.get(item.state, "") if name == "state" else "")
        for name, width in columns.items()
    ]


def keys(plan: Plan) -> str:
    """The keys that work now."""
    now = plan.standing
    verbs = {"running": "space pause   ", "frozen": "space start   ", "unknown": ""}
    go_on = verbs.get(now, "space go on   ")
    leave = "esc leave it running" if now == "running" else "esc close"
    if now in ("done", "cancelled"):
        return f"l ledger   {leave}"
    return f"{go_on}x cancel   l ledger   {leave}"


def share(text: str) -> float:
    """A share of ``text`` %.  Raises ValueError."""
    try:
        return float(text) / 100
    except ValueError:
        raise ValueError("halt: a number of % is needed") from None
