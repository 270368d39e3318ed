"""Times since which conditions last that the history does not show; the first observer writes them down."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from redis.asyncio import Redis
from redis.exceptions import RedisError

from storage.redis.scripts import Script, run_script
from workers.engine.keys import OBSERVED
from workers.monitoring import alert_rules as rules
from workers.monitoring.conditions import ENDED, Condition
from workers.monitoring.roster import number, text

OBSERVE_SCRIPT = Script.load(__name__, "observe")

_SHARED = frozenset(
    {
        rules.NO_WORKER,
        rules.STALLED,
        rules.BACKLOG,
        rules.BROKEN_KEYS,
        rules.REDIS_MEMORY,
        rules.REDIS_EVICTION,
        rules.PLAN_HALTED,
        rules.PLAN_INTERRUPTED,
    }
)
"""Rules on which all processes agree.  Only the process itself can tell whether it reaches a server."""


_MAX_GAP_SECONDS = 60.0
"""An observation that is older may have ended and begun again between two snapshots of an idle process."""


class Observations:
    """Fills in the ``since`` of conditions."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._seen: dict[str, float] = {}
        """By condition: the Unix second of the server at which this process first observed it."""
        self._observed_at = -math.inf
        """When conditions were last observed, by the same clock."""
        self._waits = False

    def wait_from_start(self) -> None:
        """Count nothing as lasting at the first call: this program takes snapshots again and again."""
        self._waits = True

    async def complete(
        self, conditions: Sequence[Condition], stored: Mapping[bytes, bytes] | None, now: float
    ) -> list[Condition]:
        """Return the conditions, each with a ``since``; those that have ended are written down, and left out.

        ``stored`` is what Redis holds, None while it is down.  A condition of this process alone counts as
        lasting at the first call: a program that takes a single snapshot waits for nothing.
        """
        ended = [f"{ENDED}{condition.key}" for condition in conditions if condition.has_ended]
        conditions = [condition for condition in conditions if not condition.has_ended]
        open_ = [condition for condition in conditions if condition.since is None]
        self._remember(open_, now)
        starts = dict(self._seen)
        if stored is not None:
            starts |= await self._shared_moments(
                [item.key for item in open_ if item.name in _SHARED], ended, stored, now
            )
        return [replace(item, since=starts[item.key]) if item.since is None else item for item in conditions]

    def _remember(self, conditions: Sequence[Condition], now: float) -> None:
        before = self._seen if now - self._observed_at <= _MAX_GAP_SECONDS else {}
        self._seen = {
            item.key: min(before.get(item.key, now if self._waits or item.name in _SHARED else 0.0), now)
            for item in conditions
        }
        self._observed_at = now
        self._waits = True

    async def _shared_moments(
        self, present: Sequence[str], ended: Sequence[str], stored: Mapping[bytes, bytes], now: float
    ) -> dict[str, float]:
        """Return the moments in Redis; written there if they differ from what is present, or has ended."""
        times = {text(key): (number(at) or 0.0) / 1000 for key, at in stored.items()}
        over = [key for key in times if key not in present and not key.startswith(ENDED)]
        if not (over or ended) and all(0 < times.get(key, 0.0) <= now for key in present):
            return {key: times[key] for key in present}
        try:
            there = [*present, *ended]
            call = OBSERVE_SCRIPT.call([OBSERVED], [len(there), *there, *over, *ended])
            moments = await run_script(self._redis, call)
        except (RedisError, OSError):  # read-only, or full: this process has its own times
            return {}
        return {key: int(at) / 1000 for key, at in zip(there, moments, strict=True)}
