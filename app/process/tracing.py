"""Spans by OpenTelemetry, if the extra ``otel`` is installed and an endpoint is configured.

Names and attributes are those of https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/.
A thread sends the spans; if the collector does not take them, they are dropped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from workers.engine.tracing import Attempt, set_tracer

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

log = structlog.get_logger(__name__)

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_FLUSH_SECONDS = 2.0
"""Longest wait for the collector at the end of the process."""
_SYSTEM = "saq"


def start_tracing(environment: Mapping[str, str], release: str) -> Callable[[], None] | None:
    """Make spans from now on; return the function that ends that, None if no endpoint is configured."""
    if not any(environment.get(name) for name in _ENDPOINTS):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning("no tracing: install couturecast-tui[otel], or unset the endpoint", setting=_ENDPOINTS[0])
        return None
    attributes = {"service.version": release}
    if not environment.get("OTEL_SERVICE_NAME"):
        attributes["service.name"] = "couturecast-tui"
    provider = TracerProvider(resource=Resource.create(attributes), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    set_tracer(OpenTelemetryTracer(provider))

    def stop() -> None:
        set_tracer(None)
        flushing = threading.Thread(target=provider.shutdown, name="sends the last spans", daemon=True)
        flushing.start()
        flushing.join(_FLUSH_SECONDS)

    return stop


class OpenTelemetryTracer:
    """Makes the spans of producers and of attempts."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer = provider.get_tracer("couturecast-tui")
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def send(self, queue: str, count: int | None) -> Iterator[str]:
        """Trace a producer; yield the context of its span."""
        from opentelemetry.trace import SpanKind

        attributes: dict[str, str | int] = _attributes(queue, "send")
        if count is not None and count != 1:
            attributes["messaging.batch.message_count"] = count
        with self._tracer.start_as_current_span(
            f"send {queue}", kind=SpanKind.PRODUCER, attributes=attributes
        ):
            yield self._current()

    @contextmanager
    def process(self, attempt: Attempt) -> Iterator[str]:
        """Trace an attempt; yield the context of its span."""
        from opentelemetry.context import Context
        from opentelemetry.trace import Link, SpanKind, get_current_span

        parent = self._propagator.extract({"traceparent": attempt.producer or ""}, context=Context())
        earlier = self._propagator.extract({"traceparent": attempt.previous or ""}, context=Context())
        previous = get_current_span(earlier).get_span_context()
        attributes = _attributes(attempt.queue, "process") | {
            "messaging.message.id": attempt.key,
            "couturecast.attempt": attempt.number,
        }
        with self._tracer.start_as_current_span(
            f"process {attempt.queue}",
            context=parent,
            kind=SpanKind.CONSUMER,
            attributes=attributes,
            links=[Link(previous)] if previous.is_valid else [],
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield self._current()
            except BaseException as error:
                _fail(span, error)
                raise

    def _current(self) -> str:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier.get("traceparent", "")


def _attributes(queue: str, operation: str) -> dict[str, str | int]:
    return {
        "messaging.system": _SYSTEM,
        "messaging.destination.name": queue,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
    }


def _fail(span: Span, error: BaseException) -> None:
    """Give the span the error's type; its message may hold what only dead letters should."""
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("error.type", type(error).__qualname__)
    span.set_status(Status(StatusCode.ERROR))
