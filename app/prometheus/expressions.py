"""The condition of each alert and the recorded figures, in PromQL.

Figures of queues and of the cluster are equal in every process, so the largest is taken, never the sum.
Limits are read from our own metrics, so a changed setting changes the rules, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workers.monitoring import alert_rules as rules
from workers.monitoring.alert_rules import BASELINE_FLOOR_SECONDS, BY_NAME, SLOW_FLOOR_SECONDS

P95 = "queue:couturecast_latency_seconds:p95_5m"
MINUTE_P95 = "queue:couturecast_latency_seconds:p95_1m"
BASELINE = "queue:couturecast_latency_seconds:baseline"
LATENCY_JOBS = "queue:couturecast_latency_jobs:increase_5m"
ATTEMPTS_ENDED = "queue:couturecast_attempts_ended:increase_5m"
KINDS = ("wait", "run")
"""Values of the label ``kind`` of these, but the last."""

_BASELINE_MINUTES = 5
"""Minutes with jobs that a baseline needs, as in `breaches`."""


def alert_name(name: str) -> str:
    """Return the name of an alert in Prometheus: ``CoutureCastNoWorker`` for ``no_worker``."""
    return "CoutureCast" + "".join(part.capitalize() for part in name.split("_"))


@dataclass(frozen=True, slots=True)
class Expressions:
    """``labels`` distinguish several clusters that one Prometheus scrapes: labels of its targets."""

    labels: tuple[str, ...] = ()

    def recordings(self) -> list[tuple[str, Mapping[str, str], str]]:
        """Return name, labels and expression of each recorded figure that an alert reads, in their order."""
        increases = (
            self._increase(f"couturecast_{name}_total") for name in ("jobs_completed", "attempts_failed")
        )
        recordings: list[tuple[str, Mapping[str, str], str]] = [(ATTEMPTS_ENDED, {}, " + ".join(increases))]
        for kind in KINDS:
            metric = f"couturecast_queue_{kind}_seconds"
            recordings += [
                (P95, {"kind": kind}, f"{self._percentile(kind, '5m')} >= 0"),
                (LATENCY_JOBS, {"kind": kind}, self._increase(f"{metric}_count")),
                (BASELINE, {"kind": kind}, self._baseline(kind)),
            ]
        return recordings

    def minute_recordings(self) -> list[tuple[str, Mapping[str, str], str]]:
        """Return the recordings of once a minute: the baseline is their median."""
        return [(MINUTE_P95, {"kind": kind}, self._minute(kind)) for kind in KINDS]

    def of_alert(self, name: str) -> str:
        """Return the condition of an alert; for one without a figure, the result of our processes."""
        conditions = {
            rules.REDIS: f"min{self._by_labels()}(couturecast_redis_writable) == 0",
            rules.DATABASE: f"min{self._by_labels()}(couturecast_database_writable) == 0",
            rules.REDIS_EVICTION: f"{self._largest('redis_evicts_jobs')} == 1",
            rules.BLOCKED: self._largest('processes{state="blocked"}') + " > 0",
            rules.NO_WORKER: f"{self._queue('workers')} == 0",
            rules.HELD_BY_DEAD: f"{self._queue('held_by_dead')} > 0",
            rules.BROKEN_KEYS: f"{self._queue('broken_keys')} > 0",
            rules.LETTERS_WAITING: (
                f"{self._largest('letters_oldest_age_seconds')}"
                f" > {self._on_labels()} {self._limit(rules.LETTERS_WAITING)}"
            ),
            rules.REDIS_MEMORY: self._memory(),
            rules.BACKLOG: self._until_end(rules.BACKLOG, self._queue("depth"), "queue"),
            rules.FAILING: self._failing(),
            rules.SLOW: self._slow(),
        }
        return conditions.get(name) or self._found_by_us(name)

    def _memory(self) -> str:
        share = f"{self._largest('redis_memory_used_bytes')} / {self._largest('redis_memory_limit_bytes')}"
        return self._until_end(rules.REDIS_MEMORY, share)

    def _failing(self) -> str:
        share = self._until_end(rules.FAILING, self._queue("failure_ratio"), "queue")
        minimum = BY_NAME[rules.FAILING].minimum
        return f"(\n{_indent(share)}\n)\nand {self._on_labels('queue')} {ATTEMPTS_ENDED} >= {minimum}"

    def _slow(self) -> str:
        on = self._on_labels("queue", "kind")

        def times_baseline(metric: str) -> str:
            limit = self._limit(rules.SLOW, "queue", metric=metric)
            return f"({BASELINE}\n    * {self._on_labels('queue')} group_left () {limit})"

        above = f"{P95}\n  > {on} {times_baseline('alert_limit')}\n  > {SLOW_FLOOR_SECONDS}"
        above_end = f"{P95}\n  > {on} {times_baseline('alert_end_limit')}"
        either = f"{above}\n{_while_alert(rules.SLOW, above_end, on)}"
        minimum = BY_NAME[rules.SLOW].minimum
        return f"(\n{_indent(either)}\n)\nand {on} {LATENCY_JOBS} >= {minimum}"

    def _until_end(self, name: str, figure: str, *labels: str) -> str:
        """Return the condition: above the limit, or the lower figure once it is an alert or pending."""
        on = self._on_labels(*labels)
        above = f"{figure}\n  > {on} {self._limit(name, *labels)}"
        above_end = f"{figure}\n  > {on} {self._limit(name, *labels, metric='alert_end_limit')}"
        return f"{above}\n{_while_alert(name, above_end, on)}"

    def _found_by_us(self, name: str) -> str:
        labels = ("queue",) if BY_NAME[name].of_queue else ()
        return f'max{self._by_labels(*labels)}(couturecast_alert{{alert="{name}"}}) == 1'

    def _minute(self, kind: str) -> str:
        """Return the percentile of one minute; minutes in which the queue is slow do not count."""
        percentile = f"{self._percentile(kind, '1m')} >= 0"
        return f"({percentile})\nunless {self._on_labels('queue')} {_alerts(rules.SLOW, kind=kind)}"

    def _baseline(self, kind: str) -> str:
        """Return our baseline (pinned values, the last week), else the same median of the last hour."""
        minutes = f'{MINUTE_P95}{{kind="{kind}"}}[55m] offset 5m'
        return (
            f"{self._queue(f'{kind}_baseline_seconds')}\n"
            f"or {self._on_labels('queue')}\n"
            f"(\n  clamp_min(quantile_over_time(0.5, {minutes}), {BASELINE_FLOOR_SECONDS})\n"
            f"  and count_over_time({minutes}) >= {_BASELINE_MINUTES}\n)"
        )

    def _percentile(self, kind: str, window: str) -> str:
        buckets = f"increase(couturecast_queue_{kind}_seconds_bucket[{window}])"
        return f"histogram_quantile(0.95, max{self._by_labels('queue', 'le')}({buckets}))"

    def _increase(self, counter: str) -> str:
        return f"max{self._by_labels('queue')}(increase({counter}[5m]))"

    def _queue(self, name: str) -> str:
        return f"max{self._by_labels('queue')}(couturecast_queue_{name})"

    def _largest(self, name: str) -> str:
        return f"max{self._by_labels()}(couturecast_{name})"

    def _limit(self, name: str, *labels: str, metric: str = "alert_limit") -> str:
        return f'max{self._by_labels(*labels)}(couturecast_{metric}{{alert="{name}"}})'

    def _by_labels(self, *labels: str) -> str:
        names = ", ".join((*labels, *self.labels))
        return f" by ({names}) " if names else ""

    def _on_labels(self, *labels: str) -> str:
        return f"on ({', '.join((*labels, *self.labels))})"


def _alerts(name: str, **labels: str) -> str:
    matchers = ", ".join(f'{label}="{value}"' for label, value in labels.items())
    return f'ALERTS{{alertname="{alert_name(name)}"{", " if matchers else ""}{matchers}}}'


def _while_alert(name: str, condition: str, on: str) -> str:
    return f"or (\n{_indent(condition)}\n  and {on} {_alerts(name)}\n)"


def _indent(lines: str) -> str:
    return "\n".join(f"  {line}" for line in lines.split("\n"))
