"""All routes, once: they are served and described from this table."""

from __future__ import annotations

import orjson

from app.http import drain, health, jobs, metrics
from app.http.openapi import document
from app.http.route import Answer, Call, Reply, Route


async def openapi(call: Call) -> Reply:
    """This table, for programs."""
    return Reply(orjson.dumps(document(ROUTES, call.context.version)))


ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        "/livez",
        "Whether the process answers; no server is asked.",
        health.livez,
        {200: Answer("It does.", health.Alive)},
        open=True,
    ),
    Route(
        "GET",
        "/readyz",
        "Whether the process takes jobs.",
        health.readyz,
        {
            200: Answer("It does.", health.Ready),
            503: Answer("It drains, or Redis does not answer.", health.Ready),
        },
        open=True,
    ),
    Route(
        "GET",
        "/metrics",
        "Figures for Prometheus.",
        metrics.metrics,
        {200: Answer("What is known.", None, metrics.MEDIA_TYPE)},
        open=True,
    ),
    Route(
        "GET",
        "/openapi.json",
        "This description.",
        openapi,
        {200: Answer("OpenAPI 3.1.", None)},
        open=True,
    ),
    Route(
        "GET",
        "/api/v1/health/queues",
        "Depth, latency, failure rate, alerts and their limits, of each queue.",
        health.queues,
        {
            200: Answer("All queues are healthy.", health.Health),
            503: Answer("A queue is unhealthy, or Redis does not answer.", health.Health),
        },
        open=True,
    ),
    Route(
        "POST",
        "/api/v1/queues/{queue}/jobs",
        "Enqueue one job, or a list of jobs: all, or none where one is not valid.",
        jobs.enqueue,
        {202: Answer("Enqueued.", jobs.Accepted)},
        path_model=jobs.QueuePath,
        body=jobs.Job,
        many=jobs.MOST_JOBS,
        problems=(403, 409, 503),
    ),
    Route(
        "POST",
        "/api/v1/admin/drain",
        "Drain this process: what runs may end, nothing new starts, no job is deleted.",
        drain.drain,
        {
            200: Answer("How far the drain is after the wait.", drain.Draining),
            202: Answer("The drain has begun.", drain.Draining),
        },
        query=drain.Wait,
        problems=(403, 409, 503),
    ),
)
