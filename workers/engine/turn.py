"""A turn of a dispatcher: one round trip that settles jobs which ended and takes others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from storage.redis.pipeline import Replies
from storage.redis.scripts import ScriptCall
from workers.engine.settlement import Settlement

_LONG_RUN_SECONDS = 0.0002
"""For each slot: jobs that run for longer leave time for smaller turns, and then wait less for each other.

Jobs that do nothing take less than this too, though each waits for the others of its turn.
"""


@dataclass(slots=True, eq=False)
class Turn:
    """A turn that is under way."""

    batch: list[Settlement]
    slots: int
    """Jobs that it may take."""
    began: float
    """Monotonic time."""
    calls: list[ScriptCall]
    replies: Replies

    @property
    def broke(self) -> bool:
        """Whether its connection broke before its replies had arrived."""
        return self.replies.done() and self.replies.exception() is not None

    def remaining_settlements(self, *, resent: bool) -> list[Settlement]:
        """Return what is left to settle after this turn failed; ``resent``: Redis may have done it."""
        for settlement in self.batch:
            settlement.resent = settlement.resent or resent
        return self.batch


def count_unsettled(settlements: Sequence[Settlement]) -> int:
    """Return how many of ``settlements`` end a job's time in flight."""
    return sum(settlement.verb != "update" for settlement in settlements)


def max_slots(concurrency: int, run_seconds: float = 0.0) -> int:
    """Return the most jobs of one turn: half of the slots, a quarter if jobs run long."""
    return math.ceil(concurrency / (4 if run_seconds > _LONG_RUN_SECONDS * concurrency else 2))
