"""Reads the cluster into a snapshot, in two round trips."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from storage.database.engine import Database
from storage.dead_letters.plans import PlanRepository
from storage.dead_letters.repository import DeadLetterRepository
from storage.errors import DatabaseUnavailableError, one_line
from storage.redis.client import redact_url
from storage.redis.refusals import explain, reason, refusal_of
from storage.repositories.alert_history import AlertDecisions, AlertHistoryRepository
from workers.engine.history import History
from workers.engine.policy import QueuePolicy
from workers.engine.probe import check_write
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
_REWRITE_SECONDS = 10.0
"""Once Redis takes writes again: within this, living processes send heartbeats and publish their presence."""
_RECENT_SECONDS = 30.0
_OWN_CODES = frozenset({"NOPERM", "NOAUTH", "UNKNOWN"})
"""Refusals that are about our user or a setting.  A user that may only read is no outage of Redis."""


class WriteRefusal(NamedTuple):
    """Why a server takes no writes; ``code`` as in `Refusal`."""

    code: str
    message: str


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
        self._unwritable_at = -math.inf
        """When Redis last took no writes, by the monotonic clock."""
        self._info = BackgroundValue(self._redis.info)
        self._refusal = BackgroundValue(self._find_refusal)
        self._dead_letters = BackgroundValue(letters.count, _describe_database_error)
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
        """Whether a snapshot of the last half minute had alerts: somebody looked, though nothing happens."""
        is_recent = time.monotonic() - self._last_at < _RECENT_SECONDS
        return is_recent and self._last is not None and bool(self._last.alerts)

    def history(self, queue: str) -> History | None:
        """The points of a queue's history, as of the newest snapshot: those of three hours, at least."""
        return self._reader.history(queue)

    async def close(self) -> None:
        """Cancel what is refreshed in the background."""
        await self._info.close()
        await self._refusal.close()
        await self._dead_letters.close()
        await self._decisions.close()
        await self._plan_overview.close()

    def invalidate_decisions(self) -> None:
        """An operator has decided about an alert: the next snapshot reads that."""
        self._decisions.invalidate()

    def invalidate_dead_letters(self) -> None:
        """The number of dead letters has changed: the next snapshot counts them again."""
        self._dead_letters.invalidate()

    async def take(self) -> Snapshot:
        """The state of the cluster now, without what only this process can tell."""
        return await self.snapshot(loop_lag=None, drain_deadline_in=None)

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

        ``refused``: why the engine of this process cannot use Redis, None if it can; ``keep_history`` as in
        `ClusterReader.read`.
        """
        cluster = await self._read(keep_history=keep_history)
        plans = self._plan_overview.value
        now = time.time() + self._clock_offset
        found = await self._alerts(cluster, now, refused)
        self._last_at = time.monotonic()
        self._last = Snapshot(
            taken_at=now,
            environment=self._environment,
            queues=cluster.queues,
            workers=cluster.workers,
            redis=self._redis_snapshot(),
            database=self._database_snapshot(),
            dead_letters=self._dead_letters.value,
            letters_waiting=cluster.letters_waiting,
            letters_oldest_age=cluster.letters_oldest_age,
            loop_lag=loop_lag,
            weather_provider=self._weather_provider,
            alerts=found,
            plans=None if plans is None else plans.counts,
            drain_deadline_in=drain_deadline_in,
            lost=cluster.lost,
        )
        return self._last

    async def _read(self, *, keep_history: bool) -> ClusterState:
        """What Redis holds, once all is known that a program needs which takes a single snapshot."""
        self._refusal.refresh_if_due()
        if self._last is None:  # what the first reading proves depends on it
            await self._refusal.ready.wait()
        in_background = (self._info, self._dead_letters, self._plan_overview)
        for value in in_background:
            value.refresh_if_due()
        cluster = await self._cluster_or_last(keep_history=keep_history)
        if self._last is None:
            for value in in_background:
                await value.ready.wait()
        return cluster

    async def _alerts(self, cluster: ClusterState, now: float, refused: str | None) -> tuple[Alert, ...]:
        """All that is wrong, with since when, and what operators have decided."""
        redis, plans = self._redis_snapshot(), self._plan_overview.value
        is_up = redis.error is None
        observed = set(map(text, cluster.observed))
        conditions = [
            *server_conditions(
                redis,
                self._database_snapshot(),
                cluster.letters_since,
                now,
                self._thresholds,
                observed,
                refused,
            ),
            *(cluster.conditions if is_up else ()),
            *(plans.conditions if plans is not None and is_up else ()),
        ]
        lasting = await self._observations.complete(conditions, cluster.observed if is_up else None, now)
        return await self._decided(alerts(lasting, now))

    async def _cluster_or_last(self, *, keep_history: bool) -> ClusterState:
        moment, refusal = time.monotonic(), self._refusal.value
        if refusal is not None and refusal.code != "OOM":  # what frees memory, or adds none, still works
            self._unwritable_at = moment
        unwritable = moment - self._unwritable_at < _REWRITE_SECONDS
        try:
            cluster = await self._reader.read(
                recovering=moment - self._failed_at < _RECOVERY_SECONDS,
                unwritable=unwritable,
                keep_history=keep_history and not unwritable,
            )
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

    async def _find_refusal(self) -> WriteRefusal | None:
        """Try to write, as a program that runs no workers would not find out otherwise."""
        try:
            await check_write(self._redis)
        except (RedisError, OSError) as error:
            refusal = refusal_of(error)
            if refusal is not None and refusal.code not in _OWN_CODES:
                return WriteRefusal(refusal.code, explain(error))
        return None  # if there was no answer at all, the snapshot finds out

    def _redis_snapshot(self) -> RedisSnapshot:
        info, nearly_full = self._info.value, self._thresholds.limit(REDIS_MEMORY)
        refuses = None if self._refusal.value is None else self._refusal.value.message
        if self._redis_failure is not None or info is None:
            return self._redis_failure or RedisSnapshot(
                self._safe_url, None, nearly_full=nearly_full, refuses_writes=refuses
            )
        return RedisSnapshot(
            self._safe_url,
            None,
            nearly_full=nearly_full,
            refuses_writes=refuses,
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
