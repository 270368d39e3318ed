"""The processes of the cluster and how each is: by its words, its connection and its leases.  Pure.

Presence proves little: a process whose connection is open may be frozen, and one that said a minute ago that
it lives may be gone.  So a process that holds jobs counts as dead once it has missed its heartbeats, and one
whose own channel has no subscriber counts as gone as soon as it is silent.  An instant that lies ahead of the
server's clock proves nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from workers.engine import wire
from workers.engine.blocked import read_where
from workers.engine.policy import HEARTBEAT_SECONDS
from workers.engine.recovery import DEAD_AFTER
from workers.monitoring.snapshot import WorkerSnapshot, WorkerState

_SILENT_SECONDS = DEAD_AFTER + HEARTBEAT_SECONDS
"""A holder that has not beaten for so long is dead: its jobs are given to others, if there are any."""
_UNCONNECTED_SECONDS = 3.0
"""A process whose channel has no subscriber may be reconnecting for so long after its last word."""
_AHEAD_SECONDS = 1.0
"""An instant that is further ahead of the server's clock than this was not written by that clock."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A job in flight: its worker, and the Unix second at which it was taken, None if that is unreadable."""

    worker: str
    taken: float | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What Redis says of the processes.

    ``connected`` has, by worker, whether its channel has a subscriber; a worker whose channel says nothing is
    not in it.  ``beats`` and ``now`` are as in Redis: milliseconds, and Unix seconds.
    """

    found: Mapping[bytes, bytes]
    beats: Mapping[bytes, float]
    now: float
    connected: Mapping[str, bool] = field(default_factory=dict)
    recovering: bool = False
    """Redis was away a moment ago: heartbeats and connections are late, whoever lives."""

    def beat_age(self, worker: str) -> float | None:
        """Seconds since its last heartbeat; None when there is none that counts."""
        return age(number(self.beats.get(worker.encode())), self.now)


def read_leases(flat: Sequence[bytes]) -> list[Lease]:
    """The leases in the reply of `overview.lua`."""
    leases = []
    for value in flat[1::2]:
        worker, _, rest = value.partition(b":")
        taken = number(rest.rpartition(b":")[2])
        leases.append(Lease(text(worker), None if taken is None else taken / 1000))
    return leases


def with_channel(found: Mapping[bytes, bytes]) -> list[str]:
    """The workers whose channel shows whether they are connected: they have found it out themselves."""
    about = {text(key): _about(body) for key, body in found.items() if b":" not in key}
    return [name for name, said in about.items() if said.get("channel") is True]


def roster(evidence: Evidence, leases: Iterable[Lease]) -> tuple[WorkerSnapshot, ...]:
    """Every process that lives, and every one that is gone and holds jobs."""
    held = Counter(lease.worker for lease in leases)
    names = [text(key) for key in evidence.found if b":" not in key]
    names += [name for name in held if name not in names]
    workers = [_worker(name, held[name], evidence) for name in names]
    return tuple(sorted(filter(None, workers), key=lambda worker: (worker.host, worker.pid, worker.id)))


def _worker(name: str, holds: int, evidence: Evidence) -> WorkerSnapshot | None:
    about = _about(evidence.found.get(name.encode(), b""))
    lives = _lives(name, holds, about, evidence)
    if not holds and not (lives and about):
        return None
    if not about and lives:  # it beats, and has not said yet who it is
        return None
    where, since = _blocked(name, evidence)
    return WorkerSnapshot(
        id=name,
        host=about.get("host", "unknown"),
        pid=about.get("pid", 0),
        version=about.get("version", "unknown"),
        queues=about.get("queues", ()),
        in_flight=holds,
        last_beat_age=_word(name, evidence),
        draining=about.get("draining", False),
        state=_state(about, blocked=where is not None) if lives else "dead",
        blocked_where=where,
        blocked_for=since,
    )


def _state(about: Mapping[str, Any], *, blocked: bool) -> WorkerState:
    if blocked:
        return "blocked"
    if about["draining"]:
        return "draining"
    standby = about["queues"] and set(about["queues"]) <= set(about["standby"])
    return "standby" if standby else "running"


def _lives(name: str, holds: int, about: Mapping[str, Any], evidence: Evidence) -> bool:
    forget: float = about.get("forget", _SILENT_SECONDS)
    beat, word = evidence.beat_age(name), _word(name, evidence)
    connected = evidence.connected.get(name)
    if evidence.recovering:
        return word is not None and word <= forget
    if holds and not (beat is not None and beat <= _SILENT_SECONDS):
        ahead = beat is None and name.encode() in evidence.beats
        return ahead and connected is True
    if _declared_dead(name, evidence):
        return beat is not None and beat <= _UNCONNECTED_SECONDS
    if connected is False:
        return word is not None and word <= _UNCONNECTED_SECONDS
    if word is None:
        return connected is True
    return word <= forget


def _declared_dead(name: str, evidence: Evidence) -> bool:
    at = number(evidence.found.get(b"at:" + name.encode()))
    return at is not None and at < 0


def _word(name: str, evidence: Evidence) -> float | None:
    at = number(evidence.found.get(b"at:" + name.encode()))
    ages = [evidence.beat_age(name), age(None if at is None else abs(at), evidence.now)]
    return min((found for found in ages if found is not None), default=None)


def _blocked(name: str, evidence: Evidence) -> tuple[str | None, float | None]:
    note = evidence.found.get(b"blocked:" + name.encode())
    if note is None:
        return None, None
    return read_where(note), age(number(note.partition(b" ")[0]), evidence.now)


def _about(body: bytes) -> dict[str, Any]:
    """What a process said of itself; empty when that cannot be read."""
    try:
        about = wire.load(body)
        return {
            "host": str(about["host"]),
            "pid": int(about["pid"]),
            "version": str(about["version"]),
            "queues": tuple(map(str, about["queues"])),
            "draining": bool(about["draining"]),
            "standby": tuple(map(str, about.get("standby", ()))),
            "channel": about.get("channel", False),
            "forget": float(about["forget"]),
        }
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError, RecursionError):
        return {}


def age(instant_ms: float | None, now: float) -> float | None:
    """Seconds since an instant; None when there is none, or it lies ahead of ``now``."""
    if instant_ms is None or instant_ms / 1000 > now + _AHEAD_SECONDS:
        return None
    return max(0.0, now - instant_ms / 1000)


def text(raw: bytes) -> str:
    """Whatever others wrote, as text."""
    return raw.decode("utf-8", "replace")


def number(value: Any) -> float | None:
    """A finite number; None for whatever else a record of others may hold."""
    try:
        found = float(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return found if math.isfinite(found) else None
