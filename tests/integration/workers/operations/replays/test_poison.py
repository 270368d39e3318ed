"""A letter that died three times of one error is poison, and no plan has it unless it asks for poison."""

from __future__ import annotations

from typing import Any

from tests.integration.workers.operations.conftest import Operate
from tests.support.engine import MakeBench
from tests.support.letters import letter
from tests.support.plans import Numbers, has_letters, settled_ledger, write
from tests.support.waiting import eventually
from workers.operations.operations import ALL_DEAD, LetterFilter, ReplayOptions


async def test_a_letter_that_died_three_times_of_one_error_is_poison(
    make_bench: MakeBench, operate: Operate
) -> None:
    bench = make_bench(retry_delays=())
    process = await Numbers(fails=lambda number: True).start(bench)
    await bench.send(2)
    await eventually(lambda: has_letters(bench.letters, 2))
    operations = await operate(bench)
    for _ in range(2):
        plan = await operations.replays.create_plan(LetterFilter(args={"number": "0"}))
        await operations.replays.run_plan(plan.id)
        await settled_ledger(operations, plan.id)
    process.begin_drain()
    await process.wait_drained()
    preview = await operations.replays.preview(ALL_DEAD, ReplayOptions())
    assert (preview.total, preview.poison_excluded) == (1, 1)
    (poison,) = (await operations.dead_letters.page(LetterFilter(poison=True))).items
    assert poison.deaths == 3
    plan = await operations.replays.create_plan(ALL_DEAD)
    assert plan.total == 1, "left out"
    await operations.replays.cancel_plan(plan.id)
    assert (await operations.replays.create_plan(ALL_DEAD, ReplayOptions(poison=True))).total == 2, (
        "asked for"
    )
    assert await operations.replays.replay(poison.id), "one that an operator points at is meant"
    assert [letter.deaths for letter, _ in await operations.dead_letters.lineage(poison.id)] == [1, 2, 3]


async def test_another_error_restarts_the_count_of_deaths(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(retry_delays=())
    runs: list[int] = []

    async def fail(ctx: dict[str, Any], number: int) -> None:
        runs.append(number)
        raise RuntimeError("first") if len(runs) < 3 else LookupError("second")

    await bench.start(fail)
    await bench.send()
    operations = await operate(bench)
    for deaths in (1, 2, 1):

        async def died(deaths: int = deaths, run: int = len(runs)) -> Any:
            found = (await operations.dead_letters.page()).items
            return found and found[0].deaths == deaths and found[0]

        dead = await eventually(died)
        if len(runs) < 3:
            await operations.replays.replay(dead.id)


async def test_a_filter_that_asks_for_poison_means_poison(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench(retry_delays=())
    first, second = await write(bench.letters, 2)
    again = {"queue_name": "color-extraction", "function": "extract_colors", "fingerprint": "f" * 16}
    await bench.letters.record([letter("again", replay_of=first, **again)])
    for _ in range(2):
        (newest, *_) = (await bench.letters.page()).items
        await bench.letters.record([letter(f"again{newest.id}", replay_of=newest.id, **again)])
    operations = await operate(bench)
    (poison, *_) = (await operations.dead_letters.page(LetterFilter(poison=True))).items
    for options in (ReplayOptions(), ReplayOptions(poison=True)):
        preview = await operations.replays.preview(LetterFilter(poison=True), options)
        assert preview.total == await operations.dead_letters.count(LetterFilter(poison=True))
        plan = await operations.replays.create_plan(preview.selection, options)
        assert poison.id in [item.letter_id for item in await operations.replays.plan_items(plan.id)]
        assert second not in [item.letter_id for item in await operations.replays.plan_items(plan.id)]
        await operations.replays.cancel_plan(plan.id)
