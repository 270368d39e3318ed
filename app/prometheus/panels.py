"""The rows and panels of the dashboard, with their queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

WIDTH = 24
"""Columns of Grafana's grid."""
SECONDS, SHARE, BYTES, COUNT, RATE = "s", "percentunit", "bytes", "short", "suffix:/s"
CLUSTER = 'environment=~"$environment"'
"""Selects the series of the clusters that are chosen; the next two, those of the queues and processes."""
QUEUES = f'{CLUSTER}, queue=~"$queue"'
PROCESSES = f'{CLUSTER}, instance=~"$instance"'


@dataclass(frozen=True, slots=True)
class Query:
    """``legend`` may hold labels: ``{{queue}}``.  A dashed line is a limit, or what is usual."""

    expression: str
    legend: str
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel; ``width`` and ``height`` are in units of Grafana's grid."""

    title: str
    unit: str
    queries: tuple[Query, ...]
    kind: Literal["timeseries", "stat", "table"] = "timeseries"
    description: str = ""
    width: int = 8
    height: int = 8
    red_from: float | None = None
    """A figure from which a stat is red."""
    red_below: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A title and its panels, from left to right."""

    title: str
    panels: tuple[Panel, ...]


def _by_queue(metric: str) -> str:
    return f"max by (queue) (couturecast_{metric}{{{QUEUES}}})"


def _cluster(aggregate: str, metric: str) -> str:
    return f"{aggregate}(couturecast_{metric}{{{CLUSTER}}})"


def _process_rate(counter: str) -> str:
    return f"rate(couturecast_{counter}_total{{{PROCESSES}}}[$__rate_interval])"


def _queue_rate(counter: str, by: str = "queue") -> str:
    return f"max by ({by}) (rate(couturecast_{counter}_total{{{QUEUES}}}[$__rate_interval]))"


def _limit(alert: str) -> Query:
    return Query(
        f'max by (queue) (couturecast_alert_limit{{alert="{alert}", {QUEUES}}})',
        "{{queue}}: limit",
        dashed=True,
    )


def _stat(title: str, unit: str, expression: str, **options: float | str) -> Panel:
    return Panel(title, unit, (Query(expression, title),), "stat", width=4, height=4, **options)  # type: ignore[arg-type]


def _quarter(title: str, unit: str, *queries: Query) -> Panel:
    return Panel(title, unit, queries, width=WIDTH // 4)


def _latency(kind: str, title: str, text: str) -> Panel:
    buckets = f"rate(couturecast_queue_{kind}_seconds_bucket{{{QUEUES}}}[5m])"
    return Panel(
        title,
        SECONDS,
        (
            Query(f"histogram_quantile(0.95, max by (queue, le) ({buckets}))", "{{queue}}"),
            Query(_by_queue(f"queue_{kind}_baseline_seconds"), "{{queue}}: usual", dashed=True),
        ),
        description=f"{text} The 95th percentile of five minutes; dashed: what it usually is.",
        width=12,
    )


def _percentiles(kind: str, title: str) -> Panel:
    buckets = f"rate(couturecast_queue_{kind}_seconds_bucket{{{QUEUES}}}[5m])"
    quantiles = ((0.5, "median"), (0.99, "p99"))
    return Panel(
        title,
        SECONDS,
        tuple(
            Query(
                f"histogram_quantile({share}, max by (queue, le) ({buckets}))",
                f"{{{{queue}}}}: {name}",
                dashed=share < 0.9,
            )
            for share, name in quantiles
        ),
        width=12,
    )


_ALERTS = _cluster("max by (alert, queue, severity) ", "alert")

ROWS: tuple[Row, ...] = (
    Row(
        "Overview",
        (
            _stat(
                "Alerts",
                COUNT,
                f"count({_cluster('max by (alert, queue) ', 'alert')}) or vector(0)",
                red_from=1,
            ),
            _stat("Ready jobs", COUNT, f"sum({_by_queue('queue_depth')})"),
            _stat("Jobs in flight", COUNT, f"sum({_by_queue('queue_in_flight')})"),
            _stat("Completed", RATE, f"sum({_queue_rate('jobs_completed')})"),
            _stat("Dead letters", COUNT, _cluster("max", "dead_letters")),
            _stat("Living processes", COUNT, _cluster("max", "workers"), red_below=1),
            Panel(
                "Alerts that fire",
                COUNT,
                (Query(_ALERTS, ""),),
                "table",
                "As the program finds them; silenced ones are left out.",
            ),
            Panel(
                "Ready jobs",
                COUNT,
                (Query(_by_queue("queue_depth"), "{{queue}}"), _limit("backlog")),
            ),
            Panel("Completed jobs", RATE, (Query(_queue_rate("jobs_completed"), "{{queue}}"),)),
        ),
    ),
    Row(
        "Latency",
        (
            _latency("wait", "Wait p95", "How long jobs wait for their first attempt."),
            _latency("run", "Run p95", "How long attempts run."),
            _percentiles("wait", "Wait, median and p99"),
            _percentiles("run", "Run, median and p99"),
            Panel(
                "Age of the oldest ready job",
                SECONDS,
                (Query(_by_queue("queue_oldest_age_seconds"), "{{queue}}"),),
                width=12,
            ),
            Panel(
                "Time since a job completed",
                SECONDS,
                (Query(_by_queue("queue_seconds_since_completed"), "{{queue}}"),),
                width=12,
            ),
        ),
    ),
    Row(
        "Failures and dead letters",
        (
            Panel(
                "Share of failed attempts",
                SHARE,
                (Query(_by_queue("queue_failure_ratio"), "{{queue}}"), _limit("failing")),
                description="Of five minutes; dashed: the limit.",
            ),
            Panel(
                "Failed attempts, retries, dead letters",
                RATE,
                (
                    Query(_queue_rate("attempts_failed"), "{{queue}}: failed"),
                    Query(_queue_rate("jobs_retried"), "{{queue}}: retried"),
                    Query(_queue_rate("jobs_dead_lettered"), "{{queue}}: dead-lettered"),
                ),
            ),
            Panel(
                "Lost, returned and aborted",
                RATE,
                (
                    Query(_queue_rate("attempts_lost"), "{{queue}}: lost"),
                    Query(_queue_rate("jobs_returned"), "{{queue}}: returned"),
                    Query(_queue_rate("jobs_aborted"), "{{queue}}: aborted"),
                ),
            ),
            Panel(
                "Dead letters",
                COUNT,
                (
                    Query(_cluster("max", "dead_letters"), "in the database"),
                    Query(_cluster("max", "letters_waiting"), "on their way to it"),
                ),
            ),
            Panel(
                "Age of the oldest letter that waits for the database",
                SECONDS,
                (Query(_cluster("max", "letters_oldest_age_seconds"), "oldest"),),
            ),
            Panel(
                "Repairs",
                RATE,
                (
                    Query(
                        _queue_rate("repairs", by="queue, kind"),
                        "{{queue}}: {{kind}}",
                    ),
                ),
                description="Of what other programs wrote to the keys of a queue.",
            ),
        ),
    ),
    Row(
        "Capacity",
        (
            _quarter("Utilisation", SHARE, Query(_by_queue("queue_utilisation_ratio"), "{{queue}}")),
            _quarter(
                "Jobs in flight",
                COUNT,
                Query(_by_queue("queue_in_flight"), "{{queue}}"),
                Query(_by_queue("queue_concurrency"), "{{queue}}: limit", dashed=True),
            ),
            _quarter("Processes that serve it", COUNT, Query(_by_queue("queue_workers"), "{{queue}}")),
            _quarter("Scheduled jobs", COUNT, Query(_by_queue("queue_scheduled"), "{{queue}}")),
            _quarter(
                "Starts that count against the rate limit",
                COUNT,
                Query(_by_queue("queue_rate_used_starts"), "{{queue}}"),
                Query(_by_queue("queue_rate_limit_starts"), "{{queue}}: limit", dashed=True),
            ),
            _quarter(
                "Until the rate limit admits a start",
                SECONDS,
                Query(_by_queue("queue_rate_wait_seconds"), "{{queue}}"),
            ),
            _quarter(
                "The job that has run for the longest",
                SECONDS,
                Query(_by_queue("queue_oldest_running_seconds"), "{{queue}}"),
                Query(_by_queue("queue_full_seconds"), "{{queue}}: all slots taken"),
            ),
            _quarter(
                "Paused, held by the dead, held by the blocked",
                COUNT,
                Query(_by_queue("queue_paused"), "{{queue}}: paused"),
                Query(_by_queue("queue_held_by_dead"), "{{queue}}: held by the dead"),
                Query(_by_queue("queue_held_by_blocked"), "{{queue}}: held by the blocked"),
            ),
        ),
    ),
    Row(
        "Cache",
        (
            Panel(
                "Reads",
                RATE,
                (
                    Query(
                        f"sum by (outcome) ({_process_rate('cache_reads')})",
                        "{{outcome}}",
                    ),
                ),
            ),
            Panel(
                "Hits",
                SHARE,
                (
                    Query(
                        f'sum(rate(couturecast_cache_reads_total{{outcome="hit", {PROCESSES}}}[5m]))'
                        f" / sum(rate(couturecast_cache_reads_total{{{PROCESSES}}}[5m]))",
                        "share of reads",
                    ),
                ),
            ),
            Panel(
                "Loads",
                RATE,
                (
                    Query(f"sum({_process_rate('cache_loads')})", "loads"),
                    Query(f"sum({_process_rate('cache_load_failures')})", "failed"),
                ),
            ),
        ),
    ),
    Row(
        "Redis and the database",
        (
            Panel(
                "Memory of Redis",
                BYTES,
                (
                    Query(_cluster("max", "redis_memory_used_bytes"), "used"),
                    Query(_cluster("max", "redis_memory_limit_bytes"), "limit", dashed=True),
                ),
                width=12,
            ),
            Panel(
                "Servers",
                COUNT,
                (
                    Query(_cluster("min", "redis_up"), "Redis answers"),
                    Query(_cluster("min", "redis_writable"), "Redis takes writes"),
                    Query(_cluster("min", "database_up"), "the database answers"),
                    Query(_cluster("min", "database_writable"), "the database takes writes"),
                ),
                description="1 if every process finds it so.",
                width=12,
            ),
        ),
    ),
    Row(
        "Processes",
        (
            Panel(
                "Processes by state",
                COUNT,
                (Query(_cluster("max by (state) ", "processes"), "{{state}}"),),
            ),
            Panel(
                "Event-loop lag",
                SECONDS,
                (Query(f"couturecast_event_loop_lag_seconds{{{PROCESSES}}}", "{{instance}}"),),
                description="How late a loop runs a timer: a handler that blocks it shows here.",
            ),
            Panel(
                "Dropped lines of the log",
                RATE,
                (
                    Query(
                        _process_rate("log_lines_dropped"),
                        "{{instance}}",
                    ),
                ),
            ),
            Panel(
                "Versions and releases",
                COUNT,
                (Query(f"max by (instance, version, release) (couturecast_build_info{{{PROCESSES}}})", ""),),
                "table",
                width=WIDTH,
                height=6,
            ),
        ),
    ),
)
