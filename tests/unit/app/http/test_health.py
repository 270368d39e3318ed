"""The health endpoint on processes that do not live."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.http.routers.health import health_of
from tests.support.alerts import alerts_of
from tests.support.fake_moments import HEALTHY
from workers.monitoring.snapshot import QueueSnapshot, Snapshot

WHERE = "handler shop:f, shop.py:3 in f"


def with_queue(**fields: object) -> Snapshot:
    queue: QueueSnapshot = replace(HEALTHY.queues[0], **fields)  # type: ignore[arg-type]
    changed = replace(HEALTHY, queues=(queue,))
    return replace(changed, alerts=alerts_of(changed))


def test_a_blocked_process_is_an_alert_whose_handler_only_operators_see() -> None:
    blocked = replace(HEALTHY.workers[0], state="blocked", blocked_where=WHERE, blocked_for=12.0)
    snapshot = replace(HEALTHY, workers=(blocked,))
    (alert,) = alerts_of(snapshot)
    assert (alert.name, alert.message) == ("event_loop_blocked", f"box-2:4001 blocked for 12 s: {WHERE}")
    (public,) = health_of(replace(snapshot, alerts=(alert,))).alerts
    assert public.message == "the event loop of a process is blocked"


@pytest.mark.parametrize(("dead_for", "healthy"), [(4.0, True), (21.0, False)])
def test_what_the_dead_hold_is_information_first_and_then_an_alert(dead_for: float, healthy: bool) -> None:
    (queue,) = health_of(with_queue(held_by_dead=3, dead_for=dead_for, recover_in=4.0)).queues
    assert (queue.held_by_dead, queue.healthy) == (3, healthy)


def test_a_stalled_queue_is_not_healthy() -> None:
    (queue,) = health_of(with_queue(in_flight=10, full_for=25.0, usual_run=1.1)).queues
    assert not queue.healthy
    assert [alert.message for alert in queue.alerts] == ["stalled: 10 of 10 run for 25 s, usually 1.1 s"]
