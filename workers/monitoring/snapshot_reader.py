"""Reads the cluster into a snapshot, in two round trips."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from redis.asyncio import Redis
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from storage.database.engine import Database
from storage.dead_letters.plans import PlanRepository
from storage.dead_letters.repository import DeadLetterRepository
from storage.errors import DatabaseUnavailableError, one_line
from storage.redis.client import redact_url
from storage.redis.refusals import reason, refusal_of
from storage.repositories.alert_history import AlertDecisions, AlertHistoryRepository
from workers.engine.history import History
from workers.engine.policy import QueuePolicy
from workers.engine.schedules import Schedule
from workers.monitoring.alert_evaluation import alerts, server_conditions, with_decisions
from workers.monitoring.alert_rules import DEFAULTS, REDIS_MEMORY, Thresholds
from workers.monitoring.background_value import BackgroundValue
from workers.monitoring.cluster_reader import ClusterReader, ClusterState
from workers.monitoring.observations import Observations
from workers.monitoring.overview import whole_number
from workers.monitoring.plans import PlanOverview, read_plans
from workers.monitoring.roster import text
from workers.monitoring.snapshot import Alert, DatabaseSnapshot, RedisSnapshot, Snapshot

_RECOVERY_SECONDS = 4.0
"""After an outage of Redis: within this, living processes send heartbeats and subscribe again."""


class SnapshotReader:
    """Takes snapshots.  Points of the history do not change: they are read once and remembered.

    What changes slowly or costs much (Redis' memory, the number of dead letters) is refreshed in the
    background: only the first snapshot waits for it.
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
    ) -> None:
        self._redis = redis
        self._safe_url = redact_url(redis_url)
        self._thresholds = thresholds
        self._database = database
        self._environment = environment
        self._weather_provider = weather_provider
        self._reader = ClusterReader(redis, policies, thresholds, schedules)
        self._observations = Observations(redis)
        self._clock_offset = 0.0
        self._redis_failure: RedisSnapshot | None = None
        """Of the last snapshot; None if Redis answered."""
        self._failed_at = -math.inf
        """When Redis last did not answer, by the monotonic clock."""
        self._info = BackgroundValue(self._redis.info)
        self._dead_letters = BackgroundValue(letters.count, _describe_database_error)
        self._history = history
        self._decisions = BackgroundValue(self._read_decisions)
        self._plans = plans
        self._plan_overview = BackgroundValue(self._read_plans)
        self._last: Snapshot | None = None

    @property
    def thresholds(self) -> Thresholds:
        """The limits in force."""
        return self._thresholds

    def history(self, queue: str) -> History | None:
        """The points of a queue's history, as of the newest snapshot: those of three hours, at least."""
        return self._reader.history(queue)

    async def close(self) -> None:
        """Cancel what is refreshed in the background."""
        await self._info.close()
        await self._dead_letters.close()
        await self._decisions.close()
        await self._plan_overview.close()

    def invalidate_decisions(self) -> None:
        """An operator has decided about an alert: the next snapshot reads that."""
        self._decisions.invalidate()

    def invalidate_dead_letters(self) -> None:
        """The number of dead letters has changed: the next snapshot counts them again."""
        self._dead_letters.invalidate()

    async def cluster(self) -> ClusterState:
        """Queues and workers as Redis has them now, without the database.  Raises RedisError."""
        return await self._reader.read(recovering=False, keep_history=False)

    async def snapshot(
        self,
        *,
        loop_lag: float | None,
        drain_deadline_in: float | None,
        refused: str | None = None,
        keep_history: bool = False,
    ) -> Snapshot:
        """The state of the cluster now.  While Redis is down: the last figures, with the error.

        ``refused``: why Redis takes no writes of this process, None if it does; ``keep_history`` as in
        `ClusterReader.read`.
        """
        self._info.refresh_if_due()
        self._dead_letters.refresh_if_due()
        self._plan_overview.refresh_if_due()
        cluster = await self._cluster_or_last(keep_history=keep_history)
        if self._last is None:  # a program that takes a single snapshot needs all of it
            await self._info.ready.wait()
            await self._dead_letters.ready.wait()
            await self._plan_overview.ready.wait()
        redis, database = self._redis_snapshot(), self._database_snapshot()
        plans = self._plan_overview.value
        now = time.time() + self._clock_offset
        is_up = redis.error is None
        judged = redis if refused is None or not is_up else replace(redis, error=refused)
        conditions = [
            *server_conditions(
                judged,
                database,
                cluster.letters_since,
                now,
                self._thresholds,
                set(map(text, cluster.observed)),
            ),
            *(cluster.conditions if is_up else ()),
            *(plans.conditions if plans is not None and is_up else ()),
        ]
        lasting = await self._observations.complete(conditions, cluster.observed if is_up else None, now)
        self._last = Snapshot(
            taken_at=now,
            environment=self._environment,
            queues=cluster.queues,
            workers=cluster.workers,
            redis=redis,
            database=database,
            dead_letters=self._dead_letters.value,
            letters_waiting=cluster.letters_waiting,
            letters_oldest_age=cluster.letters_oldest_age,
            loop_lag=loop_lag,
            weather_provider=self._weather_provider,
            alerts=await self._decided(alerts(lasting, now)),
            plans=None if plans is None else plans.counts,
            drain_deadline_in=drain_deadline_in,
        )
        return self._last

    async def _cluster_or_last(self, *, keep_history: bool) -> ClusterState:
        recovering = time.monotonic() - self._failed_at < _RECOVERY_SECONDS
        try:
            cluster = await self._reader.read(recovering=recovering, keep_history=keep_history)
        except (RedisError, OSError) as error:
            self._redis_failure = _redis_failure(self._safe_url, error)
            self._failed_at = time.monotonic()
            self._info.invalidate()
            last = self._last
            if last is None:
                return ClusterState()
            return ClusterState(
                queues=last.queues, workers=last.workers, letters_waiting=last.letters_waiting
            )
        self._redis_failure = None
        self._clock_offset = cluster.now - time.time()
        return cluster

    async def _decided(self, found: tuple[Alert, ...]) -> tuple[Alert, ...]:
        """The alerts with what operators have decided, as far as the database tells."""
        if not any(alert.state == "firing" for alert in found):
            return found
        self._decisions.refresh_if_due()
        if self._last is None:
            await self._decisions.ready.wait()
        decisions = self._decisions.value
        return found if decisions is None else with_decisions(found, decisions)

    async def _read_decisions(self) -> AlertDecisions:
        if self._history is None:
            return AlertDecisions({}, ())
        return await self._history.decisions(datetime.now(UTC))

    async def _read_plans(self) -> PlanOverview:
        return PlanOverview({}, ()) if self._plans is None else await read_plans(self._redis, self._plans)

    def _redis_snapshot(self) -> RedisSnapshot:
        info, nearly_full = self._info.value, self._thresholds.limit(REDIS_MEMORY)
        if self._redis_failure is not None or info is None:
            return self._redis_failure or RedisSnapshot(self._safe_url, None, nearly_full=nearly_full)
        return RedisSnapshot(
            self._safe_url,
            None,
            nearly_full=nearly_full,
            version=str(info.get("valkey_version") or info.get("redis_version") or "") or None,
            memory_used=whole_number(info.get("used_memory")),
            memory_limit=whole_number(info.get("maxmemory")) or None,
            eviction_policy=str(info.get("maxmemory_policy") or "") or None,
        )

    def _database_snapshot(self) -> DatabaseSnapshot:
        return DatabaseSnapshot(self._database.safe_url, self._dead_letters.error)


def _redis_failure(safe_url: str, error: Exception) -> RedisSnapshot:
    refusal = refusal_of(error)
    return RedisSnapshot(
        safe_url,
        reason(error),
        refusal=None if refusal is None else refusal.problem,
        timed_out=isinstance(error, TimeoutError | RedisTimeoutError),
    )


def _describe_database_error(error: Exception) -> str:
    """The error in one line; without the URL, which the snapshot has, if it does not answer."""
    if isinstance(error, DatabaseUnavailableError) and error.cause:
        return ": ".join(filter(None, (error.cause, error.fix)))
    return one_line(error)
