"""One cluster from what several Redises hold of it."""

from __future__ import annotations

from dataclasses import replace

from tests.support.fake_moments import HEALTHY, queue, worker
from workers.engine.policy import ALERT, COLOR, DEFAULT_POLICIES
from workers.monitoring.cluster_reader import ClusterState
from workers.monitoring.merging import merge_clusters
from workers.monitoring.snapshot import HeldJobs, LostWorker, RedisSnapshot

ORDER = list(DEFAULT_POLICIES)
ONE = replace(worker(1), queues=(ALERT,), in_flight=2, last_beat_age=1.0, held=(HeldJobs(ALERT, 2),))


def test_one_redis_is_the_cluster() -> None:
    only = ClusterState(now=5.0, workers=(ONE,))
    assert merge_clusters([only], ORDER) is only


def test_a_process_with_queues_on_two_redises_is_one_process() -> None:
    two = replace(ONE, queues=(COLOR,), standby=(COLOR,), state="standby", in_flight=1, last_beat_age=3.0)
    merged = merge_clusters(
        [
            ClusterState(
                now=5.0, queues=(queue(COLOR),), workers=(two,), letters_waiting=1, letters_since=4.0
            ),
            ClusterState(
                now=6.0, queues=(queue(ALERT),), workers=(ONE,), letters_waiting=2, letters_since=3.0
            ),
        ],
        ORDER,
    )
    assert [found.name for found in merged.queues] == [ALERT, COLOR]
    (process,) = merged.workers
    assert (process.queues, process.standby, process.state) == ((ALERT, COLOR), (COLOR,), "running")
    assert (process.in_flight, process.last_beat_age) == (3, 1.0)
    assert (merged.letters_waiting, merged.letters_oldest_age) == (3, 3.0)


def test_a_process_that_one_redis_has_lost_lives_if_another_has_it() -> None:
    dead = replace(ONE, state="dead", last_beat_age=0.5, queues=(COLOR,))
    lost = LostWorker(ONE.id, ONE.host, ONE.pid, None, 20.0, connected=False)
    gone = LostWorker("gone", "box", 1, None, 20.0, connected=False)
    merged = merge_clusters(
        [ClusterState(workers=(dead,), lost=(gone,)), ClusterState(workers=(ONE,), lost=(lost,))], ORDER
    )
    assert [found.state for found in merged.workers] == ["running"]
    assert merged.lost == (gone,)


def test_a_redis_of_several_is_named_by_its_queues() -> None:
    other = RedisSnapshot("x", "refused", name=f"Redis of {COLOR}", queues=(COLOR,), subject=COLOR)
    full = replace(other, error="Redis is full (OOM)", refusal_detail="is full (OOM): raise its maxmemory")
    snapshot = replace(HEALTHY, other_redises=(other,))
    assert (snapshot.redis_of(COLOR), snapshot.redis_of(ALERT)) == (other, HEALTHY.redis)
    assert other.problem == f"Redis of {COLOR} does not answer: refused"
    assert full.problem == f"Redis of {COLOR} is full (OOM): raise its maxmemory"
    assert not snapshot.is_old
    assert replace(snapshot, redis=replace(HEALTHY.redis, error="refused")).is_old
