"""Where an event loop stands, as it is kept in Redis."""

from __future__ import annotations

from dataclasses import dataclass

from workers.engine import wire


@dataclass(frozen=True, slots=True)
class BlockedAt:
    """Where an event loop stands.  ``queue`` and ``job`` are empty when no job is known to stand there."""

    where: str
    queue: str = ""
    job: str = ""

    def note(self) -> bytes:
        """As it is kept in Redis."""
        return wire.dump({"where": self.where, "queue": self.queue, "job": self.job})


def read_where(note: bytes) -> str:
    """Where an event loop stands, by what `blocked.lua` wrote."""
    try:
        return str(wire.load(note.partition(b" ")[2])["where"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return "an unknown line"
