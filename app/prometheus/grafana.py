"""The Grafana dashboard, as the JSON that Grafana imports and provisions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

from app.prometheus.panels import CLUSTER, QUEUES, ROWS, WIDTH, Panel, Query, Row

UID = "couturecast"
_SCHEMA_VERSION = 39
"""The schema of Grafana 11; newer ones migrate it."""
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_ANY = ".*"
"""The value of *All*: it matches series without the label, too."""


def dashboard_json() -> str:
    """Return the dashboard as text."""
    return json.dumps(dashboard_document(), indent=2, ensure_ascii=False) + "\n"


def dashboard_document() -> dict[str, Any]:
    """Return the dashboard."""
    return {
        "uid": UID,
        "title": "CoutureCast queues",
        "tags": ["couturecast"],
        "schemaVersion": _SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": [_annotation(*mark) for mark in _MARKS]},
        "templating": {"list": _variables()},
        "panels": list(_panels(ROWS)),
    }


_BUILDS = f"count by (release) (couturecast_build_info{{{CLUSTER}}}"
_MARKS = (
    (
        "Alerts that fire",
        "red",
        "{{alertname}}",
        "{{queue}}",
        f'ALERTS{{alertname=~"CoutureCast.*", alertstate="firing", {CLUSTER}}}',
    ),
    ("Deploys", "blue", "release {{release}}", "", f"{_BUILDS}) unless {_BUILDS} offset 2m)"),
    (
        "Drains",
        "purple",
        "drain",
        "{{instance}}",
        f"max by (instance) (couturecast_drain_deadline_seconds{{{CLUSTER}}})",
    ),
    (
        "Pauses",
        "yellow",
        "paused",
        "{{queue}}",
        f"max by (queue) (couturecast_queue_paused{{{QUEUES}}}) > 0",
    ),
    ("Replays", "green", "replay", "", f'max(couturecast_replay_plans{{{CLUSTER}, state="running"}}) > 0'),
)
"""Marks on every chart: name, colour, title, text, and a query that has a value for as long as it lasts."""


def _annotation(name: str, color: str, title: str, text: str, expression: str) -> dict[str, Any]:
    return {
        "name": name,
        "datasource": _DATASOURCE,
        "enable": True,
        "iconColor": color,
        "expr": expression,
        "step": "15s",
        "titleFormat": title,
        "textFormat": text,
        "tagKeys": "severity",
    }


def _variables() -> list[dict[str, Any]]:
    source = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "hide": 0,
    }
    return [
        source,
        _variable("environment", "Environment", "label_values(couturecast_build_info, environment)"),
        _variable("instance", "Process", f"label_values(couturecast_build_info{{{CLUSTER}}}, instance)"),
        _variable("queue", "Queue", f"label_values(couturecast_queue_depth{{{CLUSTER}}}, queue)"),
    ]


def _variable(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": _ANY,
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _panels(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Yield the rows and their panels, each with its place in the grid."""
    ids, top = count(1), 0
    for row in rows:
        yield {
            "id": next(ids),
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1},
            "panels": [],
        }
        top += 1
        left = height = 0
        for panel in row.panels:
            if left + panel.width > WIDTH:
                left, top, height = 0, top + height, 0
            position = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            yield {"id": next(ids), "gridPos": position, **_panel(panel)}
            left, height = left + panel.width, max(height, panel.height)
        top += height


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "targets": [
            _target(query, letter, instant=panel.kind != "timeseries")
            for query, letter in zip(panel.queries, "ABCDEF", strict=False)
        ],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": _overrides(panel)},
        "options": _OPTIONS[panel.kind],
        **({"transformations": _TABLE} if panel.kind == "table" else {}),
    }


def _target(query: Query, letter: str, *, instant: bool) -> dict[str, Any]:
    return {
        "refId": letter,
        "datasource": _DATASOURCE,
        "expr": query.expression,
        "legendFormat": query.legend,
        "instant": instant,
        "range": not instant,
        "format": "table" if instant and not query.legend else "time_series",
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.red_from is not None:
        steps.append({"color": "red", "value": panel.red_from})
    if panel.red_below is not None:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": panel.red_below}]
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "min": 0,
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    if panel.kind == "timeseries":
        defaults["custom"] = {"lineWidth": 1, "fillOpacity": 8, "showPoints": "never", "spanNulls": False}
    return defaults


def _overrides(panel: Panel) -> list[dict[str, Any]]:
    dashed = {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [6, 6]}}
    unfilled = {"id": "custom.fillOpacity", "value": 0}
    return [
        {"matcher": {"id": "byFrameRefID", "options": letter}, "properties": [dashed, unfilled]}
        for query, letter in zip(panel.queries, "ABCDEF", strict=False)
        if query.dashed
    ]


_OPTIONS: dict[str, dict[str, Any]] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "none",
        "textMode": "value",
    },
    "table": {"showHeader": True},
}
_TABLE = [{"id": "organize", "options": {"excludeByName": {"Time": True, "Value": True}}}]
