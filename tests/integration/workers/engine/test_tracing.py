"""The spans of producers and attempts, and how they refer to each other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed: make test-otel")

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from app.process.tracing import OpenTelemetryTracer
from tests.support.engine import Bench, MakeBench
from tests.support.waiting import eventually
from workers.engine.tracing import set_tracer
from workers.operations.enqueueing import Enqueueing, NewJob

QUEUE = "color-extraction"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    set_tracer(OpenTelemetryTracer(provider))
    yield exporter
    set_tracer(None)


def enqueueing(bench: Bench) -> Enqueueing:
    return Enqueueing({QUEUE: bench.queue}, {})


async def finished(spans: InMemorySpanExporter, count: int) -> list[ReadableSpan]:
    await eventually(lambda: len(spans.get_finished_spans()) >= count)
    return list(spans.get_finished_spans())


async def test_an_attempt_continues_the_trace_of_its_producer_and_a_retry_links_to_the_attempt_before(
    make_bench: MakeBench, spans: InMemorySpanExporter
) -> None:
    bench = make_bench(retry_delays=(0.0,))

    async def work(ctx: dict[str, Any], number: int) -> None:
        if ctx["job"].attempts == 1:
            raise ValueError("secret of the job")

    await bench.start(work)
    await enqueueing(bench).enqueue_many(QUEUE, [NewJob({"number": 1}, "dress-17")])
    sent, first, second = await finished(spans, 3)
    assert (sent.name, sent.kind) == (f"send {QUEUE}", SpanKind.PRODUCER)
    assert (first.name, first.kind) == (f"process {QUEUE}", SpanKind.CONSUMER)
    assert dict(second.attributes or {}) == {
        "messaging.system": "saq",
        "messaging.destination.name": QUEUE,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.message.id": "dress-17",
        "couturecast.attempt": 2,
    }
    for attempt in (first, second):
        assert attempt.parent is not None
        assert attempt.parent.span_id == sent.context.span_id
        assert attempt.context.trace_id == sent.context.trace_id
    assert list(first.links) == []
    (link,) = second.links
    assert link.context.span_id == first.context.span_id
    assert first.status.status_code is StatusCode.ERROR
    assert (first.attributes or {})["error.type"] == "ValueError"
    assert "secret" not in first.to_json(), "messages are for dead letters"
    assert second.status.status_code is not StatusCode.ERROR


async def test_many_jobs_have_one_span_of_their_producer(
    make_bench: MakeBench, spans: InMemorySpanExporter
) -> None:
    bench = make_bench()
    await enqueueing(bench).enqueue_many(QUEUE, [NewJob({"number": number}) for number in range(20)])
    (sent,) = await finished(spans, 1)
    assert (sent.attributes or {})["messaging.batch.message_count"] == 20


async def test_a_timeout_is_the_error_of_its_span(make_bench: MakeBench, spans: InMemorySpanExporter) -> None:
    bench = make_bench(retry_delays=(), timeout=0.2)

    async def work(ctx: dict[str, Any], number: int) -> None:
        await asyncio.sleep(60)

    await bench.start(work)
    await bench.send()
    (attempt,) = await finished(spans, 1)
    assert (attempt.attributes or {})["error.type"] == "CancelledError"
