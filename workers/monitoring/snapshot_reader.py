"""Reads the cluster into a snapshot, in two round trips to each Redis."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from storage.database.engine import Database
from storage.dead_letters.plans import PlanRepository
from storage.dead_letters.repository import DeadLetterRepository
from storage.errors import DatabaseUnavailableError, one_line
from storage.repositories.alert_history import AlertDecisions, AlertHistoryRepository
from workers.engine.history import History
from workers.engine.placement import group_by_url
from workers.engine.policy import QueuePolicy
from workers.engine.schedules import Schedule
from workers.monitoring.alert_evaluation import sort_alerts, with_decisions
from workers.monitoring.alert_rules import BLOCKED, DEFAULTS, Thresholds
from workers.monitoring.background_value import BackgroundValue
from workers.monitoring.cluster_reader import ClusterState
from workers.monitoring.conditions import Condition
from workers.monitoring.merging import merge_clusters
from workers.monitoring.plans import PlanOverview, read_plans, without_resumed
from workers.monitoring.redis_view import RedisView
from workers.monitoring.snapshot import Alert, DatabaseSnapshot, RedisOutage, Snapshot

_RECENT_SECONDS = 30.0
_READ_SECONDS = 2.5
"""Timeout of reading one of several Redises: less than a request by HTTP waits for a snapshot."""


class SnapshotReader:
    """Takes snapshots.  Points of the history do not change: they are read once and remembered.

    Slow or costly figures (Redis' memory, the number of dead letters) are refreshed in the
    background: only the first snapshot waits for it.  ``redis`` is the main Redis, and ``clients`` has by URL
    those of queues on other Redises.
    """

    def __init__(
        self,
        redis: Redis,
        redis_url: str,
        policies: Sequence[QueuePolicy],
        database: Database,
        letters: DeadLetterRepository,
        *,
        environment: str,
        weather_provider: str,
        thresholds: Thresholds = DEFAULTS,
        history: AlertHistoryRepository | None = None,
        plans: PlanRepository | None = None,
        schedules: Sequence[Schedule] = (),
        clients: Mapping[str, Redis] | None = None,
    ) -> None:
        self._redis = redis
        self._views = _make_views(
            {**(clients or {}), redis_url: redis}, redis_url, policies, thresholds, schedules
        )
        self._order = [policy.name for policy in policies]
        self._thresholds = thresholds
        self._database = database
        self._environment = environment
        self._weather_provider = weather_provider
        self._dead_letters = BackgroundValue(letters.count, _describe_database_error)
        self._writes = BackgroundValue(database.check_writes, _describe_database_error)
        self._history = history
        self._decisions = BackgroundValue(self._read_decisions)
        self._plans = plans
        self._plan_overview = BackgroundValue(self._read_plans)
        self._last: Snapshot | None = None
        self._last_at = -math.inf
        """When that was taken, by the monotonic clock."""

    @property
    def thresholds(self) -> Thresholds:
        """The limits in force."""
        return self._thresholds

    @property
    def saw_alerts(self) -> bool:
        """Whether a snapshot of the last half minute had alerts: it was shown, though nothing happens."""
        is_recent = time.monotonic() - self._last_at < _RECENT_SECONDS
        return is_recent and self._last is not None and bool(self._last.alerts)

    def history(self, queue: str) -> History | None:
        """Return the points of a queue's history, of three hours at least, as of the newest snapshot."""
        histories = (view.reader.history(queue) for view in self._views)
        return next((history for history in histories if history is not None), None)

    async def close(self) -> None:
        """Cancel what is refreshed in the background."""
        for view in self._views:
            await view.close()
        await self._dead_letters.close()
        await self._writes.close()
        await self._decisions.close()
        await self._plan_overview.close()

    def invalidate_decisions(self) -> None:
        """Have the next snapshot read decisions: an operator has decided about an alert."""
        self._decisions.invalidate()

    def invalidate_dead_letters(self) -> None:
        """Have the next snapshot count the dead letters again: their number has changed."""
        self._dead_letters.invalidate()

    async def take(self) -> Snapshot:
        """Return the state of the cluster now, without the facts of this process."""
        return await self.snapshot(loop_lag=None, drain_deadline_in=None)

    async def cluster(self) -> ClusterState:
        """Return queues and workers as Redis has them now, without the database.

        Raises RedisError; with several Redises only if none answers.
        """
        reading = (view.read_now() for view in self._views)
        replies = await asyncio.gather(*reading, return_exceptions=True)
        clusters = [reply for reply in replies if isinstance(reply, ClusterState)]
        if not clusters:
            raise next(reply for reply in replies if isinstance(reply, BaseException))
        return merge_clusters(clusters, self._order)

    async def snapshot(
        self,
        *,
        loop_lag: float | None,
        drain_deadline_in: float | None,
        outages: Mapping[str, RedisOutage] | None = None,
        keep_history: bool = False,
    ) -> Snapshot:
        """Return the state of the cluster now.  While a Redis is down: its last figures, with the error.

        ``outages``: by URL, the Redises that fail for the engine of this process, None if it has none;
        ``keep_history`` as in `ClusterReader.read`.
        """
        if outages is not None and self._last is None:
            for view in self._views:
                view.wait_from_start()
        clusters = await self._read(outages or {}, keep_history=keep_history)
        cluster = merge_clusters(clusters, self._order)
        main, plans = self._views[0], await self._plans_now()
        blocked = {worker.id for worker in cluster.workers if worker.state == "blocked"}
        conditions = () if plans is None else plans.conditions
        alerts = await self._alerts(clusters, outages or {}, blocked, conditions)
        self._last_at = time.monotonic()
        self._last = Snapshot(
            taken_at=main.now,
            environment=self._environment,
            queues=cluster.queues,
            workers=cluster.workers,
            redis=main.snapshot(),
            database=self._database_snapshot(),
            dead_letters=self._dead_letters.value,
            letters_waiting=cluster.letters_waiting,
            letters_oldest_age=cluster.letters_oldest_age,
            loop_lag=loop_lag,
            weather_provider=self._weather_provider,
            alerts=alerts,
            plans=None if plans is None else plans.counts,
            drain_deadline_in=drain_deadline_in,
            lost=cluster.lost,
            other_redises=tuple(view.snapshot() for view in self._views[1:]),
        )
        return self._last

    async def _read(self, outages: Mapping[str, RedisOutage], *, keep_history: bool) -> list[ClusterState]:
        """Return what each Redis holds, once it is enough for a program that takes a single snapshot."""
        in_background: tuple[BackgroundValue[Any], ...] = (
            self._dead_letters,
            self._writes,
            self._plan_overview,
        )
        for value in in_background:
            value.refresh_if_due()
        reading = (view.read(keep_history=keep_history, outage=outages.get(view.url)) for view in self._views)
        clusters = list(await asyncio.gather(*reading))
        if self._last is None:
            for value in in_background:
                await value.ready.wait()
        return clusters

    async def _plans_now(self) -> PlanOverview | None:
        """Return the plans, as far as they are known; one that has been resumed is not called stopped."""
        overview = self._plan_overview.value
        if overview is None or not overview.conditions or not self._views[0].is_up:
            return overview
        self._plan_overview.invalidate()  # one may have been cancelled, which only the database has
        try:
            return await without_resumed(self._redis, overview)
        except (RedisError, OSError):
            return overview

    async def _alerts(
        self,
        clusters: Sequence[ClusterState],
        outages: Mapping[str, RedisOutage],
        blocked: Collection[str],
        of_plans: Sequence[Condition],
    ) -> tuple[Alert, ...]:
        """Return all that is wrong, with since when, and what operators have decided.

        ``blocked`` are the processes that no Redis has another opinion of, ``of_plans`` what is wrong with
        plans.
        """
        main, *others = zip(self._views, clusters, strict=True)
        database = self._database_snapshot()
        alerts = await main[0].alerts(main[1], outages.get(main[0].url), database, of_plans)
        for view, cluster in others:
            alerts += await view.alerts(cluster, outages.get(view.url))
        by_key = {(alert.name, alert.queue, alert.subject): alert for alert in reversed(alerts)}
        merged = (alert for alert in by_key.values() if alert.name != BLOCKED or alert.subject in blocked)
        return await self._with_decisions(sort_alerts(merged) if others else alerts)

    async def _with_decisions(self, alerts: tuple[Alert, ...]) -> tuple[Alert, ...]:
        """Return the alerts with what operators have decided, as far as the database answers."""
        if not alerts:
            return alerts
        self._decisions.refresh_if_due()  # also for pending ones: they are known when one fires
        if self._last is None:
            await self._decisions.ready.wait()
        decisions = self._decisions.value
        return alerts if decisions is None else with_decisions(alerts, decisions)

    async def _read_decisions(self) -> AlertDecisions:
        if self._history is None:
            return AlertDecisions({}, ())
        return await self._history.decisions(datetime.now(UTC))

    async def _read_plans(self) -> PlanOverview:
        return PlanOverview({}) if self._plans is None else await read_plans(self._redis, self._plans)

    def _database_snapshot(self) -> DatabaseSnapshot:
        return DatabaseSnapshot(self._database.safe_url, self._dead_letters.error, self._writes.error)


def _make_views(
    clients: Mapping[str, Redis],
    main_url: str,
    policies: Sequence[QueuePolicy],
    thresholds: Thresholds,
    schedules: Sequence[Schedule],
) -> list[RedisView]:
    """Return one for each Redis, the main one first."""
    groups = group_by_url(policies, main_url)
    if len(groups) == 1:
        return [RedisView(clients[main_url], main_url, policies, thresholds, schedules)]
    views = []
    for url, placed in groups.items():
        queues = tuple(policy.name for policy in placed)
        names = ", ".join(queues)
        views.append(
            RedisView(
                clients[url],
                url,
                placed,
                thresholds,
                [schedule for schedule in schedules if schedule.queue in queues],
                name=f"Redis of {names}" if names else "main Redis",
                queues=queues,
                subject="" if url == main_url else names,
                read_seconds=_READ_SECONDS,
            )
        )
    return views


def _describe_database_error(error: Exception) -> str:
    """Return the error in one line; without the URL, which the snapshot has, if it does not answer."""
    if isinstance(error, DatabaseUnavailableError) and error.cause:
        return ": ".join(filter(None, (error.cause, error.fix)))
    return one_line(error)
