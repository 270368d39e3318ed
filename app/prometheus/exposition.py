"""Writes all metrics in one of Prometheus' formats.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from app.prometheus.cluster_metrics import CLUSTER_METRICS, PROCESS_METRICS
from app.prometheus.definitions import PREFIX, Facts, MetricDefinition
from app.prometheus.queue_metrics import QUEUE_METRICS
from workers.engine.histogram import BOUNDS_SECONDS
from workers.monitoring.snapshot import Durations

METRICS: tuple[MetricDefinition, ...] = (*QUEUE_METRICS, *CLUSTER_METRICS, *PROCESS_METRICS)
Encoder = Callable[[CollectorRegistry], bytes]

_MAX_EXPOSED_SECONDS = 1000.0
"""Seconds; what is longer is only in ``+Inf``."""
_EXPOSED_BOUNDS = tuple(bound for bound in BOUNDS_SECONDS if bound <= _MAX_EXPOSED_SECONDS)
"""Upper bounds, ten a decade: those of our own percentiles, so that Prometheus finds the same."""


def exposition(facts: Facts, *, encode: Encoder = generate_latest) -> bytes:
    """Return all metrics, each with its HELP line, also if it has no figure now."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(facts))
    return encode(registry)


class _Figures(Collector):
    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics in the order of their table."""
        for definition in METRICS:
            yield _metric(definition, self._facts)


def _metric(definition: MetricDefinition, facts: Facts) -> Metric:
    name, text, labels = f"{PREFIX}{definition.name}", definition.help, definition.labels
    if definition.kind == "histogram":
        histogram = HistogramMetricFamily(name, text, labels=labels)
        for values, durations in definition.read(facts):
            if isinstance(durations, Durations):
                histogram.add_metric(values, _buckets(durations), durations.total_seconds)
        return histogram
    family = GaugeMetricFamily if definition.kind == "gauge" else CounterMetricFamily
    metric = family(name, text, labels=labels)
    for values, value in definition.read(facts):
        if isinstance(value, float | int):
            metric.add_metric(values, value)
    return metric


def _buckets(durations: Durations) -> list[tuple[str, float]]:
    """Return cumulative counts of all durations since the first job, so that any window can be aggregated."""
    counts = (durations.counts.get(number, 0) for number in range(len(_EXPOSED_BOUNDS)))
    buckets = [
        (repr(bound), float(count)) for bound, count in zip(_EXPOSED_BOUNDS, accumulate(counts), strict=True)
    ]
    return [*buckets, ("+Inf", float(sum(durations.counts.values())))]
