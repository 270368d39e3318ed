"""The figures of one queue, from the reply of overview.lua.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from workers.engine import histogram, wire
from workers.engine.history import (
    FINE_SECONDS,
    HOUR_SECONDS,
    MINUTE_SECONDS,
    Counters,
    History,
    Point,
    failure_rate,
    run_buckets,
    wait_buckets,
)
from workers.engine.policy import TIMINGS, QueuePolicy, RateLimit
from workers.engine.reconciler import REPAIR_KINDS, REPAIRED
from workers.monitoring.charts import throughput
from workers.monitoring.roster import age, number, text
from workers.monitoring.snapshot import Durations, Pause, QueueSnapshot

CHART_MINUTES = 60
RECENT_SECONDS = 300.0
"""Over which rates and percentiles are taken."""
_MAX_COUNT = 2**53
"""A counter that claims more was not written by us."""


class OverviewReply(NamedTuple):
    """The reply of overview.lua, by the names in its head."""

    now: float
    """Unix seconds of the server's clock."""
    depth: int
    incomplete: int
    leases: list[bytes]
    starts: int
    oldest_start: bytes
    start_before: bytes
    """The newest start that the rate limit does not count any more."""
    head: bytes
    first_excess: bytes
    """Body of the first ready job that is one too many."""
    pause: list[bytes]
    totals: Counters
    turns: Mapping[bytes, float]
    """By worker: server time of its dispatcher's newest turn, ms."""
    checks: Sequence[bytes | None]
    resumed: bytes | None
    broken_keys: tuple[str, ...]
    points: dict[int, list[Point]]
    """New points of the history, by the seconds between them."""

    @classmethod
    def parse(cls, reply: list[Any]) -> OverviewReply:
        """Return the reply as it came from the server."""
        now_us, depth, incomplete, leases, starts, oldest, before, head, excess, *rest = reply
        pause, totals, turns, checks, resumed, broken_keys, *points = rest
        return cls(
            now=int(now_us) / 1e6,
            depth=depth,
            incomplete=incomplete,
            leases=leases,
            starts=starts,
            oldest_start=oldest,
            start_before=before,
            head=head,
            first_excess=excess,
            pause=pause,
            totals=_counters(totals),
            turns=dict(_instants(turns)),
            checks=checks,
            resumed=resumed,
            broken_keys=tuple(map(text, broken_keys)),
            points={
                seconds: [point for point in map(Point.parse, members) if point is not None]
                for seconds, members in zip((FINE_SECONDS, MINUTE_SECONDS, HOUR_SECONDS), points, strict=True)
            },
        )

    @property
    def checked_for(self) -> float:
        """Seconds for which processes have checked for dead workers without a gap: see `lost.lua`."""
        since, last = (age(number(value), self.now) for value in self.checks)
        if since is None or last is None or last > TIMINGS.max_check_gap_seconds:
            return 0.0
        return since

    @property
    def point(self) -> Point:
        """The state now, as a point of the history."""
        return Point(self.now, self.depth, len(self.leases) // 2, self.totals)


def queue_snapshot(policy: QueuePolicy, reply: OverviewReply, history: History) -> QueueSnapshot:
    """Return all figures but those on the holders of jobs; ``history`` ends with the reply's point."""
    now, totals = reply.now, reply.totals
    recent = history.span(now - RECENT_SECONDS, now)
    failed_share, recent_attempts = failure_rate(recent)
    hour = history.span(now - CHART_MINUTES * 60, now)
    in_flight = reply.point.in_flight
    charts = list(_minutes(history))
    return QueueSnapshot(
        name=policy.name,
        function=policy.function,
        depth=reply.depth,
        scheduled=max(0, reply.incomplete - reply.depth - in_flight),
        oldest_age=age_of_job(reply.head, now),
        in_flight=in_flight,
        concurrency=policy.concurrency,
        rate_limit=policy.rate_limit,
        rate_used=reply.starts,
        next_start_in=_next_start(policy.rate_limit, reply),
        wait=histogram.percentiles(wait_buckets(recent)),
        run=histogram.percentiles(run_buckets(recent)),
        failure_rate=failed_share,
        recent_attempts=recent_attempts,
        throughput=throughput(history, now - 60, now),
        **_outcomes(totals),
        repairs={kind: totals.get(f"{REPAIRED}{kind}", 0) for kind in REPAIR_KINDS},
        broken_keys=reply.broken_keys,
        depth_history=tuple(depth for depth, _ in charts),
        throughput_history=tuple(completed for _, completed in charts),
        recent_depths=_recent_depths(history),
        paused=parse_pause(dict(_pairs(reply.pause))),
        workers=0,
        usual_run=histogram.percentile(run_buckets(hour), 0.5),
        ended_age=age(totals.get("ended_at"), now),
        succeeded_age=age(totals.get("succeeded_at"), now),
        # Not Counters, which dataclasses.asdict spoils.
        waits=Durations(dict(wait_buckets(totals)), totals.get("wait_us", 0) / 1e6),
        runs=Durations(dict(run_buckets(totals)), totals.get("run_us", 0) / 1e6),
    )


def unread_queue(policy: QueuePolicy, redis_error: str) -> QueueSnapshot:
    """Return a queue of which nothing is known, since its Redis has not answered yet."""
    nothing = histogram.percentiles(Counter())
    return QueueSnapshot(
        name=policy.name,
        function=policy.function,
        depth=0,
        scheduled=0,
        oldest_age=None,
        in_flight=0,
        concurrency=policy.concurrency,
        rate_limit=policy.rate_limit,
        rate_used=0,
        next_start_in=None,
        wait=nothing,
        run=nothing,
        failure_rate=None,
        throughput=0.0,
        completed=0,
        failed=0,
        retried=0,
        dead_lettered=0,
        depth_history=(None,) * CHART_MINUTES,
        throughput_history=(None,) * CHART_MINUTES,
        paused=None,
        workers=0,
        redis_error=redis_error,
    )


_COUNTERS = ("started", "completed", "failed", "retried", "dead_lettered", "aborted", "returned", "lost")
"""Fields of a queue's totals that are fields of its snapshot, too."""


def _outcomes(totals: Counters) -> dict[str, Any]:
    return {name: totals.get(name, 0) for name in _COUNTERS}


def _minutes(history: History) -> Iterator[tuple[int | None, int | None]]:
    """Yield depth and completed jobs of each of the last minutes; None before the history."""
    end = history.now.at
    first = end // 60 * 60 - (CHART_MINUTES - 1) * 60
    ends = [first + 60 * minute for minute in range(CHART_MINUTES)] + [end]
    for start, stop in pairwise(ends):
        before, after = history.point_at(start), history.point_at(stop)
        if stop < history.points[0].at:
            yield None, None
        else:
            completed = after.counters.get("completed", 0) - before.counters.get("completed", 0)
            yield after.depth, max(0, completed)


def _recent_depths(history: History) -> tuple[int, ...]:
    now = history.now.at
    if history.points[0].at > now - MINUTE_SECONDS:
        return ()
    return tuple(history.point_at(now - ago).depth for ago in range(MINUTE_SECONDS, 0, -FINE_SECONDS))


def parse_pause(fields: dict[bytes, bytes]) -> Pause | None:
    """Return the pause in a queue's pause hash, None if that is empty."""
    if not fields:
        return None
    pause = {text(key): text(value) for key, value in fields.items()}
    return Pause(by=pause.get("by", "?"), reason=pause.get("reason", ""), since=number(pause.get("since")))


def whole_number(value: Any) -> int | None:
    """Return a count that others may have written; None if it is not a number."""
    parsed = number(value)
    return None if parsed is None else max(0, min(int(parsed), _MAX_COUNT))


def _next_start(limit: RateLimit | None, reply: OverviewReply) -> float | None:
    """Return the seconds until a full rate window admits another start; None if it is not full."""
    oldest = number(reply.oldest_start)
    if limit is None or reply.starts < limit.starts or oldest is None:
        return None
    return min(limit.seconds, max(0.0, oldest / 1e6 + limit.seconds - reply.now))


def _pairs(flat: list[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _counters(flat: list[bytes]) -> Counters:
    counters = {text(key): whole_number(value) for key, value in _pairs(flat)}
    return {name: value for name, value in counters.items() if value is not None}


def _instants(flat: list[bytes]) -> Iterator[tuple[bytes, float]]:
    for key, value in _pairs(flat):
        at = number(value)
        if at is not None:
            yield key, at


def age_of_job(body: bytes, now: float) -> float | None:
    """Return how long a ready job has waited, by its own record; None if that cannot be read."""
    try:
        job = wire.load(body)
        queued, touched, scheduled = (
            number(job.get(name)) or 0.0 for name in ("queued", "touched", "scheduled")
        )
    except (ValueError, AttributeError, RecursionError):
        return None
    ready = max(queued, touched) / 1000
    return max(0.0, now - max(ready, scheduled)) if ready > 0 else None
