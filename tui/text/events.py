"""Turns events into lines: when, what, and to which queue."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from tui.text.format import SHORT_TIME_CHARS, clip, clock_time, escape
from tui.text.styles import ACCENT, BREACH, MUTED, OK, PAUSED, WATCH
from workers.operations.operations import Event

SIGNS = {
    "alert-acknowledged": ("✔", MUTED),
    "alert-fired": ("▲", BREACH),
    "alert-resolved": ("✔", OK),
    "alert-silenced": ("‖", MUTED),
    "alert-unsilenced": ("●", MUTED),
    "keys-repaired": ("↻", WATCH),
    "letters-replayed": ("↻", ACCENT),
    "new-group": ("✕", BREACH),
    "new-release": ("◆", ACCENT),
    "plan-halted": ("▲", WATCH),
    "plan-interrupted": ("▲", WATCH),
    "plan-started": ("↻", ACCENT),
    "queue-paused": ("‖", PAUSED),
    "queue-resumed": ("●", PAUSED),
    "worker-drained": ("▼", MUTED),
    "worker-draining": ("▼", WATCH),
    "worker-lost": ("✕", BREACH),
    "worker-resumed": ("●", OK),
    "worker-returned": ("●", OK),
    "worker-started": ("●", OK),
}
"""Sign and style by kind; other kinds have a dot."""
_MAX_MESSAGE_CHARS = 300


def event_line(event: Event, now: float, time_chars: int = 0) -> Text:
    """Return one event on one line; its time, maybe with a date, has ``time_chars`` columns."""
    sign, style = SIGNS.get(event.kind, ("·", MUTED))
    when = short_time(event, now).ljust(time_chars)
    text = Text.assemble((f" {when}  ", MUTED), (f"{sign} ", style), no_wrap=True, overflow="ellipsis")
    return text.append_text(describe(event))


def short_time(event: Event, now: float) -> str:
    """Return when it happened, with the date if that is not today."""
    return clock_time(event.at, now, SHORT_TIME_CHARS)


def describe(event: Event) -> Text:
    """Return what happened, with the queue if the sentence does not name it."""
    text = Text(no_wrap=True, overflow="ellipsis")
    if queue := queue_prefix(event):
        text.append(escape(queue), "bold")
    return text.append(clip(escape(event.message), _MAX_MESSAGE_CHARS))


def queue_prefix(event: Event) -> str:
    """Return the queue, to be put before a sentence that does not name it; else empty.

    The sentence of a new group ends with an error, which may name a queue by chance.
    """
    names_it = event.kind != "new-group" and event.queue is not None and event.queue in event.message
    return f"{event.queue}  " if event.queue and not names_it else ""


def event_lines(events: Sequence[Event] | None, now: float, rows: int | None = None) -> Text:
    """Return the newest ``rows`` events, one a line; ``events`` is None if they were not read."""
    if not events:
        return Text("  not read yet" if events is None else "  nothing has happened yet", MUTED)
    events = events[:rows]
    chars = max(len(short_time(event, now)) for event in events)
    lines = [event_line(event, now, chars) for event in events]
    return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)
