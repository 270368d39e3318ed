"""Conditions: what is wrong now, and the facts by which that is decided.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from workers.engine.history import History
from workers.monitoring.overview import OverviewReply
from workers.monitoring.roster import number, text
from workers.monitoring.snapshot import QueueSnapshot, WorkerSnapshot

ENDED = "ended|"
"""Begins the fields that have when a condition was seen to have ended; others have since when one lasts."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A problem of a queue, or of a server (``queue`` None); ``subject`` distinguishes several.

    ``since`` is a Unix second of the server, None if the history lacks it; ``for_seconds`` is None if the
    rule's counts.
    """

    name: str
    queue: str | None
    message: str
    since: float | None = None
    value: float | None = None
    limit: float | None = None
    subject: str = ""
    for_seconds: float | None = None
    has_ended: bool = False
    """Whether it ended with the figures of now.

    The history has a point each ten seconds only, which may not show that, so it is written down.
    """

    @property
    def key(self) -> str:
        """Identifies the condition in every process."""
        return f"{self.name}|{self.queue or ''}|{self.subject}"


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """All that is known of one queue at one moment."""

    queue: QueueSnapshot
    overview: OverviewReply
    history: History
    workers: Sequence[WorkerSnapshot]
    """The processes that live, and serve it."""
    ended: Mapping[str, float] = field(default_factory=dict)
    """By condition: the Unix second at which it was seen to have ended."""

    def ended_at(self, name: str) -> float:
        """Return when a condition of this queue was last seen to have ended; 0 if it was not."""
        return self.ended.get(Condition(name, self.queue.name, "").key, 0.0)


def ended_moments(observed: Mapping[bytes, bytes], now: float) -> dict[str, float]:
    """Return by condition the Unix second at which it was seen to have ended; a time ahead does not count."""
    moments = {text(field): (number(at) or 0.0) / 1000 for field, at in observed.items()}
    return {
        field.removeprefix(ENDED): at
        for field, at in moments.items()
        if field.startswith(ENDED) and at <= now
    }
