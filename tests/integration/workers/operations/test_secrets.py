"""Secrets on their way through the operations: masked for people, whole for jobs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.integration.workers.operations.conftest import Operate
from tests.support.engine import Bench, MakeBench
from tests.support.waiting import eventually
from workers.errors import InvalidJobError
from workers.operations.operations import ALL_DEAD, Operations

KWARGS = {"number": 1, "api_key": "s3cret-key", "url": "https://ops:pa55word@shop.example"}


async def bury(bench: Bench) -> int:
    """The id of the letter of a job whose error names its secret."""

    async def fail(ctx: dict[str, Any], **kwargs: Any) -> None:
        raise RuntimeError(f"refused: api_key={kwargs['api_key']} at {kwargs['url']}")

    process = await bench.start(fail)
    await bench.stock.enqueue(bench.policy.function, **KWARGS)
    await eventually(bench.letters.count)
    process.begin_drain()
    await process.wait_drained()
    return (await bench.letters.page()).items[0].id


async def shown_of(operations: Operations, queue: str, letter_id: int) -> str:
    """All that is returned about the letter, its job, its plans and its events."""
    plans = await operations.replays.plans()
    items = [await operations.replays.plan_items(plan.id) for plan in plans]
    all_events = await operations.events.follow().poll()
    assert all_events, "the error of a new group is in its event"
    jobs = await operations.jobs.page(queue, "failed")
    details = [await operations.jobs.get(queue, job.key) for job in jobs.items]
    found = await asyncio.gather(
        operations.dead_letters.page(),
        operations.dead_letters.get(letter_id),
        operations.dead_letters.groups(),
        operations.dead_letters.lineage(letter_id),
        operations.replays.preview(ALL_DEAD),
        operations.events.page(),
        operations.events.follow().start(100),
    )
    exported = [
        [piece async for piece in operations.dead_letters.export(ALL_DEAD, form)]
        for form in ("jsonl", "csv", "markdown")  # type: ignore[attr-defined]
    ]
    return repr((found, exported, items, jobs, details, all_events, await operations.recent_actions()))


async def test_an_edited_replay_keeps_the_secrets_that_were_not_shown(
    make_bench: MakeBench, operate: Operate
) -> None:
    bench = make_bench(retry_delays=())
    letter_id = await bury(bench)
    operations = await operate(bench)
    masked = (await operations.dead_letters.get(letter_id)).job_data["kwargs"]
    assert masked == {"number": 1, "api_key": "***", "url": "https://ops:***@shop.example"}
    before = await shown_of(operations, bench.policy.name, letter_id)
    with pytest.raises(InvalidJobError, match="other: \\*\\*\\* stands for a secret"):
        await operations.replays.replay(letter_id, masked | {"other": "***"})
    await operations.replays.replay(letter_id, masked | {"number": 2, "token": "a-new-0ne"})
    for shown in (before, await shown_of(operations, bench.policy.name, letter_id)):
        assert not [secret for secret in ("s3cret-key", "pa55word", "a-new-0ne") if secret in shown]
        assert "***" in shown
    revealed = await operations.dead_letters.get(letter_id, reveal=True)
    assert revealed.job_data["kwargs"] == KWARGS
    (job,) = (await operations.jobs.page(bench.policy.name, "ready")).items
    assert (await operations.jobs.get(job.queue, job.key)).payload["api_key"] == "***"
    ran: list[dict[str, Any]] = []

    async def succeed(ctx: dict[str, Any], **kwargs: Any) -> None:
        ran.append(kwargs)

    await bench.start(succeed)
    await eventually(lambda: ran)
    assert ran == [KWARGS | {"number": 2, "token": "a-new-0ne"}]
