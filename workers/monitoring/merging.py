"""Joins what several Redises hold of the queues and the processes to one cluster.  Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from workers.monitoring.cluster_reader import ClusterState
from workers.monitoring.snapshot import WorkerSnapshot


def merge_clusters(clusters: Sequence[ClusterState], order: Sequence[str]) -> ClusterState:
    """Merge all that ``clusters`` have, the main Redis first; the queues in ``order``."""
    main, *others = clusters
    if not others:
        return main
    queues = {queue.name: queue for cluster in clusters for queue in cluster.queues}
    workers = _merge_workers(clusters, order)
    live_ids = {worker.id for worker in workers}
    lost = {worker.id: worker for cluster in clusters for worker in cluster.lost if worker.id not in live_ids}
    waits = [cluster.letters_oldest_age for cluster in clusters if cluster.letters_oldest_age is not None]
    now = max(cluster.now for cluster in clusters)
    return ClusterState(
        now=now,
        queues=tuple(queues[name] for name in order if name in queues),
        workers=workers,
        letters_waiting=sum(cluster.letters_waiting for cluster in clusters),
        letters_since=now - max(waits) if waits else None,
        conditions=tuple(condition for cluster in clusters for condition in cluster.conditions),
        observed=main.observed,
        lost=tuple(lost.values()),
    )


def _merge_workers(clusters: Iterable[ClusterState], order: Sequence[str]) -> tuple[WorkerSnapshot, ...]:
    views_by_id: defaultdict[str, list[WorkerSnapshot]] = defaultdict(list)
    for cluster in clusters:
        for worker in cluster.workers:
            views_by_id[worker.id].append(worker)
    merged = (_merge_worker(views, order) for views in views_by_id.values())
    return tuple(sorted(merged, key=lambda worker: (worker.host, worker.pid, worker.id)))


def _merge_worker(views: Sequence[WorkerSnapshot], order: Sequence[str]) -> WorkerSnapshot:
    """Merge a process as each Redis has it: by its newest sign of life, with the queues of all.

    A process that one server has lost sight of is alive if it shows another one that it lives.
    """
    if len(views) == 1:
        return views[0]
    newest = min(
        views,
        key=lambda view: (
            view.state == "dead",
            math.inf if view.last_beat_age is None else view.last_beat_age,
        ),
    )
    queues = {queue for view in views for queue in view.queues}
    standby = {queue for view in views for queue in view.standby}
    state = newest.state
    if state == "standby" and not queues <= standby:
        state = "running"
    return replace(
        newest,
        state=state,
        queues=tuple(name for name in order if name in queues),
        standby=tuple(name for name in order if name in standby),
        in_flight=sum(view.in_flight for view in views),
        held=tuple(held for view in views for held in view.held),
    )
