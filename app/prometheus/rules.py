"""Prometheus' rules, made of the table of alerts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.prometheus.expressions import Expressions, alert_name
from workers.monitoring.alert_rules import DEFAULTS, NO_WORKER, RULES, AlertRule, Thresholds

RUNBOOK_URL = "docs/operating.md"
DASHBOARD_URL = "/d/couturecast"

_UNITS = {"s": "{:g} s", "share": "{:g} %", "times": "{:g}", "jobs": "{:g}"}
_FIGURES = {
    "s": "{{ $value | humanizeDuration }}",
    "share": "{{ $value | humanizePercentage }}",
    "times": "p95 {{ $value | humanizeDuration }}",
    "jobs": "{{ $value | humanize }} jobs",
}
_ABSENT = "CoutureCastAbsent"
_ABSENT_FOR = "1m"
"""A restart of Prometheus, or of the only process, takes less."""


def rules_document(
    *,
    runbook_url: str = RUNBOOK_URL,
    dashboard_url: str = DASHBOARD_URL,
    labels: Sequence[str] = (),
    thresholds: Thresholds = DEFAULTS,
) -> dict[str, Any]:
    """Return the groups of rules; ``labels``: see `Expressions`.  Alerts for information only are left out.

    Limits are read from the metrics, the durations of ``thresholds`` are part of the rules.
    """
    expressions = Expressions(tuple(labels))
    links = {"runbook_url": runbook_url, "dashboard_url": dashboard_url}
    alerts = [
        _alert(rule, expressions, links, thresholds.for_seconds(rule.name))
        for rule in RULES
        if rule.severity != "information"
    ]
    return {
        "groups": [
            {
                "name": "couturecast-minutes",
                "interval": "1m",
                "rules": _recordings(expressions.minute_recordings()),
            },
            {
                "name": "couturecast",
                "rules": [*_recordings(expressions.recordings()), *alerts, _absent_alert(links)],
            },
        ]
    }


def _recordings(recordings: Sequence[tuple[str, Mapping[str, str], str]]) -> list[dict[str, Any]]:
    return [
        {"record": name, "expr": expression, **({"labels": dict(labels)} if labels else {})}
        for name, labels, expression in recordings
    ]


def _alert(
    rule: AlertRule, expressions: Expressions, links: Mapping[str, str], for_seconds: float
) -> dict[str, Any]:
    queue = " {{ $labels.queue }}" if rule.of_queue else ""
    kind = " ({{ $labels.kind }})" if rule.unit == "times" else ""
    return {
        "alert": alert_name(rule.name),
        "expr": expressions.of_alert(rule.name),
        **({"for": _duration(for_seconds)} if for_seconds else {}),
        "labels": {"severity": rule.severity, "alert": rule.name},
        "annotations": {
            "summary": f"{rule.title}:{queue}{kind}" if queue else rule.title,
            "description": _describe(rule),
            **_links(rule, links),
        },
    }


def _duration(seconds: float) -> str:
    """Write seconds as Prometheus reads them: its numbers are whole."""
    whole, rest = divmod(round(seconds * 1000), 1000)
    return f"{whole}s" + (f"{rest}ms" if rest else "")


def _describe(rule: AlertRule) -> str:
    breach = rule.breach
    if rule.limit is not None:
        limit = rule.limit * 100 if rule.unit == "share" else rule.limit
        breach = breach.format(limit=_UNITS[rule.unit].format(limit))
    condition = f"{'By default it' if rule.limit is not None else 'It'} fires when {breach}."
    end = f" It ends when {rule.end}."
    now = f" Now: {_FIGURES[rule.unit]}." if rule.unit and rule.name != "stalled" else ""
    return f"{condition}{end}{now}"


def _links(rule: AlertRule, links: Mapping[str, str]) -> dict[str, str]:
    query = "?var-queue={{ $labels.queue }}" if rule.of_queue else ""
    return {
        "runbook_url": f"{links['runbook_url']}#{rule.name}",
        "dashboard_url": f"{links['dashboard_url']}{query}",
    }


def _absent_alert(links: Mapping[str, str]) -> dict[str, Any]:
    """Return the alert that only Prometheus has: if no process answers, none can find that out for itself."""
    return {
        "alert": _ABSENT,
        "expr": "absent(couturecast_build_info)",
        "for": _ABSENT_FOR,
        "labels": {"severity": "critical", "alert": "absent"},
        "annotations": {
            "summary": "Prometheus gets no figures of couturecast-tui",
            "description": "It fires when no process answers a scrape. It ends when one does.",
            "runbook_url": f"{links['runbook_url']}#{NO_WORKER}",
            "dashboard_url": links["dashboard_url"],
        },
    }
