"""The values that pass between a queue and its dispatcher: jobs that were taken, and their settlements."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from storage.redis.scripts import Argument
from workers.engine.histogram import bucket
from workers.engine.wire import encode_id


class LeasedJob(NamedTuple):
    """A job as it was taken: its SAQ id, our lease on it, and its body (empty if its data is gone)."""

    id: str
    lease: bytes
    body: bytes


def parse_lease(lease: bytes) -> tuple[bytes, bytes]:
    """Return the worker of a lease, and the server's time in ms at which the job was taken.

    A lease is ``worker:token:taken_ms``.  Parts that another program left out are empty.
    """
    worker, _, rest = lease.partition(b":")
    return worker, rest.rpartition(b":")[2]


@dataclass(frozen=True, slots=True)
class TakeResult:
    """The result of a take.

    ``state`` is why there are no (more) jobs: taken, empty, paused, busy, full, limited, standby or again.
    ``wait`` is seconds until a scheduled job is due or the rate limit allows a start, None if neither is
    known.  ``others_leases`` and ``own_leases`` count the leases of other workers and those that this one
    held before.  ``now`` is the server's time.
    """

    state: str
    wait: float | None
    others_leases: int
    own_leases: int
    now: float
    depth: int
    jobs: list[LeasedJob]


class LetterPayload(StrEnum):
    """The place of a dead letter's job: `outcome.shrink` goes from one to the next if Redis refuses it."""

    INLINE = ""
    """In the letter's JSON."""
    BODY_FOLLOWS = "body"
    """The server appends the settlement's body, so that a large job is sent once."""
    AS_STORED = "stored"
    """The server appends the job's record as it is stored there: nothing of it is sent."""


@dataclass(slots=True)
class Settlement:
    """How one job ends, or an update of its record.

    ``verb`` is one of: complete, retry (after ``delay`` seconds), bury (with ``letter``), abort (requested by
    SAQ under ``abort_key``), return (to the head of the queue), update (it stays in flight).
    ``replay_outcome`` is what the outcomes list gets when a replayed job completes or is aborted.
    ``wait_seconds`` and ``run_seconds`` go into the histograms.  ``lost``: the attempt's worker has died.
    """

    id: str
    lease: bytes
    verb: str
    body: bytes
    delay: float = 0.0
    letter_uid: str = ""
    letter: bytes = b""
    letter_payload: LetterPayload = LetterPayload.INLINE
    abort_key: str = ""
    replay_outcome: bytes = b""
    wait_seconds: float | None = None
    run_seconds: float | None = None
    lost: bool = False
    interrupted: bool = False
    """Its attempt had begun: a drain interrupted it, or another job that ended its process."""
    resent: bool = False
    """It was sent before over a connection that broke, and Redis may have done it already."""

    def size(self) -> int:
        """Return the bytes that it takes in a request, at least."""
        return len(self.id) + len(self.lease) + len(self.body) + len(self.letter)

    def to_argv(self) -> tuple[Argument, ...]:
        """Return the arguments of settle.lua: `SETTLEMENT_FIELDS`, then the `VERB_FIELDS` of its verb."""
        return (
            encode_id(self.id),
            self.lease,
            self.verb,
            self.body,
            "" if (wait := self.wait_seconds) is None else bucket(wait),
            "" if wait is None else round(wait * 1e6),
            "" if (run := self.run_seconds) is None else bucket(run),
            "" if run is None else round(run * 1e6),
            *(self._own_argv() if self.verb != "complete" else (self.replay_outcome,)),
        )

    def _own_argv(self) -> tuple[Argument, ...]:
        lost = "1" if self.lost else ""
        match self.verb:
            case "retry":
                return (round(self.delay * 1000),)
            case "bury":
                return lost, self.letter_uid, self.letter, self.letter_payload
            case "abort":
                return self.replay_outcome, self.abort_key
            case "return":
                return (lost,)
        return ()


SETTLEMENT_FIELDS = ("id", "lease", "verb", "body", "wait", "wait_us", "run", "run_us")
"""The arguments of one job, as settle.lua names them; empty if there is no such time."""

VERB_FIELDS = {
    "complete": ("outcome",),
    "retry": ("delay_ms",),
    "bury": ("lost", "letter_uid", "letter", "payload"),
    "abort": ("outcome", "abort_key"),
    "return": ("lost",),
    "update": (),
}
"""The further arguments of a job, by its verb."""
