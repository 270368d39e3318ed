"""Previews and plans as commands print them."""

from __future__ import annotations

from dataclasses import replace

from app.cli.render.dead_letters import join_some, preview_text
from app.cli.render.plans import items_text, ledger_text, plan_text, plans_text, progress_text
from storage.dead_letters.plans import Ledger, Plan
from tests.unit.app.cli.conftest import AT, GROUP, HOSTILE, control_characters, item
from workers.operations.selection import Preview


def test_a_preview_counts_the_letters_and_names_the_excluded_ones() -> None:
    many = Preview((), 1234, 5, 0, {"alert-fanout": 234, "color-extraction": 1000}, [GROUP], 250.0)
    assert preview_text(many, (), replay=True).split("\n") == [
        "1,234 letters selected",
        "    1,000  color-extraction",
        "      234  alert-fanout",
        "1 group:",
        "    1,234  PermanentError: no file 'dress.jpg'",
        "excluded: 5 letters that died 3 times or more in a row of the same error (--poison includes them)",
        "takes at least 4 min 10 s, by its rate and the queues' own limits",
    ]
    assert "at least" not in preview_text(many, (), replay=False)
    few = Preview((1,), 1, 0, 2, {"alert-fanout": 1}, (), 0.0)
    assert preview_text(few, (2, 3), replay=True) == (
        "1 letter selected, of alert-fanout\nexcluded: 2 letters that are not dead: 2, 3"
    )
    assert join_some(range(12)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 others"


PLAN = Plan(
    actor="ops@box-2",
    reason="shop is open",
    selection={"filter": "queue:color-extraction"},
    canary=10,
    rate=2.5,
    halt=0.2,
    id=12,
    created_at=AT,
    total=1234,
    state="running",
    note="",
    ended_at=None,
    ledger=Ledger(waiting=1000, enqueued=34, completed=190, same=6, other=2, aborted=1, skipped=1),
    active=True,
)


def test_a_plan_shows_its_maker_selection_options_and_ledger() -> None:
    assert plan_text(PLAN).split("\n") == [
        "plan 12 is running",
        "made at 2026-03-01 14:32:07 UTC by ops@box-2: shop is open",
        "of 1,234 letters: queue:color-extraction",
        "canary of 10 first · 2.5 a second · halts when more than 20 % die again",
        "",
        *ledger_text(PLAN.ledger).split("\n"),
    ]
    assert [line.rsplit(maxsplit=1) for line in ledger_text(PLAN.ledger).split("\n")] == [
        ["replayed", "233"],
        ["  completed", "190"],
        ["  running", "34"],
        ["  died, same error", "6"],
        ["  died, other error", "2"],
        ["  aborted", "1"],
        ["skipped", "1"],
        ["waiting", "1,000"],
    ]
    assert progress_text(PLAN.ledger) == "190 completed, 8 died again, 1 skipped"


def test_a_plan_that_no_process_runs_is_interrupted() -> None:
    left = replace(
        PLAN, active=False, halt=1.0, rate=None, canary=0, selection={"ids": [1, 2], "count": 1002}
    )
    assert plan_text(left).startswith(
        "plan 12 is interrupted\nto resume: couturecast-tui failed-jobs resume 12\n"
    )
    assert "letters 1, 2 and 1,000 others" in plan_text(left)
    assert "no canary · no rate limit · never halts" in plan_text(left)
    rows = plans_text([PLAN, left]).split("\n")
    assert [row.split()[3] for row in rows[1:]] == ["running", "interrupted"]
    assert all(len(row) <= 80 for row in plans_text([replace(PLAN, total=10**7)] * 2, width=80).split("\n"))
    assert plans_text([]) == "no plans: failed-jobs replay makes them"


def test_a_plan_is_not_called_running_if_redis_does_not_answer() -> None:
    unknown = replace(PLAN, active=None)
    assert plan_text(unknown).startswith("plan 12 should run: Redis does not answer whether a process")
    assert plans_text([unknown]).split("\n")[1].split()[3] == "unknown"


def test_the_letters_of_a_plan_have_a_row_each() -> None:
    shown = items_text([item(7, "skipped", note=HOSTILE, enqueued_at=None), item(8, "same", kwargs={})])
    head, skipped, same = shown.split("\n")
    assert head.split() == ["letter", "state", "enqueued", "at", "ended", "at"]
    assert skipped.split()[:4] == ["7", "skipped", "–", "–"]
    assert same.split()[:2] == ["8", "same"]
    assert same.endswith("with another payload")
    assert control_characters(shown) == []
    assert items_text([]) == "no letters"
