"""What is concluded of a process from its words, its connection and its leases."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.monitoring.roster import Evidence, Lease, read_leases, roster, with_channel
from workers.monitoring.snapshot import WorkerSnapshot

NOW = 1_800_000_000.0
HOUR = 3600.0
LEASE = Lease("w", NOW - 1)


def said(**fields: Any) -> bytes:
    about = {"host": "box", "pid": 7, "version": "1", "queues": ["a"], "draining": False, "forget": 65}
    return json.dumps(about | fields).encode()


def found(
    *,
    at: float | None = 1.0,
    beat: float | None = None,
    leases: int = 0,
    connected: bool | None = None,
    note: bytes | None = None,
    **fields: Any,
) -> WorkerSnapshot | None:
    """One process; ``at`` and ``beat`` are ages in seconds, below 0 ahead of the server's clock."""
    words = {b"w": said(**fields)}
    if at is not None:
        words[b"at:w"] = f"{(NOW - at) * 1000:.0f}".encode()
    if note is not None:
        words[b"blocked:w"] = note
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
    words, beats = {b"w": said(), b"at:w": f"{(NOW - 30) * 1000:.0f}".encode()}, {b"w": (NOW - 20) * 1000}
    for recovering in (True, False):
        workers = roster(Evidence(words, beats, NOW, {"w": False}, recovering), [LEASE] * leases)
        assert [worker.state for worker in workers if worker.alive] == ["running"] * recovering


@pytest.mark.parametrize("leases", [0, 2])
@pytest.mark.parametrize("connected", [True, False])
def test_while_redis_takes_no_writes_a_connected_process_lives_and_another_one_does_not(
    leases: int, connected: bool
) -> None:
    words, beats = {b"w": said(), b"at:w": f"{(NOW - 900) * 1000:.0f}".encode()}, {b"w": (NOW - 890) * 1000}
    evidence = Evidence(words, beats, NOW, {"w": connected}, unwritable=True)
    workers = roster(evidence, [LEASE] * leases)
    assert [worker.state for worker in workers if worker.alive] == ["running"] * connected


def test_a_process_that_was_declared_dead_is_gone_until_it_speaks_again() -> None:
    def worker(beat: float | None) -> WorkerSnapshot | None:
        words = {b"w": said(channel=True), b"at:w": f"-{(NOW - 20) * 1000:.0f}".encode()}
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


_VALUES = st.one_of(
    st.binary(max_size=20),
    st.sampled_from([b"inf", b"-inf", b"nan", b"1e999", b"0", b"-1", said(), said(forget="x"), b"[" * 9999]),
    st.integers(-(10**20), 10**20).map(lambda number: str(number).encode()),
)
_NAMES = st.sampled_from([b"w", b"v", b"at:w", b"at:v", b"blocked:w", b"at:", b":", b"", b"\xff", b"at:\xff"])


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
    for worker in roster(Evidence(words, beats, NOW, connected), held):
        assert worker.state != "dead" or worker.in_flight > 0
        assert worker.last_beat_age is None or worker.last_beat_age >= 0
