"""The filter of events as it is written: ``kind:plan-halted queue:color-extraction since:2h``."""

from __future__ import annotations

from storage.database.events import EVENT_KINDS
from storage.errors import InvalidFilterError
from storage.repositories.events import EventFilter

__all__ = ["EVENT_KINDS", "PLACEHOLDER", "filter_text", "parse_filter"]

PLACEHOLDER = "kind:worker-lost queue:color-extraction since:2h until:30m"
_FIELDS = ("kind", "queue", "since", "until")


def parse_filter(text: str) -> EventFilter:
    """Raises InvalidFilterError."""
    conditions: dict[str, str] = {}
    for word in text.split():
        name, colon, value = word.partition(":")
        if not (colon and value and name in _FIELDS):
            raise InvalidFilterError(
                f"{word!r} is not a condition", field="filter", fix=f"use {PLACEHOLDER}, or some of these"
            )
        if name in conditions:
            raise InvalidFilterError("is given twice", field=name, fix="remove one of them")
        conditions[name] = value
    return EventFilter.from_options(**conditions)


def filter_text(event_filter: EventFilter) -> str:
    """Return a filter as it is written."""
    values = {name: getattr(event_filter, name) for name in _FIELDS}
    return " ".join(
        f"{name}:{value if isinstance(value, str) else value.isoformat(timespec='seconds')}"
        for name, value in values.items()
        if value is not None
    )
