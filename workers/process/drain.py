"""The drain of a process: whether one is under way, until when, and whether it can be undone.

Other processes request it in Redis.  The process reads the newest request whenever it publishes its presence,
and a message on its channel has it publish at once.  A message that is lost in a reconnect costs time only.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from redis.asyncio import Redis

from storage.redis.client import execute
from workers.engine import wire
from workers.engine.keys import DRAINED

DrainVerb = Literal["drain", "put back", "undo"]

CHECK_MESSAGE = b"drain"
"""On the channel of a process: a request waits for it."""
_MAX_NAME_CHARS = 200
_MAX_REQUESTS = 100
"""Whose ids are remembered: any program may write requests."""
_KEEP_RESULT_SECONDS = 600
"""Seconds for which Redis keeps the number of jobs that a drain returned to their queues."""


@dataclass(frozen=True, slots=True)
class DrainRequest:
    """A process is to drain, return its jobs now, or take jobs again.  ``id`` distinguishes requests."""

    id: str
    verb: DrainVerb
    actor: str

    def body(self) -> bytes:
        """Return its form in Redis."""
        return wire.dump({"id": self.id, "verb": self.verb, "actor": self.actor})

    @classmethod
    def parse(cls, body: Any) -> DrainRequest | None:
        """Return a request that Redis holds; None if it cannot be read, since any program may write there."""
        try:
            fields = wire.load(body)
            verb = fields["verb"]
            if verb not in get_args(DrainVerb):
                return None
            return cls(str(fields["id"]), verb, str(fields["actor"])[:_MAX_NAME_CHARS])
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return None


class DrainRequests:
    """Carries out each request once, however often it is read, and from however many Redises."""

    def __init__(self, carry_out: Callable[[DrainRequest], None]) -> None:
        self._carry_out = carry_out
        self._seen: deque[str] = deque(maxlen=_MAX_REQUESTS)
        """The ids of requests; one that a Redis kept during its outage may come after newer ones."""

    def on_request(self, body: bytes) -> None:
        """Take what Redis holds."""
        request = DrainRequest.parse(body)
        if request is not None and request.id not in self._seen:
            self._seen.append(request.id)
            self._carry_out(request)


async def leave_result(redis: Redis, worker_id: str, drain: Drain, returned: int) -> None:
    """Store for a while how many jobs were returned, for the operator who began the drain.

    Raises RedisError.
    """
    if drain.by is not None:
        await execute(redis, "SET", f"{DRAINED}{worker_id}", returned, "EX", _KEEP_RESULT_SECONDS)


class Drain:
    """The state of the drain; ``seconds`` is how long the jobs in flight have."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.by: str | None = None
        """The operator who began it; None if that is not known."""
        self.begun = asyncio.Event()
        self.is_over = False
        """It has come to its end: the jobs that are left are requeued."""
        self.requeues = False
        self._can_undo = False
        self._began_at: float | None = None
        self._changed = asyncio.Event()

    @property
    def under_way(self) -> bool:
        """Whether it has begun, and was not undone."""
        return self._began_at is not None

    @property
    def can_undo(self) -> bool:
        """Whether the process could take jobs again."""
        return self.under_way and self._can_undo and not (self.is_over or self.requeues)

    @property
    def seconds_left(self) -> float | None:
        """Seconds for the jobs in flight; None unless it is under way."""
        if self._began_at is None:
            return None
        return max(0.0, self._began_at + self.seconds - time.monotonic())

    @property
    def has_passed(self) -> bool:
        """Whether nothing is waited for any longer."""
        return self.under_way and (self.requeues or self.seconds_left == 0.0)

    def describe(self) -> dict[str, object]:
        """Return the facts that other processes read."""
        drain = {"left": self.seconds_left, "seconds": self.seconds, "undoable": self.can_undo, "by": self.by}
        return {"draining": self.under_way, "drain": drain if self.under_way else None}

    def begin(self, *, undoable: bool, by: str | None) -> bool:
        """Begin; False if it has begun before.  One that a supervisor requests, too, cannot be undone."""
        if self._began_at is not None:
            self._can_undo = self._can_undo and undoable
            return False
        self._began_at, self._can_undo, self.by = time.monotonic(), undoable, by
        self.begun.set()
        return True

    def requeue(self) -> None:
        """Wait for the jobs in flight no longer."""
        self.requeues = True
        self._changed.set()

    def undo(self) -> bool:
        """End it, if it can be undone."""
        if not self.can_undo:
            return False
        self._began_at, self.by = None, None
        self.begun.clear()
        self._changed.set()
        return True

    async def wait_changed(self) -> None:
        """Wait until it is undone, or the jobs in flight are requeued."""
        await self._changed.wait()
        if not self.requeues:
            self._changed.clear()
