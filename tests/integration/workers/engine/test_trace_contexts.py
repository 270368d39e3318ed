"""The contexts that a job carries from its producer to its attempts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.support.engine import Bench, MakeBench
from tests.support.waiting import eventually
from workers.engine import wire
from workers.engine.tracing import Attempt, set_tracer
from workers.operations.enqueueing import Enqueueing, NewJob

QUEUE = "color-extraction"


class NotingTracer:
    """Numbers its contexts, and notes the attempts and their errors."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.errors: list[str] = []

    @contextmanager
    def send(self, queue: str, count: int) -> Iterator[str]:
        yield f"sent {count}"

    @contextmanager
    def process(self, attempt: Attempt) -> Iterator[str]:
        self.attempts.append(attempt)
        try:
            yield f"attempt {attempt.number}"
        except BaseException as error:
            self.errors.append(type(error).__name__)
            raise


@pytest.fixture
def tracer() -> Iterator[NotingTracer]:
    made = NotingTracer()
    set_tracer(made)
    yield made
    set_tracer(None)


def enqueueing(bench: Bench) -> Enqueueing:
    return Enqueueing({QUEUE: bench.queue}, {})


async def fail_once(ctx: dict[str, Any], number: int) -> None:
    if ctx["job"].attempts == 1:
        raise ValueError("told to fail")


async def test_each_attempt_gets_the_context_of_the_producer_and_of_the_attempt_before(
    make_bench: MakeBench, tracer: NotingTracer
) -> None:
    bench = make_bench(retry_delays=(0.0,))
    await bench.start(fail_once)
    await enqueueing(bench).enqueue_many(QUEUE, [NewJob({"number": 1}, "dress-17")])
    await eventually(lambda: len(tracer.attempts) == 2)
    assert tracer.attempts == [
        Attempt(QUEUE, "dress-17", 1, "sent 1", None),
        Attempt(QUEUE, "dress-17", 2, "sent 1", "attempt 1"),
    ]
    assert tracer.errors == ["ValueError"]


@pytest.mark.parametrize(
    "meta", [None, "x", {"couturecast": 1}, {"couturecast": {"trace": 1, "attempt_trace": []}}]
)
async def test_what_other_programs_wrote_there_is_no_context(
    make_bench: MakeBench, tracer: NotingTracer, redis: Redis, meta: object
) -> None:
    bench = make_bench()
    job = await bench.stock.enqueue("extract_colors", number=1)
    assert job is not None
    record = wire.load(await redis.get(job.id))
    await redis.set(job.id, wire.dump(record | {"meta": meta, "attempts": 1}))
    await bench.start(fail_once)
    await eventually(bench.empty)
    (attempt,) = tracer.attempts
    assert (attempt.producer, attempt.previous) == (None, None)
    assert await bench.total("completed") == 1


async def test_without_a_tracer_a_job_carries_nothing(make_bench: MakeBench, redis: Redis) -> None:
    bench = make_bench()
    (key,) = await enqueueing(bench).enqueue_many(QUEUE, [NewJob({"number": 1})])
    assert key is not None
    assert not wire.load(await redis.get(f"saq:job:{QUEUE}:{key}")).get("meta")
