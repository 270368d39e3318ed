"""Names of our own keys in Redis.  SAQ's keep their names (``saq:…``)."""

from __future__ import annotations

from dataclasses import dataclass

BEATS = "couturecast:beats"
WORKERS = "couturecast:workers"
LETTERS = "couturecast:letters"
LETTER = "couturecast:letter"
OUTCOMES = "couturecast:outcomes"
RETENTION = "couturecast:retention"
PLAN = "couturecast:plan:"
"""Prefix of the locks of plans."""
CRON = "couturecast:cron"
TOKENS = "couturecast:tokens"
OBSERVED = "couturecast:observed"
ALERTING = "couturecast:alerting"
"""The lock of the process that keeps the life of alerts."""
WAKE_CHANNEL = "couturecast:nudge"
"""Channel: a queue's name wakes its dispatchers; ``name held``: a worker began to hold its jobs."""

PROCESS = "couturecast:process:"
"""Prefix of the channels, one a process: a process that is subscribed to its own is connected."""
ASK_MESSAGE = b"alive"
"""On the channel of a process: it requests a sign of life."""
DRAINED = "couturecast:drained:"
"""Prefix of what drained processes leave for ten minutes: how many jobs they returned to their queues."""

REPLY = "couturecast:reply:"
"""Prefix of the channels on which a process answers a request."""


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """The keys of one queue, SAQ's and ours, as the scripts name them."""

    queued: str
    active: str
    incomplete: str
    leases: str
    starts: str
    pause: str
    looks: str
    token: str
    completed: str
    failed: str
    totals: str
    history: str
    """Prefix of the keys of its history: see history.lua."""
    turns: str
    aside: str
    """Prefix of the names under which keys of another type are kept."""

    @classmethod
    def of(cls, queue: str) -> QueueKeys:
        """Return the keys of the queue of that name."""
        saq, own = f"saq:{queue}:", f"couturecast:{queue}:"
        return cls(
            queued=f"{saq}queued",
            active=f"{saq}active",
            incomplete=f"{saq}incomplete",
            leases=f"{own}leases",
            starts=f"{own}starts",
            pause=f"{own}pause",
            looks=f"{own}looks",
            token=f"{own}token",
            completed=f"{own}completed",
            failed=f"{own}failed",
            totals=f"{own}totals",
            history=f"{own}history:",
            turns=f"{own}turns",
            aside=f"{own}aside:",
        )
