"""Discarding, restoring and archiving letters."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event

from storage.database.engine import Database
from tests.integration.workers.operations.conftest import Operate
from tests.support.engine import MakeBench
from tests.support.letters import letter
from tests.support.plans import NOW, write
from workers.errors import NotFoundError
from workers.operations.operations import ALL_DEAD, LetterFilter


async def test_discard_hides_and_restore_brings_back(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench()
    ids = await write(bench.letters, 10)
    operations = await operate(bench)
    preview = await operations.replays.preview(LetterFilter(since=NOW - timedelta(seconds=4)))
    late = {"queue_name": "color-extraction", "failed_at": NOW}
    await bench.letters.record([letter("late", **late)])
    assert await operations.dead_letters.discard(preview.selection) == preview.total == 4, (
        "and not what came in since"
    )
    assert await operations.dead_letters.discard(preview.selection) == 0
    assert await operations.dead_letters.count() == 7
    assert await operations.dead_letters.restore([*ids[6:8], ids[0]]) == 2
    assert await operations.dead_letters.restore(LetterFilter(queue="color-extraction")) == 2
    assert await operations.dead_letters.count() == 11


async def test_a_restore_is_counted_by_one_query(
    make_bench: MakeBench, operate: Operate, database: Database
) -> None:
    bench = make_bench()
    ids = await write(bench.letters, 10)
    operations = await operate(bench)
    await operations.dead_letters.discard(ids[:6])
    count, statements = operations.dead_letters.count_discarded, list[str]()

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        statements.append(statement)

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    assert await count([ids[7], ids[0], *ids[:6], ids[9]]) == (6, (ids[7], ids[9]))
    event.remove(database.engine.sync_engine, "before_cursor_execute", note)
    assert len([statement for statement in statements if "SELECT" in statement]) == 1
    assert await count(ALL_DEAD) == (6, ())
    assert await operations.dead_letters.restore(ids) == 6
    with pytest.raises(NotFoundError, match="999"):
        await count([ids[0], 999])


async def test_retention_runs_once_a_day_by_one_process(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench()
    old = {"queue_name": "color-extraction"}
    await bench.letters.record(
        [letter(f"old{n}", failed_at=NOW - timedelta(days=31, seconds=n), **old) for n in range(1_200)]
    )
    await bench.letters.record([letter("new", failed_at=NOW - timedelta(days=29), **old)])
    runs = [(await operate(bench)).dead_letters._retention for _ in range(3)]
    assert sorted(await asyncio.gather(*(retention.run_if_due() for retention in runs))) == [0, 0, 1_200]
    assert [letter.uid for letter in (await bench.letters.page()).items] == ["new"]
    assert await bench.letters.count(LetterFilter(archived=True)) == 1_200
    await bench.letters.record([letter("older", failed_at=NOW - timedelta(days=40), **old)])
    assert await runs[0].run_if_due() == 0, "until tomorrow"


async def test_an_id_that_was_archived_is_never_given_again(make_bench: MakeBench, operate: Operate) -> None:
    bench = make_bench()
    ids = await write(bench.letters, 3)
    operations = await operate(bench)
    await operations.dead_letters.archive(days=0)
    await bench.letters.record([letter("next", queue_name="color-extraction")])
    (found,) = (await operations.dead_letters.page()).items
    assert found.id > max(ids)
