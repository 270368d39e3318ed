"""Events as plain text, for the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.cli.render.tables import table_text
from tui.text.events import queue_prefix
from tui.text.format import escape, local_time
from tui.text.words import DATE_TIME

if TYPE_CHECKING:
    from storage.repositories.events import Event

_KIND_CHARS = 18
"""Width of the longest kind."""


def events_text(events: Sequence[Event], *, width: int | None = None) -> str:
    """Return a row for each event: when, its kind, and what happened."""
    if not events:
        return "no events"
    rows = [(local_time(event.at, DATE_TIME), event.kind, _sentence(event)) for event in events]
    return table_text(("at", "kind", "what happened"), rows, shrink=("what happened",), width=width)


def event_lines(events: Sequence[Event]) -> str:
    """Return a whole line for each event, in columns that do not depend on the others."""
    return "\n".join(
        f"{local_time(event.at, DATE_TIME)}  {escape(event.kind):<{_KIND_CHARS}}  {escape(_sentence(event))}"
        for event in events
    )


def _sentence(event: Event) -> str:
    return f"{queue_prefix(event)}{event.message}"
