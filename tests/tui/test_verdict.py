"""How a queue is, in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fake_moments import NASTY, NOW, queue
from tui.text.format import local_time
from tui.text.verdict import SIGNS, prognosis, queue_verdict
from workers.engine.history import History, Point
from workers.engine.policy import DEFAULT_POLICIES
from workers.monitoring.overview import OverviewReply, queue_snapshot
from workers.monitoring.snapshot import Alert, Pause, QueueSnapshot

STALLED = "stalled: 10 of 10 run for 31 s, usually 1.1 s"
DEAD, HELD = {"held_by_dead": 2, "recover_in": 3.0}, "2 held by a dead worker, run again in 3 s"
BROKEN = "saq:a:queued of another type: kept aside and repaired within a minute"
PAUSED = "paused 12 min ago by ops@box-2: model rollout"


def falling(depth: int, a_minute: int, **fields: Any) -> QueueSnapshot:
    """A queue whose depth changes by so many jobs a minute."""
    depths = tuple(depth + round(a_minute * ago / 60) for ago in range(60, 0, -10))
    return queue("weather-ingestion", **({"depth": depth, "recent_depths": depths} | fields))


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (falling(120, 30), "clears in 4 min"),
        (falling(120, 120), "clears in 1 min"),
        (falling(9_000, 300), "clears in 30 min"),
        (falling(120, -12), "growing by 12 a minute"),
        (falling(120, 0), ""),
        (falling(120, 1), ""),  # within the noise
        (falling(5, -2), ""),  # a queue with so few jobs does not grow
        (falling(3, 60), ""),  # gone in a moment
        (falling(0, 60), ""),
        (falling(120, 30, next_start_in=3.0), "waits for its rate limit, clears in 4 min"),
        (falling(120, 0, next_start_in=3.0), "waits for its rate limit"),
        (falling(120, 0, rate_used=59), "waits for its rate limit"),  # the free slot is taken in a moment
        (falling(120, 0, rate_used=59, in_flight=10), ""),
        (falling(120, 0, rate_used=58), ""),
        (falling(9, 27, next_start_in=21.0), "waits for its rate limit"),  # not in 20 s: none starts before
        (falling(120, 0, recent_depths=()), ""),
        (
            falling(140, 0, recent_depths=(0, 128, 131, 133, 135, 138)),
            "growing by 15 a minute",
        ),  # and a burst
        (falling(100, 0, recent_depths=(0, 0, 0, 100, 100, 100)), ""),
        (falling(90, 0, recent_depths=(150, 92, 92, 91, 91, 91)), "clears in 30 min"),
        (falling(123, 0, recent_depths=(60, 80, 110, 130, 141, 131)), ""),  # it grew, and falls now
        (falling(123, 0, recent_depths=(180, 160, 120, 100, 100, 110)), ""),  # it fell, and grows now
        (falling(30, 30, ended_age=21.0), ""),  # all that was taken hangs
        (falling(30, 30, full_for=21.0), ""),
        (falling(30, 30, ended_age=2.0, full_for=2.0), "clears in 1 min"),
    ],
)
def test_the_prognosis_follows_the_last_minute(shown: QueueSnapshot, words: str) -> None:
    assert prognosis(shown) == words


@given(
    rise=st.lists(st.integers(0, 300), max_size=18).map(sorted),
    fall=st.lists(st.integers(0, 300), min_size=4, max_size=18).map(lambda depths: sorted(depths)[::-1]),
    second=st.integers(0, 59),
)
def test_a_depth_that_falls_for_half_a_minute_is_never_growing(
    rise: list[int], fall: list[int], second: int
) -> None:
    now = NOW // 60 * 60 + second
    depths = [0] * 12 + rise + fall
    *points, newest = [
        Point(now - 10 * (len(depths) - 1 - number), depth, 0, {}) for number, depth in enumerate(depths)
    ]
    reply = OverviewReply(
        now, newest.depth, newest.depth, [], 0, b"", b"", b"", b"", [], {}, {}, (None, None), None, (), {}
    )
    shown = queue_snapshot(DEFAULT_POLICIES["weather-ingestion"], reply, History.build(points, newest))
    assert "growing" not in queue_verdict(replace(shown, workers=1), (), now).text


def alert(name: str, message: str, **fields: Any) -> Alert:
    return Alert("weather-ingestion", name, message, **fields)


SILENCED = alert("failing", "7 % failed", state="silenced", silenced_until=NOW + 3_600)


@pytest.mark.parametrize(
    ("fields", "alerts", "tone", "words"),
    [
        ({}, (), "fine", ""),
        ({"depth": 132}, (), "watch", ""),
        ({"depth": 132}, (alert("backlog", "132 queued", state="pending"),), "watch", "132 queued"),
        ({"depth": 132}, (alert("backlog", "132 queued, limit 100"),), "breach", "132 queued, limit 100"),
        ({"depth": 132}, (alert("backlog", "x", state="silenced"),), "silenced", "backlog, silenced"),
        ({}, (SILENCED,), "silenced", f"failing, silenced until {local_time(NOW + 3_600, '%H:%M')}"),
        ({}, (SILENCED, alert("slow", "run p95 9 s")), "breach", "run p95 9 s"),
        ({}, (alert("failing", "7 % failed", state="acknowledged"),), "breach", "7 % failed"),
        ({}, (alert("new_error", "a new one", severity="information"),), "fine", ""),
        ({"in_flight": 10, "full_for": 31.0, "usual_run": 1.1}, (), "breach", STALLED),
        (DEAD, (alert("held_by_dead", "x", state="pending"),), "watch", HELD),
        (DEAD, (alert("held_by_dead", "x"),), "breach", HELD),
        ({"workers": 0}, (), "unserved", "no worker serves it"),
        ({"broken_keys": ("saq:a:queued",)}, (), "breach", BROKEN),
        ({"paused": Pause("ops@box-2", "model rollout", NOW - 720)}, (), "paused", PAUSED),
        ({"paused": Pause("ops", "", None)}, (), "paused", "paused by ops"),
        ({"paused": Pause("ops", "", None), "workers": 0}, (), "unserved", "no worker serves it"),
        ({"paused": Pause("ops", "", None)}, (alert("failing", "7 % failed"),), "paused", "paused by ops"),
    ],
)  # fmt: skip
def test_the_worst_problem_is_shown(
    fields: dict[str, Any], alerts: tuple[Alert, ...], tone: str, words: str
) -> None:
    shown = queue("weather-ingestion", **fields)
    verdict = queue_verdict(shown, alerts, NOW)
    assert (verdict.tone, verdict.text) == (tone, words)


def test_alerts_of_other_queues_do_not_count() -> None:
    other = Alert("alert-fanout", "failing", "7 % failed")
    assert queue_verdict(queue("weather-ingestion"), (other,), NOW).tone == "fine"


def test_each_tone_has_a_sign_of_its_own() -> None:
    others = {tone: sign for tone, sign in SIGNS.items() if tone != "silenced"}  # its words tell it apart
    assert len(set(others.values())) == len(others)


def test_a_reason_of_a_pause_is_shown_literally() -> None:
    verdict = queue_verdict(queue("weather-ingestion", paused=Pause(NASTY, NASTY, NOW)), (), NOW)
    assert not {"\x1b", "\x07", "\u202e"} & set(verdict.text + verdict.short)
