"""The processes of the cluster with their states, by presence, connection and leases.  Pure.

Presence proves little: a process whose connection is open may be frozen, and one that published its presence
a minute ago may have died.  So a process that holds jobs counts as dead once it has missed its heartbeats.  A
process whose own channel has no subscriber counts as ended as soon as it is silent.  A time ahead of the
server's clock proves nothing.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from workers.engine import wire
from workers.engine.blocked import read_where
from workers.engine.policy import TIMINGS
from workers.engine.settlement import parse_lease
from workers.monitoring.snapshot import (
    DrainSnapshot,
    HeldJobs,
    LostWorker,
    WorkerSnapshot,
    WorkerState,
)

_SILENT_SECONDS = TIMINGS.dead_after_seconds + TIMINGS.heartbeat_seconds
"""A holder whose last heartbeat is older is dead: its jobs are given to others, if there are any."""
_UNCONNECTED_SECONDS = 3.0
"""How long a process whose channel has no subscriber may be reconnecting after its last sign of life."""
_CONNECTING_SECONDS = 10.0
"""A process that has not subscribed to its channel since it started does so within this, or is gone."""
_QUIET_SHARE = 1 / 8
"""Share of the time for which a presence counts: after longer silence a sign of life is requested."""
_ANSWER_SECONDS = 5.0
"""A process that has not answered for longer is blocked or frozen: as long as a loop may be blocked."""
_UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, OverflowError, RecursionError)
"""Errors that the record of another program may raise when it is read."""
_MAX_KEPT = 1_000
"""Presences that are remembered, at most; one has about a kilobyte."""
_MAX_KEPT_BYTES = 4_096
"""A larger one was written by another program."""
_AHEAD_SECONDS = 1.0
"""An instant that is further ahead of the server's clock than this was not written by that clock."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A job in flight: its worker, and the Unix second at which it was taken, None if that is unreadable."""

    worker: str
    taken: float | None
    queue: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The records of the processes in Redis.

    ``connected`` has, by worker, whether its channel has a subscriber; a worker whose channel proves nothing
    is not in it.  ``beats`` and ``now`` are as in Redis: milliseconds, and Unix seconds.
    """

    records: Mapping[bytes, bytes]
    beats: Mapping[bytes, float]
    now: float
    connected: Mapping[str, bool] = field(default_factory=dict)
    recovering: bool = False
    """Redis was down a moment ago: heartbeats and connections of living processes are late, too."""
    unwritable: bool = False
    """Redis takes no writes, or did not a moment ago: no living process can show that it lives but by its
    connection."""

    def asked_for(self, worker: str) -> float | None:
        """Return the seconds since it was asked for a sign of life that is missing; None if none is."""
        asked_age = age(number(self.records.get(b"asked:" + worker.encode())), self.now)
        sign = _last_sign(worker, self)
        return asked_age if asked_age is not None and (sign is None or asked_age < sign) else None

    def beat_age(self, worker: str) -> float | None:
        """Return the seconds since its last heartbeat; None if none of its heartbeats counts."""
        return age(number(self.beats.get(worker.encode())), self.now)


def read_leases(flat: Sequence[bytes], queue: str = "") -> list[Lease]:
    """Return the leases of a queue in the reply of `overview.lua`."""
    leases = []
    for value in flat[1::2]:
        worker, taken = parse_lease(value)
        taken_ms = number(taken)
        leases.append(Lease(text(worker), None if taken_ms is None else taken_ms / 1000, queue))
    return leases


def with_channel(records: Mapping[bytes, bytes]) -> list[str]:
    """Return the workers that have a channel, or will have one.

    They have published themselves a moment ago.
    """
    presences = {text(key): _parse_presence(body) for key, body in records.items() if b":" not in key}
    return [name for name, presence in presences.items() if presence.get("channel", False) is not False]


def to_be_asked(records: Mapping[bytes, bytes], beats: Mapping[bytes, float], now: float) -> list[str]:
    """Return the workers that are silent for a while and have not been asked for a sign of life since."""
    evidence = Evidence(records, beats, now)
    quiet = []
    for key, body in records.items():
        name, presence = text(key), _parse_presence(body) if b":" not in key else {}
        if presence.get("answers") and evidence.asked_for(name) is None:
            sign = _last_sign(name, evidence)
            if sign is not None and sign > presence["forget"] * _QUIET_SHARE:
                quiet.append(name)
    return quiet


def lost_workers(evidence: Evidence, leases: Iterable[Lease]) -> tuple[LostWorker, ...]:
    """Return the processes that ended without a drain and hold nothing; recovery reports the others."""
    if evidence.recovering or evidence.unwritable:
        return ()
    holders = {lease.worker for lease in leases}
    lost = []
    for key in evidence.records:
        name = text(key)
        presence = _parse_presence(evidence.records[key]) if b":" not in key else {}
        if not presence or name in holders or _declared_dead(name, evidence):
            continue
        if not _is_alive(name, 0, presence, evidence):
            silent, connected = _last_sign(name, evidence), evidence.connected.get(name) is True
            host, pid, release = presence["host"], presence["pid"], presence["release"]
            lost.append(LostWorker(name, host, pid, release, silent, connected))
    return tuple(lost)


def read_drain(body: bytes) -> DrainSnapshot | None:
    """Return the drain in a presence that a process published; None if it does not drain."""
    drain: DrainSnapshot | None = _parse_presence(body).get("drain")
    return drain


def roster(evidence: Evidence, leases: Iterable[Lease]) -> tuple[WorkerSnapshot, ...]:
    """Return every process that lives, and every one that has died with jobs."""
    leased: defaultdict[str, list[Lease]] = defaultdict(list)
    for lease in leases:
        leased[lease.worker].append(lease)
    names = [text(key) for key in evidence.records if b":" not in key]
    names += [name for name in leased if name not in names]
    workers = [_worker(name, leased.get(name, []), evidence) for name in names]
    return tuple(sorted(filter(None, workers), key=lambda worker: (worker.host, worker.pid, worker.id)))


def _worker(name: str, leases: Sequence[Lease], evidence: Evidence) -> WorkerSnapshot | None:
    holds = len(leases)
    presence = _parse_presence(evidence.records.get(name.encode(), b""))
    lives = _is_alive(name, holds, presence, evidence)
    if not holds and not (lives and presence):
        return None
    if not presence and lives:  # it sends heartbeats, and has not published its presence yet
        return None
    where, since = _read_blocked(name, evidence)
    asked_for = evidence.asked_for(name) if evidence.connected.get(name) and not evidence.recovering else None
    if where is None and asked_for is not None and asked_for > _ANSWER_SECONDS:
        since = asked_for
    return WorkerSnapshot(
        id=name,
        host=presence.get("host", "unknown"),
        pid=presence.get("pid", 0),
        version=presence.get("version", "unknown"),
        release=presence.get("release"),
        queues=presence.get("queues", ()),
        standby=presence.get("standby", ()),
        in_flight=holds,
        last_beat_age=_last_sign(name, evidence),
        draining=presence.get("draining", False),
        state=_state(presence, blocked=since is not None or where is not None) if lives else "dead",
        asked_for=asked_for,
        blocked_where=where,
        blocked_for=since,
        up_for=age(number(evidence.records.get(b"since:" + name.encode())), evidence.now),
        held=_held_by_queue(leases, evidence.now),
        **(_own_figures(name, presence, evidence) if lives else {}),
    )


def _held_by_queue(leases: Sequence[Lease], now: float) -> tuple[HeldJobs, ...]:
    by_queue: defaultdict[str, list[Lease]] = defaultdict(list)
    for lease in leases:
        by_queue[lease.queue].append(lease)
    return tuple(HeldJobs(queue, len(held), _ages(held, now)) for queue, held in by_queue.items())


def _ages(leases: Sequence[Lease], now: float) -> tuple[float, ...]:
    ages = [age(lease.taken and lease.taken * 1000, now) for lease in leases]
    return tuple(sorted((seconds for seconds in ages if seconds is not None), reverse=True))


def _own_figures(name: str, presence: Mapping[str, Any], evidence: Evidence) -> dict[str, Any]:
    """Return what a process measured of itself: with its presence, or with a later heartbeat."""
    published = age(number(evidence.records.get(b"at:" + name.encode())), evidence.now)
    beat, vitals = evidence.beat_age(name), presence.get("vitals", {})
    if beat is not None and (published is None or beat < published):
        vitals = _parse_vitals(evidence.records.get(b"vitals:" + name.encode(), b"")) or vitals
    drain = presence.get("drain")
    if drain is not None and drain.left is not None and published is not None:
        drain = replace(drain, left=max(0.0, drain.left - published))
    return {
        **vitals,
        "drain": drain,
        "unready": presence.get("unready", ()),
        "handler_problems": presence.get("handler_problems", {}),
        "settings": presence.get("settings", {}),
    }


def _state(presence: Mapping[str, Any], *, blocked: bool) -> WorkerState:
    if blocked:
        return "blocked"
    if presence["draining"]:
        return "draining"
    standby = presence["queues"] and set(presence["queues"]) <= set(presence["standby"])
    return "standby" if standby else "running"


def _is_alive(name: str, holds: int, presence: Mapping[str, Any], evidence: Evidence) -> bool:
    """Return whether a process lives, by the strongest evidence that there is.

    An outage counts first, then the heartbeats that leases require, then that others declared the process
    dead, then its connection.
    """
    forget: float = presence.get("forget", _SILENT_SECONDS)
    beat, sign = evidence.beat_age(name), _last_sign(name, evidence)
    connected = evidence.connected.get(name)
    known_recently = sign is not None and sign <= forget
    if evidence.recovering:
        return known_recently
    if evidence.unwritable and not _declared_dead(name, evidence):
        return connected is True or known_recently
    if holds and not (beat is not None and beat <= _SILENT_SECONDS):
        # A heartbeat ahead of the server's clock proves nothing; the connection does.
        is_ahead = beat is None and name.encode() in evidence.beats
        return is_ahead and connected is True
    if _declared_dead(name, evidence):
        return beat is not None and beat <= _UNCONNECTED_SECONDS
    if sign is None:
        return connected is True
    if connected is not True and presence and presence["channel"] is None:
        return sign <= min(forget, _CONNECTING_SECONDS)
    return sign <= (_UNCONNECTED_SECONDS if connected is False else forget)


def _declared_dead(name: str, evidence: Evidence) -> bool:
    at = number(evidence.records.get(b"at:" + name.encode()))
    return at is not None and at < 0


def _last_sign(name: str, evidence: Evidence) -> float | None:
    at = number(evidence.records.get(b"at:" + name.encode()))
    ages = [evidence.beat_age(name), age(None if at is None else abs(at), evidence.now)]
    return min((seconds for seconds in ages if seconds is not None), default=None)


def _read_blocked(name: str, evidence: Evidence) -> tuple[str | None, float | None]:
    note = evidence.records.get(b"blocked:" + name.encode())
    if note is None:
        return None, None
    return read_where(note), age(number(note.partition(b" ")[0]), evidence.now)


def _parse_presence(body: bytes) -> dict[str, Any]:
    """Return the presence that a process published; empty if that cannot be read."""
    return _parse_own_presence(body) if len(body) <= _MAX_KEPT_BYTES else _parse_any_presence(body)


@lru_cache(maxsize=_MAX_KEPT)
def _parse_own_presence(body: bytes) -> dict[str, Any]:
    """Return the same, remembered: a reading needs it four times, and it stays as it is for many readings."""
    return _parse_any_presence(body)


def _parse_any_presence(body: bytes) -> dict[str, Any]:
    try:
        presence = wire.load(body)
        return {
            "host": str(presence["host"]),
            "pid": int(presence["pid"]),
            "version": str(presence["version"]),
            "release": None if presence.get("release") is None else str(presence["release"]),
            "queues": tuple(map(str, presence["queues"])),
            "draining": bool(presence["draining"]),
            "standby": tuple(map(str, presence.get("standby", ()))),
            "channel": presence.get("channel", False),
            "answers": presence.get("answers") is True,
            "forget": float(presence["forget"]),
            "vitals": _vitals(presence),
            "drain": _drain(presence.get("drain")) if presence["draining"] else None,
            "unready": tuple(map(str, presence.get("unready", ()))),
            "handler_problems": {
                str(queue): str(problem) for queue, problem in presence.get("handler_problems", {}).items()
            },
            "settings": {str(name): dict(value) for name, value in presence.get("settings", {}).items()},
        }
    except _UNREADABLE:
        return {}


def _parse_vitals(body: bytes) -> dict[str, Any]:
    try:
        return _vitals(wire.load(body))
    except _UNREADABLE:
        return {}


def _vitals(fields: Mapping[str, Any]) -> dict[str, Any]:
    cpu, memory, lag = (number(fields.get(name)) for name in ("cpu", "memory", "loop_p99"))
    return {"cpu": cpu, "memory": None if memory is None else int(memory), "loop_p99": lag}


def _drain(fields: Any) -> DrainSnapshot:
    """Return a drain as a process publishes it; nothing is known of that of an older version."""
    if not isinstance(fields, dict):
        return DrainSnapshot(None, undoable=False, by=None)
    by = fields.get("by")
    left, seconds = number(fields.get("left")), number(fields.get("seconds"))
    return DrainSnapshot(left, fields.get("undoable") is True, by and str(by), seconds)


def age(instant_ms: float | None, now: float) -> float | None:
    """Return the seconds since an instant; None if it is unknown, or lies ahead of ``now``."""
    if instant_ms is None or instant_ms / 1000 > now + _AHEAD_SECONDS:
        return None
    return max(0.0, now - instant_ms / 1000)


def text(raw: bytes) -> str:
    """Read bytes that others wrote, as text."""
    return raw.decode("utf-8", "replace")


def number(value: Any) -> float | None:
    """Return a finite number; None for anything else that a record of others may hold."""
    try:
        parsed = float(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return parsed if math.isfinite(parsed) else None
