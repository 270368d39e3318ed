"""Which letters a plan or a verb selects, and what a preview counts."""

from __future__ import annotations

import pytest

from storage.errors import InvalidFilterError
from tests.integration.workers.operations.conftest import Operate
from tests.support.engine import MakeBench
from tests.support.letters import letter
from tests.support.plans import write
from workers.errors import ConflictError, NotFoundError, UnknownQueueError
from workers.operations.operations import ALL_DEAD, LetterFilter


async def test_invalid_selections_are_refused(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench()
    ids = await write(bench.letters, 2)
    operations = await operate(bench)
    with pytest.raises(NotFoundError, match="999"):
        await operations.replays.create_plan([ids[0], 999])
    with pytest.raises(NotFoundError, match="999"):
        await operations.dead_letters.discard([999])
    with pytest.raises(UnknownQueueError):
        await operations.replays.create_plan(LetterFilter(queue="nowhere"))
    with pytest.raises(ConflictError, match="nothing to replay"):
        await operations.replays.create_plan(LetterFilter(error="never seen"))
    for verb in (operations.replays.create_plan, operations.replays.preview, operations.dead_letters.discard):
        with pytest.raises(InvalidFilterError, match="restore"):
            await verb(LetterFilter(state="discarded"))
    for missing in (0, -1, 77, 2**63, 2**70):
        with pytest.raises(NotFoundError):
            await operations.replays.get_plan(missing)
        with pytest.raises(NotFoundError):
            await operations.dead_letters.get(missing)
        with pytest.raises(NotFoundError):
            await operations.replays.run_plan(missing)
    with pytest.raises(InvalidFilterError, match="use a filter"):
        await operations.dead_letters.discard(list(range(10_001)))
    assert await operations.dead_letters.count() == 2
    assert await operations.replays.plans() == []


async def test_ids_that_are_named_twice_count_once(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench()
    ids = await write(bench.letters, 2)
    operations = await operate(bench)
    assert (await operations.replays.preview([ids[0], ids[0], ids[1]])).total == 2
    plan = await operations.replays.create_plan([ids[0], ids[0], ids[1]])
    assert plan.total == 2
    assert (await operations.replays.run_plan(plan.id)).ledger.sent == 2


@pytest.mark.slow
async def test_a_preview_counts_the_letters_of_more_groups_than_it_shows(
    make_bench: MakeBench, operate: Operate
) -> None:
    bench = make_bench()
    own = {"queue_name": "color-extraction"}
    await bench.letters.record([letter(f"u{n}", fingerprint=f"{n:016x}", **own) for n in range(1_100)])
    operations = await operate(bench)
    for letter_filter in (ALL_DEAD, LetterFilter(queue="color-extraction")):
        preview = await operations.replays.preview(letter_filter)
        assert (preview.total, preview.queues) == (1_100, {"color-extraction": 1_100})
