"""The dispatcher goes on without channels, after messages that are not text, and after a defect."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest
from saq import Job

from storage.redis.client import execute, make_client
from tests.integration.workers.engine.conftest import has_completed, succeed
from tests.support.engine import MakeBench
from tests.support.waiting import eventually
from workers.engine.keys import WAKE_CHANNEL


async def test_e14_a_user_without_channels_finishes_jobs(make_bench: MakeBench, redis_url: str) -> None:
    """A script does not break off half way if PUBLISH is not allowed."""
    bench = make_bench(retry_delays=(0.05,))
    await execute(bench.redis, "ACL", "SETUSER", "mute", "on", ">secret", "~*", "+@all", "resetchannels")
    bench.url = redis_url.replace("redis://", "redis://mute:secret@")
    runs: Counter[int] = Counter()

    async def work(ctx: dict[str, Any], number: int) -> None:
        runs[number] += 1
        if number and runs[number] == 1:
            raise RuntimeError("once more")

    try:
        await bench.start(work)
        await bench.send(2)
        await eventually(lambda: has_completed(bench, 2))
        await eventually(bench.empty)
        assert runs == {0: 1, 1: 2}
        delayed = Job("extract_colors", kwargs={"number": 5}, scheduled=int(time.time()) + 3600)
        mute = make_client(bench.url)
        assert await type(bench.queue)(mute, bench.policy).enqueue_many([delayed]) == [True]
        await mute.aclose()
    finally:
        await execute(bench.redis, "ACL", "DELUSER", "mute")


async def test_e14_messages_that_are_not_text_wake_no_process_and_end_nothing(make_bench: MakeBench) -> None:
    bench = make_bench()
    process = await bench.start(succeed)
    await eventually(lambda: bench.redis.pubsub_numsub(WAKE_CHANNEL))
    for message in (b"\xff\xfe", b"", b"color-extraction \xff", b"nobody held"):
        await bench.redis.publish(WAKE_CHANNEL, message)
    later = Job("extract_colors", kwargs={"number": 1}, scheduled=int(time.time()) + 1)
    await bench.queue.enqueue_many([later])  # only a nudge says so in time
    await eventually(lambda: has_completed(bench, 1), within=4)
    assert not process.draining


async def test_e14_a_turn_that_fails_by_a_defect_is_tried_again(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench()
    process = await bench.start(succeed)
    dispatcher = process.dispatchers[bench.policy.name]
    await eventually(dispatcher.turned.is_set)
    with monkeypatch.context() as patched:
        patched.setattr(dispatcher, "_handle_take", _raise_defect)
        await bench.send(3)
        await eventually(lambda: dispatcher.overdue_seconds() > 0.3)
        assert not process.draining
    await eventually(lambda: has_completed(bench, 3))
    await eventually(bench.empty)
    assert dispatcher.overdue_seconds() < 5


async def _raise_defect(take: object) -> None:
    raise LookupError("a defect")
