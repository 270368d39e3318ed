"""Replays by plan: the form, the progress, the ledger, the list."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest
from textual.pilot import Pilot
from textual.widgets import Button, DataTable, Input, Static

from tests.support.dashboards import MIDDLE, SIZES, dashboard, letters_view, settled, until
from tests.support.fake_letters import item, plan
from tests.support.fake_moments import HEALTHY, NOW
from tests.support.fake_operations import CannedOperations
from tests.support.letters_view import ask, back, operations, says, shown, write
from tui.app import Dashboard
from tui.dialogs.plan import PlanDialog
from tui.dialogs.plan_letters import PlanLettersDialog
from tui.dialogs.prompt import Prompt
from tui.dialogs.replay_options import ReplayDialog
from tui.screens.dead_letters.letter import LetterScreen
from tui.screens.dead_letters.list import DeadLettersScreen
from tui.screens.replays.plans import PlansScreen
from tui.text import plans as plan_text
from tui.widgets.checkbox import PlainCheckbox
from tui.widgets.group_table import GroupTable
from tui.widgets.letter_table import MarkableLetterTable
from workers.errors import ConflictError
from workers.operations.operations import Ledger, LetterFilter, ReplayOptions

HALTED = plan(
    2,
    state="halted",
    active=False,
    note="3 of 5 died again, limit 20 %",
    ledger=Ledger(waiting=293, completed=2, same=3),
)
DONE = plan(1, state="done", active=False, ledger=Ledger(completed=290, same=6, skipped=2))
INTERRUPTED = plan(3, active=False)
BY_ID = plan(
    4, selection={"ids": [1, 2, 3]}, total=3, canary=0, rate=None, ledger=Ledger(waiting=2, enqueued=1)
)


def with_plans() -> CannedOperations:
    canned = operations()
    canned.letters.kept_plans = [DONE, HALTED, INTERRUPTED, BY_ID]
    states = {3: "same", 4: "skipped"}
    canned.letters.items = [
        item(number, letter_id=5, state=states.get(number, "completed"), note="gone" if number == 4 else None)
        for number in range(1, 131)
    ]
    return canned


async def form(app: Dashboard, pilot: Pilot[Any], *keys: str) -> None:
    """The form, when it has counted."""
    await ask(app, pilot, *keys, screen=ReplayDialog)
    await until(pilot, lambda: not app.screen.query_one("#start", Button).disabled)


async def progress(app: Dashboard, pilot: Pilot[Any]) -> None:
    await until(pilot, lambda: isinstance(app.screen, PlanDialog))
    await until(pilot, lambda: "frozen at" in says(app))


async def opened(app: Dashboard, pilot: Pilot[Any], row: int) -> None:
    """A plan, from the list."""
    await letters_view(app, pilot)
    await ask(app, pilot, "P", screen=PlansScreen)
    await until(pilot, lambda: app.screen.query_one(DataTable).has_focus)
    await pilot.press(*["down"] * row, "enter")
    await progress(app, pilot)


# The form


async def test_marked_letters_are_replayed_by_a_plan_with_the_shown_options() -> None:
    canned = operations()
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        table = cast(MarkableLetterTable, await letters_view(app, pilot))
        await form(app, pilot, "space", "space", "space", "R")
        assert "Replay 3 marked letters" in says(app)
        assert "2 letters in 1 queue" in says(app)
        assert "left out: 1 letter that died too often" in says(app)
        app.screen.query_one("#rate", Input).value = "0.5"
        await until(pilot, lambda: "4.0 s at least" in says(app))
        app.screen.query_one("#canary", Input).value = "1"
        app.screen.query_one("#halt", Input).value = "50"
        await pilot.click("#start")
        await progress(app, pilot)
        assert table.marks == {}
        assert "2 letters, frozen at 2026-03-01 14:32:07 by ops@box-2, and none that came in since" in says(
            app
        )
        await pilot.press("escape")
        await back(app, pilot)
    options = ReplayOptions(canary=1, rate=0.5, halt=0.5)
    assert canned.done == [("plan", (1, 2), options), ("start", 1, None)]


@pytest.mark.slow
async def test_a_plan_of_a_group_has_only_the_counted_letters() -> None:
    canned = operations()
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await pilot.press("g")
        await until(pilot, lambda: app.screen.query_one(GroupTable).has_focus)
        await form(app, pilot, "R")
        assert "Replay this group" in says(app)
        await pilot.press("ctrl+s")
        await progress(app, pilot)
    verb, selection, options = canned.done[0]
    assert (verb, selection.fingerprint, selection.up_to) == ("plan", "f" * 16, 999)
    assert (options.canary, options.rate, options.halt, options.poison) == (5, None, 0.2, False)


@pytest.mark.slow
async def test_A_replays_all_and_the_checkbox_includes_poison() -> None:
    canned = operations()
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await form(app, pilot, "A")
        assert "4 letters in 2 groups and 1 queue" in says(app)
        assert "[ ] also" in str(app.screen.query_one(PlainCheckbox).render())
        await pilot.click("#poison")
        await until(pilot, lambda: "5 letters in" in says(app))
        assert "[X] also" in str(app.screen.query_one(PlainCheckbox).render())
        previews = [selection for verb, selection in canned.letters.asked if verb == "preview"]
        assert cast(LetterFilter, previews[-1]).up_to == 999
        await until(pilot, lambda: not app.screen.query_one("#start", Button).disabled)
        await pilot.click("#start")
        await progress(app, pilot)
    assert canned.done[0][2].poison


@pytest.mark.slow
async def test_a_plan_cannot_start_before_its_letters_are_counted() -> None:
    canned = operations()
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        canned.letters.slow.clear()
        await ask(app, pilot, "A", screen=ReplayDialog)
        await pilot.press("ctrl+s")
        assert "counting" in says(app)
        await pilot.press("escape")
        await back(app, pilot)
    assert canned.done == []


@pytest.mark.slow
@pytest.mark.parametrize(("field", "value", "problem"), [("halt", "0", "halt:"), ("canary", "-1", "canary:")])
async def test_invalid_options_show_their_error_in_the_dialog(field: str, value: str, problem: str) -> None:
    canned = operations()
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await form(app, pilot, "A")
        app.screen.query_one(f"#{field}", Input).value = value
        await pilot.press("ctrl+s")
        await until(pilot, lambda: problem in says(app))
        canned.error = ConflictError("no dead letter is meant by that")
        app.screen.query_one(f"#{field}", Input).value = "20"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "is meant by that" in says(app))
        assert isinstance(app.screen, ReplayDialog)
        canned.error = None
    assert canned.done == []


@pytest.mark.slow
@pytest.mark.parametrize("field", ["canary", "rate", "halt"])
async def test_a_long_number_with_a_letter_in_it_does_not_block_the_dashboard(field: str) -> None:
    app = dashboard(operations())
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await form(app, pilot, "A")
        number = app.screen.query_one(f"#{field}", Input)
        number.clear()
        number.focus()
        number.insert_text_at_cursor("1" * 60 + "x")
        await pilot.press(*"1" * 60, "x")
        assert number.value.isdigit()


@pytest.mark.slow
async def test_a_selection_without_dead_letters_cannot_be_started() -> None:
    canned = operations()
    canned.letters.kept = [replace(kept, state="replayed") for kept in canned.letters.kept]
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press("2")
        await settled(pilot)
        await ask(app, pilot, "A", screen=ReplayDialog)
        await until(pilot, lambda: "nothing to replay" in says(app))
        assert app.screen.query_one("#start", Button).disabled


# Progress


@pytest.mark.slow
async def test_space_pauses_and_resumes_and_x_cancels_after_a_question() -> None:
    canned = with_plans()
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        await opened(app, pilot, 0)
        await pilot.press("space")
        await until(pilot, lambda: "‖ paused" in says(app))
        await pilot.press("space")
        await until(pilot, lambda: "▸ running" in says(app))
        await ask(app, pilot, "x")
        assert "Of 3 letters at most 2 stay dead" in says(app)
        assert [str(button.label) for button in app.screen.query(Button)] == ["Cancel it (y)", "Keep it (n)"]
        await pilot.press("n")
        await progress(app, pilot)
        await ask(app, pilot, "x")
        await pilot.press("y")
        await until(pilot, lambda: "× cancelled" in says(app))
        assert "2 stay dead" in says(app)
        assert "waiting" not in says(app)
        await pilot.press("space", "x")
        await progress(app, pilot)
    assert canned.done == [("pause plan", 4), ("start", 4, None), ("cancel", 4)]


@pytest.mark.slow
async def test_a_plan_is_polled_until_all_its_jobs_have_ended() -> None:
    canned = with_plans()
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        await opened(app, pilot, 0)
        canned.letters.becomes(4, state="done", ledger=Ledger(enqueued=1, completed=1, other=1), active=False)
        await until(pilot, lambda: "● done: 1 job still to end" in says(app))
        canned.letters.becomes(4, ledger=Ledger(completed=2, other=1))
        await until(pilot, lambda: "all have ended" in says(app))
        assert "1 died, other error" in says(app)
        reads = len(canned.letters.asked)
        await pilot.pause(1.2)
        assert len(canned.letters.asked) == reads


@pytest.mark.slow
async def test_a_halted_plan_resumes_only_with_a_higher_limit() -> None:
    canned = with_plans()
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        await opened(app, pilot, 2)
        assert "halted: 3 of 5 died again" in says(app)
        await ask(app, pilot, "space", screen=Prompt)
        assert cast(Input, app.focused).value == "70"
        for wrong in ("20", "101", "x"):
            await write(pilot, wrong)
            await until(pilot, lambda: "▲" in str(app.screen.query_one("#message", Static).render()))
        await write(pilot, "80")
        await until(pilot, lambda: canned.done == [("start", 2, 0.8)])
        await ask(app, pilot, "escape", screen=PlansScreen)
        await pilot.press("escape")
        await back(app, pilot)


async def test_an_interrupted_plan_can_be_resumed() -> None:
    canned = with_plans()
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        await opened(app, pilot, 1)
        assert "interrupted" in says(app)
        assert "couturecast-tui failed-jobs resume 3" in " ".join(says(app).split())
        await pilot.press("space")
        await until(pilot, lambda: canned.done == [("start", 3, None)])


@pytest.mark.slow
async def test_a_plan_of_unknown_state_is_not_shown_as_running() -> None:
    canned = with_plans()
    app = dashboard(canned)
    canned.letters.kept_plans[2] = plan(3, active=None)
    async with app.run_test(size=(120, 36)) as pilot:
        await opened(app, pilot, 1)
        assert "? unknown: Redis does not answer whether a process runs it" in says(app)
        assert "running" not in str(app.screen.query_one("#plan-state", Static).render())


@pytest.mark.slow
async def test_an_unreadable_plan_shows_the_error() -> None:
    canned = with_plans()
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        await opened(app, pilot, 0)
        canned.error = ConflictError("the database is away")
        await until(pilot, lambda: "▲ the database is away" in says(app))
        canned.error = None
        await until(pilot, lambda: "▸ running" in says(app))


@pytest.mark.slow
async def test_l_lists_the_letters_of_the_plan_by_state() -> None:
    canned = with_plans()
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        await opened(app, pilot, 3)
        await ask(app, pilot, "l", screen=PlanLettersDialog)
        table = app.screen.query_one(DataTable)
        await until(pilot, lambda: table.row_count == 100)
        await pilot.press("n")
        await until(pilot, lambda: table.row_count == 30)
        await pilot.press("b")
        await until(pilot, lambda: table.row_count == 100)
        await pilot.press("t", "t", "t", "t")
        await until(pilot, lambda: "died, same error" in says(app) and table.row_count == 1)
        await pilot.press("T", "t", "t", "t", "t")
        await until(pilot, lambda: "skipped" in says(app) and table.row_count == 1)
        assert "gone" in str(table.get_row_at(0)[-1])
        await ask(app, pilot, "enter", screen=LetterScreen)
        await pilot.press("escape", "escape")
        await progress(app, pilot)


@pytest.mark.slow
async def test_the_list_shows_how_the_plans_ended() -> None:
    canned = with_plans()
    app = dashboard(canned)
    async with app.run_test(size=(160, 48)) as pilot:
        await letters_view(app, pilot)
        await ask(app, pilot, "P", screen=PlansScreen)
        table = app.screen.query_one(DataTable)
        await until(pilot, lambda: table.row_count == 4)
        rows = [" ".join(" ".join(map(str, table.get_row_at(row))).split()) for row in range(4)]
        assert rows[0].startswith("4 03-01 14:32 ops@box-2 ▸ running 3 1 0 letters 1, 2, 3")
        assert "▲ interrupted 298 108 1 queue:weather-ingestion" in rows[1]
        assert rows[2].endswith("3 of 5 died again, limit 20 %")
        await pilot.press("r")
        await settled(pilot)
        await pilot.press("1")
        await until(pilot, lambda: not isinstance(app.screen, DeadLettersScreen | PlansScreen))


def test_a_plan_with_a_canary_has_two_bars() -> None:
    young = plan(1, ledger=Ledger(waiting=293, enqueued=3, completed=2))
    bars = plan_text.progress_bars(young, 80).plain
    assert "2/5 ended" in bars
    assert "0/293 enqueued" in bars
    assert (
        plan_text.progress_bars(plan(1, total=3, canary=5, ledger=Ledger(waiting=3)), 80).plain.count("\n")
        == 0
    )
    assert plan_text.progress_bars(plan(1, total=3, canary=0, ledger=Ledger(skipped=3)), 80).plain.endswith(
        "0/0 enqueued"
    )


async def test_a_preview_of_ten_groups_shows_that_there_may_be_more() -> None:
    found = await operations().letters.preview(LetterFilter())
    assert "in 2 groups and 1 queue" in plan_text.preview(found, None, counted_at=NOW).plain
    many = replace(found, groups=tuple(found.groups) * 5)
    assert "in 10+ groups" in plan_text.preview(many, None, counted_at=NOW).plain


@pytest.mark.slow
async def test_letters_replayed_by_a_plan_have_gone_when_its_dialog_closes() -> None:
    canned = operations()
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await form(app, pilot, "space", "space", "R")
        await pilot.press("ctrl+s")
        await progress(app, pilot)
        canned.letters._move((1, 2), "dead", "replayed")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, DeadLettersScreen) and shown(app) == [3, 4, 5])


@pytest.mark.slow
async def test_the_palette_closes_a_dialog_and_the_next_action_asks_again() -> None:
    app = dashboard(operations())
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await form(app, pilot, "A")
        app.action_view("overview")
        await until(pilot, lambda: not isinstance(app.screen, ReplayDialog | DeadLettersScreen))
        await letters_view(app, pilot)
        await form(app, pilot, "A")


RUNNING = {"total": 298, "ledger": Ledger(waiting=189, enqueued=5, completed=101, same=1, other=1, skipped=1)}
SCREENS = {
    "form": ("2", "space space space R"),
    "running": ("2", "P", "enter"),
    "halted": ("2", "P", "down down enter"),
    "ask": ("2", "P", "down down enter", "space"),
    "list": ("2", "P"),
    "ledger": ("2", "P", "enter", "l"),
}


@pytest.mark.parametrize("size", ["80x24", MIDDLE])
@pytest.mark.parametrize("name", SCREENS)
def test_plans(snap_compare: Any, name: str, size: str) -> None:
    async def open_it(pilot: Pilot[Any]) -> None:
        await settled(pilot)
        for keys in SCREENS[name]:
            await pilot.press(*keys.split())
            await settled(pilot)
        await pilot.pause(0.2)

    canned = with_plans()
    canned.now = HEALTHY
    canned.letters.becomes(4, **RUNNING)
    assert snap_compare(dashboard(canned), terminal_size=SIZES[size], run_before=open_it)
