"""Makes the files of docs/monitoring and the tables of docs/monitoring.md: ``make monitoring``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from app.prometheus.definitions import MetricDefinition
from app.prometheus.exposition import METRICS
from app.prometheus.grafana import dashboard_json
from app.prometheus.rules import rules_document
from app.prometheus.yaml_text import to_yaml
from tests.support.prometheus import PROJECT

MONITORING = PROJECT / "docs" / "monitoring"
PAGE = PROJECT / "docs" / "monitoring.md"
_SCOPES = {"queue": "Queues", "cluster": "Servers, processes, alerts", "process": "The process that answers"}
_METRIC = re.compile(r"(?<!:)\b(couturecast_\w+)\b(?!:)(?:\{(.*?)\})?")
"""A metric in an expression, and its matchers."""

FILES: Mapping[str, Callable[[], str]] = {
    "dashboard.json": dashboard_json,
    "rules.yml": lambda: f"# Made from the code by `make monitoring`.\n{to_yaml(rules_document())}",
}


def metric_tables() -> str:
    """All metrics, as the tables of the page."""
    return "\n".join(_lines())


def page_with_tables(page: str) -> str:
    """The page, with its tables as the code has them now."""
    return re.sub(
        r"(?<=<!-- metrics: made from the code by `make monitoring` -->\n).*?(?=<!-- end of metrics -->)",
        lambda _: f"{metric_tables()}\n",
        page,
        flags=re.DOTALL,
    )


def _lines() -> Iterator[str]:
    for scope, title in _SCOPES.items():
        yield from (f"### {title}", "", "| metric | type | |", "|---|---|---|")
        yield from (_row(metric) for metric in METRICS if metric.scope == scope)
        yield ""


def _row(metric: MetricDefinition) -> str:
    labels = f"{{{', '.join(metric.labels)}}}" if metric.labels else ""
    return f"| `{metric.full_name}{labels}` | {metric.kind} | {metric.help} |"


def main() -> None:
    """Write the files and the tables."""
    for name, make in FILES.items():
        (MONITORING / name).write_text(make())
    PAGE.write_text(page_with_tables(PAGE.read_text()))


if __name__ == "__main__":
    main()


def check_metrics_exist(expression: str) -> None:
    """Fail unless every metric and label of an expression is one of ours."""
    labels_of = {metric.full_name: {*metric.labels, "le", "instance"} for metric in METRICS}
    for name, matchers in _METRIC.findall(expression):
        known = name if name in labels_of else re.sub(r"_(bucket|count|sum)$", "", name)
        assert known in labels_of, f"there is no metric {name}"
        assert set(re.findall(r"(\w+)=", matchers)) <= labels_of[known]
