"""The place at which an event loop is blocked, as Redis keeps it."""

from __future__ import annotations

from dataclasses import dataclass

from workers.engine import wire


@dataclass(frozen=True, slots=True)
class BlockedAt:
    """The place at which an event loop is blocked; ``queue`` and ``job`` are empty if they are not known."""

    where: str
    queue: str = ""
    job: str = ""

    def note(self) -> bytes:
        """Return its form in Redis."""
        return wire.dump({"where": self.where, "queue": self.queue, "job": self.job})


def read_where(note: bytes) -> str:
    """Return where an event loop is blocked, from the note that `blocked.lua` wrote."""
    try:
        return str(wire.load(note.partition(b" ")[2])["where"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return "an unknown line"
