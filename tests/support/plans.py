"""Shared by the tests of plans: letters to replay, a handler that notes its jobs, conditions to wait for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from storage.dead_letters.repository import DeadLetterRepository
from tests.support.engine import Bench
from tests.support.letters import letter
from tests.support.waiting import eventually
from workers.operations.operations import ALL_DEAD, Operations
from workers.process.worker_process import WorkerProcess

NOW = datetime.now(UTC)


class Numbers:
    """A handler that notes what it ran, and fails for some numbers."""

    def __init__(self, fails: Callable[[int], bool] = lambda number: False) -> None:
        self.ran: list[int] = []
        self._fails = fails

    async def __call__(self, ctx: dict[str, Any], number: int) -> None:
        self.ran.append(number)
        if self._fails(number):
            raise RuntimeError("told to fail")

    async def start(self, bench: Bench) -> WorkerProcess:
        async def handler(ctx: dict[str, Any], number: int) -> None:
            await self(ctx, number)

        return await bench.start(handler)


async def write(letters: DeadLetterRepository, count: int, **fields: Any) -> list[int]:
    """Letters 0, 1, … of the queue under test, the first died first; their ids."""
    options = {"queue_name": "color-extraction", "function": "extract_colors"} | fields
    await letters.record(
        [
            letter(
                f"u{number}",
                failed_at=NOW - timedelta(seconds=count - number),
                job_data={"kwargs": {"number": number}},
                **options,
            )
            for number in range(count)
        ]
    )
    found = [letter.id for letter in (await letters.page(ALL_DEAD, limit=1_000)).items]
    return list(reversed(found))


async def settled_ledger(operations: Operations, plan_id: int) -> Any:
    """The ledger once no job of the plan runs any more."""

    async def ended() -> Any:
        plan = await operations.replays.get_plan(plan_id)
        return plan if plan.ledger.enqueued == 0 else None

    return (await eventually(ended, what="all jobs have ended")).ledger


async def has_letters(letters: DeadLetterRepository, number: int) -> bool:
    return await letters.count() == number


async def has_sent(operations: Operations, plan_id: int, number: int) -> bool:
    return (await operations.replays.get_plan(plan_id)).ledger.sent >= number


async def is_idle(operations: Operations, plan_id: int) -> bool:
    return not await operations.replays._replayer.active_ids([plan_id])
