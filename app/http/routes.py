"""All routes, once: they are served and described from this table."""

from __future__ import annotations

import orjson

from app.http import filters
from app.http.openapi import document
from app.http.route import Answer, Call, Reply, Route
from app.http.routers import (
    cache,
    health,
    jobs,
    metrics,
    queues,
)
from app.http.routers import (
    dead_letters as letters,
)
from app.http.routers import (
    replays as plans,
)
from app.http.routers import (
    workers as drain,
)

FAILED = "/api/v1/admin/failed-jobs"


async def openapi(call: Call) -> Reply:
    """This table, for programs."""
    return Reply(orjson.dumps(document(ROUTES, call.context.version)))


ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        "/livez",
        "Whether the process answers; no server is asked.",
        health.livez,
        {
            200: Answer("It does.", health.Alive),
            503: Answer("A dispatcher stands, although Redis answers.", health.Alive),
        },
        open=True,
    ),
    Route(
        "GET",
        "/readyz",
        "Whether the process takes jobs.",
        health.readyz,
        {
            200: Answer("It does.", health.Ready),
            503: Answer("It drains, a queue makes no progress, or Redis does not answer.", health.Ready),
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
        "GET",
        "/api/v1/personalization/users/{user_id}",
        "What a user is shown for a place and a time, read through the cache.",
        cache.payload,
        {200: Answer("The payload, and where it came from.", cache.Personalized)},
        path_model=cache.UserPath,
        slashes=True,
        query=cache.PayloadQuery,
        problems=(503,),
    ),
    Route(
        "DELETE",
        "/api/v1/cache/users/{user_id}",
        "Invalidate all that the cache has of a user, in all processes.",
        cache.invalidate,
        {200: Answer("How many entries there were.", cache.Removed)},
        path_model=cache.UserPath,
        slashes=True,
        problems=(403, 503),
    ),
    Route(
        "POST",
        "/api/v1/admin/queues/{queue}/pause",
        "Start nothing of a queue, in any process, until it is resumed.",
        queues.pause,
        {200: Answer("It is paused: by whom, why and since when.", queues.Paused)},
        path_model=jobs.QueuePath,
        body=queues.Reason,
        body_optional=True,
        problems=(403, 503),
    ),
    Route(
        "POST",
        "/api/v1/admin/queues/{queue}/resume",
        "Let a paused queue start jobs again.",
        queues.resume,
        {200: Answer("It runs.", queues.Resumed)},
        path_model=jobs.QueuePath,
        problems=(403, 503),
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
    Route(
        "GET",
        FAILED,
        "Dead letters, the newest first.",
        letters.page,
        {200: Answer("One page.", letters.Letters)},
        query=filters.ListQuery,
        problems=(503,),
    ),
    Route(
        "GET",
        f"{FAILED}/groups",
        "Dead letters by failure, the largest groups first.",
        letters.groups,
        {200: Answer("The groups.", letters.Groups)},
        query=filters.GroupsQuery,
        problems=(503,),
    ),
    Route(
        "POST",
        f"{FAILED}/retry",
        "Retry dead letters by a plan: exactly what is dead and meant at this moment.",
        letters.retry,
        {
            200: Answer("A dry run: what would be retried.", letters.Previewed),
            202: Answer("The plan, which is carried out from now on.", plans.PlanNow),
        },
        body=letters.Retry,
        problems=(403, 404, 409, 503),
    ),
    Route(
        "POST",
        f"{FAILED}/discard",
        "Hide dead letters.",
        letters.discard,
        {200: Answer("How many were hidden.", letters.Moved)},
        body=filters.SelectionBody,
        problems=(403, 404, 503),
    ),
    Route(
        "POST",
        f"{FAILED}/restore",
        "Undo a discard.",
        letters.restore,
        {200: Answer("How many are dead letters again.", letters.Moved)},
        body=filters.SelectionBody,
        problems=(403, 404, 503),
    ),
    Route(
        "GET",
        plans.PLANS,
        "Replay plans, the newest first.",
        plans.plans,
        {200: Answer("The plans.", plans.Plans)},
        query=plans.PlansQuery,
        problems=(503,),
    ),
    Route(
        "GET",
        f"{plans.PLANS}/{{id}}",
        "How a plan stands.",
        plans.show,
        {200: Answer("The plan with its ledger.", plans.PlanNow)},
        path_model=plans.PlanPath,
        problems=(503,),
    ),
    Route(
        "GET",
        f"{plans.PLANS}/{{id}}/letters",
        "The letters of a plan, and what became of them.",
        plans.items,
        {200: Answer("One page.", plans.Items)},
        path_model=plans.PlanPath,
        query=plans.ItemsQuery,
        problems=(503,),
    ),
    Route(
        "POST",
        f"{plans.PLANS}/{{id}}/run",
        "Carry a plan out, or go on with it where it was left.",
        plans.run,
        {202: Answer("It is carried out from now on.", plans.PlanNow)},
        path_model=plans.PlanPath,
        body=plans.Resumed,
        body_optional=True,
        problems=(403, 409, 503),
    ),
    Route(
        "POST",
        f"{plans.PLANS}/{{id}}/pause",
        "Enqueue no more of a plan until it is run again.",
        plans.pause,
        {200: Answer("The plan.", plans.PlanNow)},
        path_model=plans.PlanPath,
        problems=(403, 409, 503),
    ),
    Route(
        "POST",
        f"{plans.PLANS}/{{id}}/cancel",
        "Enqueue no more of a plan, ever.",
        plans.cancel,
        {200: Answer("The plan.", plans.PlanNow)},
        path_model=plans.PlanPath,
        problems=(403, 409, 503),
    ),
    Route(
        "GET",
        f"{FAILED}/{{id}}",
        "A dead letter, with its payload and all of its attempts.",
        letters.show,
        {200: Answer("The letter.", letters.Letter)},
        path_model=letters.LetterPath,
        problems=(503,),
    ),
    Route(
        "POST",
        f"{FAILED}/{{id}}/retry",
        "Retry a dead letter, under its own key.",
        letters.retry_one,
        {202: Answer("Enqueued.", letters.Retried)},
        path_model=letters.LetterPath,
        body=letters.Edited,
        body_optional=True,
        problems=(403, 409, 503),
    ),
)
