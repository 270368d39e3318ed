"""The state of a process, concluded from its presence, its connection and its leases."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.monitoring.roster import (
    Evidence,
    Lease,
    lost_workers,
    read_leases,
    roster,
    to_be_asked,
    with_channel,
)
from workers.monitoring.snapshot import DrainSnapshot, HeldJobs, WorkerSnapshot

NOW = 1_800_000_000.0
HOUR = 3600.0
LEASE = Lease("w", NOW - 1)


def body(**fields: Any) -> bytes:
    about = {"host": "box", "pid": 7, "version": "1", "queues": ["a"], "draining": False, "forget": 65}
    return json.dumps(about | fields).encode()


def found(
    *,
    at: float | None = 1.0,
    beat: float | None = None,
    leases: int = 0,
    connected: bool | None = None,
    note: bytes | None = None,
    asked: float | None = None,
    **fields: Any,
) -> WorkerSnapshot | None:
    """One process; ``at`` and ``beat`` are ages in seconds, below 0 ahead of the server's clock."""
    words = {b"w": body(**fields)}
    if at is not None:
        words[b"at:w"] = f"{(NOW - at) * 1000:.0f}".encode()
    if note is not None:
        words[b"blocked:w"] = note
    if asked is not None:
        words[b"asked:w"] = f"{(NOW - asked) * 1000:.0f}".encode()
    beats = {} if beat is None else {b"w": (NOW - beat) * 1000}
    evidence = Evidence(words, beats, NOW, {} if connected is None else {"w": connected})
    workers = roster(evidence, [LEASE] * leases)
    return workers[0] if workers else None


@pytest.mark.parametrize(
    ("evidence", "state"),
    [
        ({"at": 30}, "running"),
        ({"at": 66}, None),  # an older version, which has no channel
        ({"at": 30, "connected": True}, "running"),
        ({"at": 30, "connected": False}, None),
        ({"at": 2, "connected": False}, "running"),  # it may be reconnecting
        ({"at": 9, "channel": None}, "running"),  # it has started, and not subscribed yet
        ({"at": 11, "channel": None}, None),  # it was killed before it had
        ({"at": 9, "channel": None, "connected": False}, "running"),
        ({"at": 11, "channel": None, "connected": False}, None),
        ({"at": 11, "channel": None, "connected": True}, "running"),  # it was frozen before it said so
        ({"at": 11, "channel": None, "beat": 1, "leases": 1}, "running"),
        ({"at": 30, "channel": False}, "running"),  # a server that counts no subscribers
        ({"at": 66, "connected": True}, None),  # its host vanished, and the connection stands half open
        ({"at": 30, "beat": 1, "leases": 2, "connected": True}, "running"),
        ({"at": 30, "beat": 11, "leases": 2, "connected": True}, "dead"),  # frozen
        ({"at": 1, "beat": 11, "leases": 2, "connected": True}, "dead"),
        ({"at": 30, "beat": 4, "leases": 2, "connected": False}, "dead"),  # killed
        ({"at": 30, "beat": 2, "leases": 2, "connected": False}, "running"),
        ({"at": 30, "leases": 1}, "dead"),
        ({"at": 30, "draining": True}, "draining"),
        ({"at": 30, "standby": ["a"]}, "standby"),
        ({"at": 30, "standby": ["a"], "queues": ["a", "b"]}, "running"),
        ({"at": 30, "note": b"1 {}"}, "blocked"),
        ({"at": 30, "asked": 6, "connected": True}, "blocked"),  # frozen
        ({"at": 30, "asked": 4, "connected": True}, "running"),  # the answer may be on its way
        ({"at": 30, "asked": 6, "beat": 5, "connected": True}, "running"),  # it has answered
        ({"at": 5, "asked": 6, "connected": True}, "running"),
        ({"at": 30, "asked": 6, "connected": False}, None),
        ({"at": 30, "asked": 6}, "running"),  # a server that counts no subscribers
    ],
)
def test_the_state_of_a_process_follows_from_the_evidence(
    evidence: dict[str, Any], state: str | None
) -> None:
    worker = found(**evidence)
    assert (worker and worker.state) == state


@pytest.mark.parametrize("evidence", [{"at": -HOUR}, {"at": None, "beat": -HOUR}, {"at": 70, "beat": -HOUR}])
def test_an_instant_ahead_of_the_servers_clock_makes_no_process_live(evidence: dict[str, Any]) -> None:
    assert found(**evidence) is None
    assert found(**evidence, connected=False) is None
    dead = found(**evidence, connected=False, leases=3)
    assert dead is not None
    assert (dead.state, dead.in_flight) == ("dead", 3)


@pytest.mark.parametrize("evidence", [{"at": -HOUR}, {"at": -HOUR, "beat": -HOUR, "leases": 1}])
def test_a_clock_that_is_set_back_hides_no_connected_process(evidence: dict[str, Any]) -> None:
    worker = found(**evidence, connected=True)
    assert worker is not None
    assert (worker.state, worker.last_beat_age) == ("running", None)


@pytest.mark.parametrize("leases", [0, 2])
def test_right_after_an_outage_a_late_process_is_not_dead(leases: int) -> None:
    words, beats = {b"w": body(), b"at:w": f"{(NOW - 30) * 1000:.0f}".encode()}, {b"w": (NOW - 20) * 1000}
    for recovering in (True, False):
        workers = roster(Evidence(words, beats, NOW, {"w": False}, recovering), [LEASE] * leases)
        assert [worker.state for worker in workers if worker.alive] == ["running"] * recovering


@pytest.mark.parametrize("leases", [0, 2])
@pytest.mark.parametrize("connected", [True, False])
def test_while_redis_takes_no_writes_a_connected_process_lives_and_another_one_does_not(
    leases: int, connected: bool
) -> None:
    words, beats = {b"w": body(), b"at:w": f"{(NOW - 900) * 1000:.0f}".encode()}, {b"w": (NOW - 890) * 1000}
    evidence = Evidence(words, beats, NOW, {"w": connected}, unwritable=True)
    workers = roster(evidence, [LEASE] * leases)
    assert [worker.state for worker in workers if worker.alive] == ["running"] * connected


def test_a_process_that_was_declared_dead_is_gone_until_it_speaks_again() -> None:
    def worker(beat: float | None) -> WorkerSnapshot | None:
        words = {b"w": body(channel=True), b"at:w": f"-{(NOW - 20) * 1000:.0f}".encode()}
        beats = {} if beat is None else {b"w": (NOW - beat) * 1000}
        workers = roster(Evidence(words, beats, NOW, {"w": True}), [])
        return workers[0] if workers else None

    assert worker(None) is None
    assert worker(1) is not None


def test_a_holder_without_a_presence_is_listed_once_it_is_dead() -> None:
    dead = roster(Evidence({}, {}, NOW), [LEASE, LEASE])
    assert [(worker.id, worker.host, worker.state, worker.in_flight) for worker in dead] == [
        ("w", "unknown", "dead", 2)
    ]
    assert roster(Evidence({}, {b"w": NOW * 1000}, NOW), [LEASE]) == ()


def test_a_blocked_process_has_its_place_in_the_code_and_the_time() -> None:
    note = f"{(NOW - 12) * 1000:.0f} ".encode() + json.dumps({"where": "handler shop:f, shop.py:3"}).encode()
    worker = found(note=note)
    assert worker is not None
    assert (worker.blocked_where, worker.blocked_for) == ("handler shop:f, shop.py:3", 12.0)
    assert not worker.alive


def test_a_process_that_is_quiet_is_asked_once_for_a_sign_of_life() -> None:
    def asks(at: float, asked: float | None = None, *, answers: bool = True) -> bool:
        words = {b"w": body(answers=answers), b"at:w": f"{(NOW - at) * 1000:.0f}".encode()}
        if asked is not None:
            words[b"asked:w"] = f"{(NOW - asked) * 1000:.0f}".encode()
        return to_be_asked(words, {}, NOW) == ["w"]

    assert asks(10)
    assert not asks(5), "its presence is new"
    assert not asks(10, 3), "it was asked, and has not answered"
    assert asks(10, 20), "it has answered since"
    assert not asks(10, answers=False), "a process of a version that does not answer"


def test_a_process_that_is_gone_without_a_word_is_lost_if_it_held_nothing() -> None:
    def lost(at: float, leases: int = 0, *, connected: bool = False, **options: Any) -> list[bool]:
        words = {b"w": body(release="v7"), b"at:w": f"{(NOW - at) * 1000:.0f}".encode()}
        evidence = Evidence(words, {}, NOW, {"w": connected}, **options)
        found = lost_workers(evidence, [LEASE] * leases)
        assert all((one.id, one.host, one.pid, one.release) == ("w", "box", 7, "v7") for one in found)
        return [one.connected for one in found]

    assert lost(4) == [False]
    assert lost(2) == [], "it may be reconnecting"
    assert lost(30, connected=True) == []
    assert lost(66, connected=True) == [True], "frozen, or its host has vanished"
    assert lost(30, leases=1) == [], "its jobs are recovered, which is the event"
    assert lost(2e9) == [], "declared dead by others"
    assert lost(30, recovering=True) == lost(30, unwritable=True) == []


_VALUES = st.one_of(
    st.binary(max_size=20),
    st.sampled_from([b"inf", b"-inf", b"nan", b"1e999", b"0", b"-1", body(), body(forget="x"), b"[" * 9999]),
    st.integers(-(10**20), 10**20).map(lambda number: str(number).encode()),
)
_NAMES = st.sampled_from([b"w", b"v", b"at:w", b"at:v", b"blocked:w", b"at:", b":", b"", b"\xff", b"asked:w"])


@given(
    words=st.dictionaries(_NAMES, _VALUES),
    beats=st.dictionaries(_NAMES, st.floats()),
    leases=st.lists(st.binary(max_size=30)),
    connected=st.dictionaries(st.sampled_from(["w", "v", ""]), st.booleans()),
)
def test_any_content_of_redis_is_shown_without_an_error(
    words: dict[bytes, bytes],
    beats: dict[bytes, float],
    leases: list[bytes],
    connected: dict[str, bool],
) -> None:
    held = read_leases([part for lease in leases for part in (b"id", lease)])
    with_channel(words)
    to_be_asked(words, beats, NOW)
    lost_workers(Evidence(words, beats, NOW, connected), held)
    for worker in roster(Evidence(words, beats, NOW, connected), held):
        assert worker.state != "dead" or worker.in_flight > 0
        assert worker.last_beat_age is None or worker.last_beat_age >= 0


def test_a_draining_process_has_its_deadline_as_of_now() -> None:
    drain = {"left": 22.0, "seconds": 30.0, "undoable": True, "by": "anna"}
    worker = found(at=2.0, draining=True, drain=drain)
    assert worker is not None
    assert worker.drain == DrainSnapshot(20.0, undoable=True, by="anna", seconds=30.0)
    older = found(draining=True)  # of a version that publishes none
    assert older is not None
    assert older.drain == DrainSnapshot(None, undoable=False, by=None)
    assert found(drain=drain).drain is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("drain", [1, 2]),
        ("drain", {"left": "soon", "by": 7}),
        ("cpu", "much"),
        ("memory", {"a": 1}),
        ("loop_p99", float("nan")),
        ("unready", [None]),
    ],
)
def test_figures_that_cannot_be_read_hide_no_process(field: str, value: Any) -> None:
    worker = found(draining=True, **{field: value})
    assert worker is not None
    assert worker.state == "draining"


def test_the_newer_figures_count_those_of_the_presence_or_of_a_heartbeat() -> None:
    words = {
        b"w": body(cpu=0.5, memory=100, loop_p99=0.001),
        b"at:w": f"{(NOW - 30) * 1000:.0f}".encode(),
        b"vitals:w": b'{"cpu":0.9,"memory":200,"loop_p99":0.1}',
    }
    for beat, cpu in ((1.0, 0.9), (60.0, 0.5)):
        (worker,) = roster(Evidence(words, {b"w": (NOW - beat) * 1000}, NOW), [])
        assert worker.cpu == cpu
    (worker,) = roster(Evidence(words | {b"vitals:w": b"\xff"}, {b"w": NOW * 1000}, NOW), [])
    assert worker.cpu == 0.5


def test_the_jobs_of_a_process_are_counted_by_queue_the_oldest_first() -> None:
    leases = [Lease("w", NOW - 1, "a"), Lease("w", NOW - 9, "a"), Lease("w", None, "b")]
    (worker,) = roster(Evidence({b"w": body()}, {b"w": NOW * 1000}, NOW), leases)
    assert worker.held == (HeldJobs("a", 2, (9.0, 1.0)), HeldJobs("b", 1))
    (dead,) = roster(Evidence({b"w": body(cpu=0.5)}, {}, NOW), leases)
    assert (dead.state, dead.cpu, dead.settings) == ("dead", None, {})
