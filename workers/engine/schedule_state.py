"""The state of a schedule in Redis.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workers.engine import wire

DISABLED, ENABLED, RAN = ":disabled", ":enabled", ":ran"
"""Follow the schedule's name in the names of fields; the name alone has its newest occurrence."""


@dataclass(frozen=True, slots=True)
class DisabledSchedule:
    """The operator who disabled a schedule, why (may be empty), and when (Unix second; None: unreadable)."""

    by: str
    reason: str
    since: float | None


@dataclass(frozen=True, slots=True)
class ScheduleState:
    """Instants in Unix seconds; None: never, or ahead of the server's clock."""

    newest: int | None = None
    """The newest occurrence for which jobs were enqueued."""
    enabled: int | None = None
    """When it was last enabled: occurrences before that are not due."""
    ran: int | None = None
    """When an operator last ran it."""
    disabled: DisabledSchedule | None = None

    @property
    def done_until(self) -> int | None:
        """Occurrences up to here are not due any more; None for a schedule that has never run."""
        return max((second for second in (self.newest, self.enabled) if second is not None), default=None)

    @classmethod
    def read(cls, fields: Mapping[bytes, bytes | None], name: str, now: int) -> ScheduleState:
        """Return the state of the schedule ``name``.

        Others may have written the ``fields`` of `CRON`, too.
        """
        note = fields.get(f"{name}{DISABLED}".encode())
        return cls(
            newest=past_second(fields.get(name.encode()), now=now),
            enabled=past_second(fields.get(f"{name}{ENABLED}".encode()), now=now),
            ran=past_second(fields.get(f"{name}{RAN}".encode()), now=now),
            disabled=None if note is None else _parse_note(note),
        )


def field_names(name: str) -> list[str]:
    """Return the fields of a schedule in `CRON`."""
    return [name, f"{name}{DISABLED}", f"{name}{ENABLED}", f"{name}{RAN}"]


def past_second(text: bytes | None, *, now: int) -> int | None:
    """Return the Unix second in a field of the schedules; None if it is not one, or lies ahead of ``now``.

    A time that lies ahead was written before the server's clock was set back.
    """
    try:
        second = int(text or b"")
    except ValueError:
        return None
    return second if second <= now else None


def _parse_note(note: bytes) -> DisabledSchedule:
    since, _, rest = note.partition(b" ")
    try:
        value: Any = wire.load(rest)
        by, reason = str(value["by"]), str(value["reason"])
    except (ValueError, TypeError, LookupError, RecursionError):
        by, reason = "?", ""
    try:
        return DisabledSchedule(by, reason, float(since))
    except ValueError:
        return DisabledSchedule(by, reason, None)
