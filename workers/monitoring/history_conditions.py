"""The conditions of a queue that are derived from its history.  Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from workers.engine.history import History, Point
from workers.monitoring import alert_rules as rules
from workers.monitoring.alert_rules import BY_NAME, Thresholds
from workers.monitoring.breaches import KINDS, Breach, LatencyReader, depth_breach, failure_breach
from workers.monitoring.conditions import Condition, QueueFacts
from workers.monitoring.descriptions import describe_limit, duration
from workers.monitoring.overview import age_of_job
from workers.percent import percent


def failing(facts: QueueFacts, limits: Thresholds) -> Iterable[Condition]:
    name, rule = facts.queue.name, BY_NAME[rules.FAILING]
    above, ends_at = limits.limit(rules.FAILING, name), limits.ends_at(rules.FAILING, name)
    breach = failure_breach(facts.history, above, ends_at, rule.minimum, facts.ended_at(rules.FAILING))
    if breach is not None and breach.has_ended:
        yield Condition(rules.FAILING, name, "", has_ended=True)
    elif breach is not None:
        limit = describe_limit(breach.value, above, ends_at, rule.unit)
        message = f"{percent(breach.value)} of attempts failed, {limit}"
        yield Condition(rules.FAILING, name, message, breach.since, breach.value, above)


def backlog(facts: QueueFacts, limits: Thresholds) -> Iterable[Condition]:
    name = facts.queue.name
    above, ends_at = limits.limit(rules.BACKLOG, name), limits.ends_at(rules.BACKLOG, name)
    breach = depth_breach(facts.history, above, ends_at, facts.ended_at(rules.BACKLOG))
    if breach is not None and breach.has_ended:
        yield Condition(rules.BACKLOG, name, "", has_ended=True)
    elif breach is not None:
        depth, since = facts.queue.depth, _backlog_since(facts, breach)
        message = f"{depth} queued, {describe_limit(depth, above, ends_at)}"
        yield Condition(rules.BACKLOG, name, message, since, depth, above)


def _backlog_since(facts: QueueFacts, breach: Breach) -> float | None:
    """Return when it began: if no process wrote the history, the first job too many is as old as the backlog.

    Its age is by its producer's clock, so it counts back to the last point before the breach only: that is by
    the server's.  None if neither is known.
    """
    before = bisect_left(facts.history.times, breach.since)
    earliest = max(facts.history.times[before - 1] if before else 0.0, facts.ended_at(rules.BACKLOG))
    waited_seconds = age_of_job(facts.overview.first_excess, facts.overview.now)
    since = breach.since
    if waited_seconds is not None:
        since = min(since, max(earliest, facts.overview.now - waited_seconds))
    return since if since < facts.history.now.at else None


@dataclass(slots=True)
class LatencyEvaluator:
    """The condition *slow* of one queue, and its baselines."""

    readers: Mapping[str, LatencyReader]

    @classmethod
    def make(cls) -> LatencyEvaluator:
        """Make one reader for each kind of duration."""
        return cls({kind: LatencyReader(buckets) for kind, buckets in KINDS.items()})

    def evaluate(
        self,
        queue: str,
        history: History,
        last_week: Sequence[Point],
        limits: Thresholds,
        ended: Mapping[str, float],
    ) -> tuple[dict[str, float | None], list[Condition]]:
        """Return the baseline by kind, seconds, and the condition of each kind that is slow."""
        rule = BY_NAME[rules.SLOW]
        above, ends_at = limits.limit(rules.SLOW, queue), limits.ends_at(rules.SLOW, queue)
        baselines: dict[str, float | None] = {}
        conditions = []
        for kind, reader in self.readers.items():
            pinned = limits.baselines.get(f"{queue}:{kind}")
            condition = Condition(rules.SLOW, queue, "", subject=kind)
            baselines[kind], breach = reader.baseline(
                history,
                last_week,
                pinned,
                (above, ends_at, rule.minimum),
                ended.get(condition.key, 0.0),
            )
            if breach is not None and breach.has_ended:
                conditions.append(replace(condition, has_ended=True))
            elif breach is not None:
                times = breach.value / breach.baseline
                message = (
                    f"{kind} p95 {duration(breach.value)}, usually {duration(breach.baseline)}:"
                    f" {times:.{0 if times >= 99.5 else 1}f} times, {describe_limit(times, above, ends_at)}"
                )
                conditions.append(Condition(rules.SLOW, queue, message, breach.since, times, above, kind))
        return baselines, conditions
