"""The load of the queues, for an autoscaler; open to all, as the health is."""

from __future__ import annotations

from dataclasses import asdict

from pydantic import BaseModel, Field
from redis.exceptions import RedisError

from app.http.dependencies import State
from app.http.models import example
from app.http.problems import RETRY_AFTER, ProblemError, problem_responses
from app.http.routing import open_router
from app.http.state import describe_redis_error
from workers.engine.policy import MAX_PROCESSES
from workers.operations.scaling import QueueLoad

router = open_router("scaling", "/api/v1")


class QueueScaling(BaseModel):
    """One queue, across the cluster."""

    model_config = example(load=1.4, in_flight=5, ready=2, due=0, capacity=5, paused=False)

    load: float = Field(
        description="(in_flight + ready + due) / capacity; of a paused queue in_flight / capacity."
    )
    in_flight: int
    ready: int = Field(description="Jobs ready to run.")
    due: int = Field(description="Jobs whose time has come, and which no process has moved yet.")
    capacity: int = Field(description="Jobs that one process may run at once: the queue's concurrency.")
    paused: bool


class Scaling(BaseModel):
    """All queues, by name."""

    load: float = Field(description="The highest load of a queue: an autoscaler holds it at 1 a process.")
    max_processes: int = Field(MAX_PROCESSES, description="More processes are standbys.")
    queues: dict[str, QueueScaling]


@router.get(
    "/scaling",
    summary="The load of each queue, and the highest",
    response_description="The load, in processes.",
    responses=problem_responses(503),
)
async def scaling(state: State) -> Scaling:
    """One number that an autoscaler can hold at 1 a process."""
    try:
        loads = await state.loads()
    except (RedisError, OSError) as error:
        raise ProblemError(503, describe_redis_error(error), headers=RETRY_AFTER) from None
    return Scaling(
        load=max((queue.load for queue in loads), default=0.0),
        queues={queue.queue: _queue_scaling(queue) for queue in loads},
    )


def _queue_scaling(queue: QueueLoad) -> QueueScaling:
    return QueueScaling(load=queue.load, **asdict(queue))
