"""The dead letters' view: filter, groups, marks, and what can be done with letters."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static, TextArea

from tests.support.fake_operations import HEALTHY, CannedOperations, item, letter
from tests.tui.test_dashboard import MIDDLE, SIZES, dashboard, letters_view, settled, title, until
from tui.app import Dashboard
from tui.dialogs.confirm import Confirm
from tui.dialogs.edit_payload import EditPayloadDialog
from tui.dialogs.payload_diff import PayloadDiff
from tui.dialogs.prompt import Prompt
from tui.dialogs.replay_options import ReplayDialog
from tui.screens.dead_letters.letter import LetterScreen
from tui.screens.dead_letters.list import DeadLettersScreen
from tui.widgets.filter_bar import FilterBar
from tui.widgets.group_table import GroupTable
from tui.widgets.letter_table import MarkableLetterTable
from tui.widgets.rule import Rule
from workers.errors import ConflictError, InvalidJobError, ReadOnlyError
from workers.operations.operations import LetterFilter

LESS, MORE = "a" * 16, "f" * 16


def operations(letters: int = 5) -> CannedOperations:
    """Every third letter, the first too, is of a second group; the third has died four times."""
    canned = CannedOperations(HEALTHY, letters)
    canned.letters.kept = [
        replace(kept, fingerprint=LESS if at % 3 == 0 else MORE, deaths=4 if at == 2 else 1)
        for at, kept in enumerate(canned.letters.kept)
    ]
    return canned


def shown(app: Dashboard) -> list[int]:
    return [letter.id for letter in app.screen.query_one(MarkableLetterTable).items]


def says(app: Dashboard) -> str:
    """All that stands in the dialog."""
    return " ".join(str(widget.render()) for widget in app.screen.query(Static))


async def write(pilot: Pilot[Any], line: str) -> None:
    """A new line in the input that is focused, and enter."""
    field = cast(Input, pilot.app.focused)
    assert isinstance(field, Input)
    field.value = line
    await pilot.press("enter")


async def filtered(app: Dashboard, pilot: Pilot[Any], line: str) -> None:
    await pilot.press("slash")
    await write(pilot, line)
    await until(pilot, lambda: not app.screen.query_one(FilterBar).is_open)


async def ask(app: Dashboard, pilot: Pilot[Any], *keys: str, screen: type = Confirm) -> None:
    await pilot.press(*keys)
    await until(pilot, lambda: isinstance(app.screen, screen))


async def back(app: Dashboard, pilot: Pilot[Any]) -> None:
    await until(pilot, lambda: isinstance(app.screen, DeadLettersScreen))


# The filter


async def test_slash_writes_a_filter_and_escape_clears_it() -> None:
    canned = operations()
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await filtered(app, pilot, f"fingerprint:{LESS}")
        assert shown(app) == [1, 4]
        await until(pilot, lambda: "2 letters" in title(app))
        assert f"fingerprint:{LESS}" in str(app.screen.query_one("#filter-text", Static).render())
        await pilot.press("slash")
        assert cast(Input, app.focused).value == f"fingerprint:{LESS}"
        await pilot.press("escape")
        assert shown(app) == [1, 4]
        await pilot.press("escape")
        await until(pilot, lambda: shown(app) == [1, 2, 3, 4, 5])
        assert not app.screen.query_one(FilterBar).display


@pytest.mark.parametrize(
    ("line", "problem"),
    [("state:gone", "use dead, replayed"), ('error:"x', "not closed"), ("queue:nowhere", "unknown queue")],
)
async def test_an_invalid_filter_shows_its_error_and_keeps_its_text(line: str, problem: str) -> None:
    app = dashboard(operations())
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await pilot.press("slash")
        await write(pilot, line)
        hint = app.screen.query_one("#filter-hint", Static)
        await until(pilot, lambda: problem in str(hint.render()))
        assert cast(Input, app.focused).value == line
        await pilot.press("escape")
        assert app.screen.query_one(MarkableLetterTable).has_focus
        assert (shown(app), app._notifications.__len__()) == ([1, 2, 3, 4, 5], 0)


async def test_t_cycles_the_states_and_other_states_have_a_column() -> None:
    canned = operations()
    canned.letters.kept[1] = replace(canned.letters.kept[1], state="replayed")
    canned.letters.kept[2] = replace(canned.letters.kept[2], state="discarded")
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        table = await letters_view(app, pilot)
        assert "state" not in [str(column.label) for column in table.ordered_columns]
        for state, ids in (
            ("Replayed", [2]),
            ("Discarded", [3]),
            ("All", [1, 2, 3, 4, 5]),
            ("Dead", [1, 4, 5]),
        ):
            await pilot.press("t")
            await until(pilot, lambda ids=ids: shown(app) == ids)  # type: ignore[misc]
            assert f"{state} letters" in title(app)
            labels = [str(column.label) for column in table.ordered_columns]
            assert ("state" in labels) == (state != "Dead")
        await pilot.press("t", "t")
        await until(pilot, lambda: shown(app) == [3])


async def test_results_of_an_earlier_filter_do_not_replace_later_ones() -> None:
    canned = operations()
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await until(pilot, lambda: "5 letters" in title(app))
        canned.letters.slow.clear()
        await filtered(app, pilot, f"fingerprint:{LESS}")
        assert "counting" in title(app)
        await filtered(app, pilot, f"fingerprint:{MORE}")
        assert shown(app) == [2, 3, 5]
        canned.letters.slow.set()
        await until(pilot, lambda: "3 letters" in title(app))


async def test_a_count_beyond_the_limit_has_a_plus() -> None:
    canned = operations()

    async def count(wanted: LetterFilter, *, most: int) -> int:
        return most + 1

    canned.letters.count = count  # type: ignore[method-assign, assignment]
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await until(pilot, lambda: "10,000+ letters" in title(app))
        canned.now = replace(HEALTHY, dead_letters=1_000_000)
        app.session.refresh()
        await until(pilot, lambda: "1,000,000 letters" in title(app))


async def test_letters_are_counted_neither_every_second_nor_while_another_screen_is_shown() -> None:
    canned = operations()
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await pilot.press("g")
        await until(pilot, lambda: "2 groups" in title(app))
        await settled(pilot)
        asked = list(canned.letters.asked)
        for key in ("", "1", ""):
            await pilot.press(*filter(None, [key]))
            app.session.refresh()
            await settled(pilot)
        assert canned.letters.asked == asked


async def test_another_width_has_other_columns() -> None:
    app = dashboard(operations())
    async with app.run_test(size=(120, 36)) as pilot:
        table = await letters_view(app, pilot)
        assert len(table.columns) == 7
        await pilot.press("down")
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: len(table.columns) == 5)
        assert table.cursor_row == 1
        await pilot.press("g")
        groups = app.screen.query_one(GroupTable)
        await until(pilot, lambda: len(groups.columns) == 4)


async def test_tab_completes_fields_and_values_of_a_filter() -> None:
    app = dashboard(operations())
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await pilot.press("slash", "q")
        field = cast(Input, app.focused)
        hint = app.screen.query_one("#filter-hint", Static)
        await until(pilot, lambda: "tab completes: queue:" in str(hint.render()))
        await pilot.press("tab", "c")
        await until(pilot, lambda: "queue:color-extraction" in str(hint.render()))
        await pilot.press("tab", "space", "s", "t", "tab", "tab")
        assert field.value == "queue:color-extraction state:dead"
        field.value += " since:"
        await pilot.press("tab")
        field.value += " arg."
        await pilot.press("tab")
        assert field.value == "queue:color-extraction state:dead since:15m arg.location_id:"
        field.value = "queue:nowhere"
        await until(pilot, lambda: "tab completes" not in str(hint.render()))


# Groups


async def test_g_shows_groups_and_enter_the_letters_of_one() -> None:
    app = dashboard(operations())
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await pilot.press("g")
        table = app.screen.query_one(GroupTable)
        await until(pilot, lambda: [group.count for group in table.items] == [3, 2])
        await pilot.press("down", "enter")
        await until(pilot, lambda: shown(app) == [1, 4])
        assert not table.display
        await pilot.press("escape")
        await until(pilot, lambda: table.display and len(table.items) == 2)
        await pilot.press("g")
        await until(pilot, lambda: not table.display and shown(app) == [1, 2, 3, 4, 5])
        await pilot.press("escape")
        await until(pilot, lambda: table.display)


async def test_groups_come_first_and_beside_them_is_the_one_under_the_cursor() -> None:
    canned = operations()
    canned.letters.releases = ("r2", "r1")
    app = dashboard(canned)
    async with app.run_test(size=(160, 48)) as pilot:
        await pilot.press("2")
        groups = app.screen.query_one(GroupTable)
        await until(pilot, lambda: groups.display and len(groups.items) == 2)
        await until(pilot, lambda: f"Group {MORE}" in preview_title(app))
        assert "releases  r2, r1" in preview(app)
        assert "location_id" in preview(app)
        await pilot.press("down")
        await until(pilot, lambda: f"Group {LESS}" in preview_title(app))
        await pilot.press("g")
        await until(pilot, lambda: "Letter 1" in preview_title(app))
        await pilot.press("down")
        await until(pilot, lambda: "Letter 2" in preview_title(app))
        assert "Where it failed" in preview(app)
        await pilot.resize_terminal(139, 40)
        await until(pilot, lambda: not app.screen.query_one("#preview-pane").display)


def preview_title(app: Dashboard) -> str:
    return str(app.screen.query_one("#preview-title", Rule).render())


def preview(app: Dashboard) -> str:
    return str(app.screen.query_one("#preview", Static).render())


async def test_slow_groups_block_no_key() -> None:
    canned = operations()
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        canned.letters.slow.clear()
        await pilot.press("2")
        await until(pilot, lambda: isinstance(app.screen, DeadLettersScreen) and app.screen.page)
        await until(pilot, lambda: "Groups" in title(app))
        assert "reading the groups" in str(app.screen.query_one("#list-empty", Static).render())
        await pilot.press("g")
        await until(pilot, lambda: app.screen.query_one(MarkableLetterTable).display)


# Marks


async def test_space_and_v_mark_letters_and_marks_survive_another_page() -> None:
    app = dashboard(operations(230))
    async with app.run_test(size=(120, 36)) as pilot:
        table = cast(MarkableLetterTable, await letters_view(app, pilot))
        await pilot.press("space", "space")
        assert (list(table.marks), table.cursor_row) == ([1, 2], 2)
        await pilot.press("up", "space", "down")
        assert list(table.marks) == [1]
        await pilot.press("v", "down", "down", "v")
        assert list(table.marks) == [1, 4, 5, 6]
        assert "4 marked" in title(app)
        assert str(table.get_cell("4", "")).startswith("●")
        await pilot.press("n")
        await until(pilot, lambda: table.items[0].id == 101)
        await pilot.press("shift+down", "shift+down")
        assert "6 marked" in title(app)
        await pilot.press("b")
        await until(pilot, lambda: table.items[0].id == 1)
        assert str(table.get_cell("4", "")).startswith("●")
        await pilot.press("v", "escape", "U")
        assert (table.marks, table.range_start) == ({}, None)
        assert "marked" not in title(app)
        assert str(table.get_cell("4", "")) == " "


async def test_another_filter_removes_the_marks() -> None:
    app = dashboard(operations())
    async with app.run_test(size=(120, 36)) as pilot:
        table = cast(MarkableLetterTable, await letters_view(app, pilot))
        await pilot.press("space", "space")
        await filtered(app, pilot, f"fingerprint:{MORE}")
        assert table.marks == {}
        assert [note.message for note in app._notifications] == ["the filter changed: 2 marks removed"]


async def test_poison_letters_have_a_sign() -> None:
    app = dashboard(operations())
    async with app.run_test(size=(120, 36)) as pilot:
        table = await letters_view(app, pilot)
        assert [str(table.get_cell(str(number), "")) for number in (2, 3)] == [" ", " ×4"]


# Acts


async def test_R_replays_a_single_marked_letter_without_a_plan() -> None:
    canned = operations()
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        table = cast(MarkableLetterTable, await letters_view(app, pilot))
        await pilot.press("down", "space")
        await ask(app, pilot, "R")
        await pilot.press("y")
        await until(pilot, lambda: shown(app) == [1, 3, 4, 5])
        assert (canned.done, table.marks) == ([("replay", 2)], {})


async def test_d_discards_the_marked_letters_and_u_restores_them() -> None:
    canned = operations()
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        table = cast(MarkableLetterTable, await letters_view(app, pilot))
        await pilot.press("u")
        await until(pilot, lambda: app._notifications)
        await pilot.press("space", "space")
        await ask(app, pilot, "d")
        assert "Discard 2 letters?" in says(app)
        await pilot.press("n")
        await back(app, pilot)
        assert (canned.done, len(table.marks)) == ([], 2)
        await ask(app, pilot, "d")
        await pilot.press("y")
        await until(pilot, lambda: shown(app) == [3, 4, 5])
        assert table.marks == {}
        await until(pilot, lambda: "3 letters" in title(app))
        await pilot.press("u")
        await until(pilot, lambda: shown(app) == [1, 2, 3, 4, 5])
    assert canned.done == [("discard", (1, 2)), ("restore", (1, 2))]


async def test_undoing_a_discarded_group_asks_if_it_would_restore_more() -> None:
    canned = operations(6)
    canned.letters.kept[0] = replace(canned.letters.kept[0], state="discarded", fingerprint=MORE)
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await pilot.press("g")
        await until(pilot, lambda: app.screen.query_one(GroupTable).items)
        await until(pilot, lambda: app.screen.query_one(GroupTable).has_focus)
        await ask(app, pilot, "d")
        assert "Discard 4 letters?" in says(app)
        await pilot.press("y")
        await back(app, pilot)
        await until(pilot, lambda: len(app.screen.query_one(GroupTable).items) == 1)
        await ask(app, pilot, "u")
        assert "Restore 5 letters?" in says(app)
        assert "1 by another action" in says(app)
        await pilot.press("y")
        await until(pilot, lambda: canned.done[-1][0] == "restore")
        wanted = canned.done[-1][1]
        assert (wanted.fingerprint, wanted.up_to) == (MORE, 999)


async def test_u_restores_the_discarded_letters_that_are_shown() -> None:
    canned = operations()
    canned.letters.kept = [replace(kept, state="discarded") for kept in canned.letters.kept]
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press("2", "g")
        await settled(pilot)
        await filtered(app, pilot, "state:discarded")
        await pilot.press("down", "u")
        await until(pilot, lambda: canned.done == [("restore", (2,))])
        await until(pilot, lambda: shown(app) == [1, 3, 4, 5])
        await ask(app, pilot, "space", "space", "u")
        await pilot.press("y")
        await until(pilot, lambda: canned.done[-1][0] == "restore" and len(canned.done) == 2)
        assert len(canned.done[-1][1]) == 2


async def test_only_dead_letters_are_discarded() -> None:
    canned = operations()
    canned.letters.kept[0] = replace(canned.letters.kept[0], state="replayed")
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await filtered(app, pilot, "state:replayed")
        await pilot.press("d")
        await until(pilot, lambda: "nothing to discard" in " ".join(n.message for n in app._notifications))
        assert canned.done == []


@pytest.mark.parametrize(("keys", "screen"), [(("R",), Confirm), (("A",), ReplayDialog), (("d",), Confirm)])
async def test_read_only_mode_shows_an_error_and_changes_nothing(keys: tuple[str, ...], screen: type) -> None:
    canned = operations()
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await ask(app, pilot, *keys, screen=screen)
        await until(pilot, lambda: screen is Confirm or "5 letters" in says(app) or "4 letters" in says(app))
        canned.error = ReadOnlyError("that")
        await pilot.press("y" if screen is Confirm else "enter")
        told: Callable[[], str] = lambda: says(app) + " ".join(n.message for n in app._notifications)  # noqa: E731
        await until(pilot, lambda: "read-only" in told())
        canned.error = None
    assert all(kept.state == "dead" for kept in canned.letters.kept)


async def test_one_action_runs_at_a_time() -> None:
    canned = operations()
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        canned.letters.slow.clear()
        await pilot.press("d", "d", "d")
        canned.letters.slow.set()
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        assert len(app.screen_stack) == 2
        gate, discard = asyncio.Event(), canned.letters.discard

        async def slowly(wanted: Any) -> int:
            await gate.wait()
            return await discard(wanted)

        canned.letters.discard = slowly  # type: ignore[method-assign]
        await pilot.press("y")
        await back(app, pilot)
        await pilot.press("R")
        await until(pilot, lambda: "still discarding 1 letter" in [n.message for n in app._notifications])
        gate.set()
        await until(pilot, lambda: shown(app) == [2, 3, 4, 5])
        await ask(app, pilot, "R")


# Export


async def test_E_exports_the_marked_letters_to_a_private_file(tmp_path: Path) -> None:
    app = dashboard(operations())
    path = tmp_path / "two.jsonl"
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await ask(app, pilot, "space", "space", "E", screen=Prompt)
        assert cast(Input, app.focused).value.endswith(".md")
        await write(pilot, str(tmp_path / "two.txt"))
        await until(pilot, lambda: ".md or in .jsonl" in says(app))
        await write(pilot, str(tmp_path / "nowhere" / "two.md"))
        await until(pilot, lambda: "is not a folder" in says(app))
        await write(pilot, str(path))
        await until(pilot, path.exists)
        assert path.read_text() == "jsonl 1\njsonl 2\n"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await back(app, pilot)
        await pilot.press("U")
        await ask(app, pilot, "E", screen=Prompt)
        await write(pilot, str(path))
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("n")
        await back(app, pilot)
        assert path.read_text() == "jsonl 1\njsonl 2\n"
        await ask(app, pilot, "E", screen=Prompt)
        await write(pilot, str(path))
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: len(path.read_text().splitlines()) == 5)
    assert os.listdir(tmp_path) == ["two.jsonl"]


async def test_a_failed_export_leaves_no_file(tmp_path: Path) -> None:
    canned = operations()
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await ask(app, pilot, "E", screen=Prompt)
        canned.error = ConflictError("away")
        await write(pilot, str(tmp_path / "all.md"))
        await until(pilot, lambda: "away" in " ".join(n.message for n in app._notifications))
        canned.error = None
    assert os.listdir(tmp_path) == []


# Edit


async def test_e_replays_one_letter_with_another_payload() -> None:
    canned = operations()
    app = dashboard(canned)
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await ask(app, pilot, "down", "e", screen=EditPayloadDialog)
        field = app.screen.query_one(TextArea)
        payload = json.loads(field.text)
        assert payload == canned.letters.kept[1].job_data["kwargs"]
        assert not {"\x1b", "\u202e"} & set(field.text)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "unchanged" in says(app))
        for text, problem in (("{", "line 1, column 2"), ("[]", "JSON object"), ('{"a": NaN}', "NaN")):
            field.text = text
            await pilot.pause()
            await pilot.press("ctrl+s")
            await until(pilot, lambda problem=problem: problem in says(app))  # type: ignore[misc]
            assert field.text == text
        field.text = '{"location_id": "porto"}'
        await pilot.pause()
        canned.error = InvalidJobError("lat: field required")
        await ask(app, pilot, "ctrl+s", screen=PayloadDiff)
        await until(pilot, lambda: '+  "location_id": "porto"' in says(app))
        assert f'-  "location_id": {json.dumps(payload["location_id"])}' in says(app)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, EditPayloadDialog))
        await ask(app, pilot, "ctrl+s", screen=PayloadDiff)
        await pilot.press("y")
        await until(pilot, lambda: "lat: field required" in says(app))
        assert field.text == '{"location_id": "porto"}'
        canned.error = None
        await ask(app, pilot, "ctrl+s", screen=PayloadDiff)
        await pilot.press("y")
        await until(pilot, lambda: shown(app) == [1, 3, 4, 5])
    assert canned.done[-1] == ("replay", 2, {"location_id": "porto"})


async def test_without_an_editor_a_message_says_so_and_the_text_stays() -> None:
    app = dashboard(operations())
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await ask(app, pilot, "e", "x", screen=EditPayloadDialog)
        text = app.screen.query_one(TextArea).text
        await pilot.press("ctrl+o")
        await until(pilot, lambda: "an editor needs the terminal" in says(app))
        assert app.screen.query_one(TextArea).text == text


async def test_leaving_a_changed_payload_asks_once() -> None:
    app = dashboard(operations())
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await ask(app, pilot, "e", screen=EditPayloadDialog)
        await pilot.press("escape")
        await back(app, pilot)
        await ask(app, pilot, "e", screen=EditPayloadDialog)
        await pilot.press("x")
        await ask(app, pilot, "escape")
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, EditPayloadDialog))
        await ask(app, pilot, "escape")
        await pilot.press("y")
        await back(app, pilot)


# Detail


async def test_the_detail_shows_the_lineage_of_a_letter() -> None:
    canned = CannedOperations(HEALTHY, 0)
    canned.letters.kept = [
        letter(1, state="replayed", replay_count=1),
        letter(7, root_id=1, replay_of=1, deaths=3),
    ]
    canned.letters.replays = {1: [item(3, plan_id=4, letter_id=1, state="same")]}
    app = dashboard(canned)
    async with app.run_test(size=(120, 50)) as pilot:
        await letters_view(app, pilot)
        await ask(app, pilot, "enter", screen=LetterScreen)
        await until(pilot, lambda: "Replays" in says(app))
        told = says(app)
        for line in (
            "letter 1: died",
            "plan 4 at",
            "died, same error",
            "letter 7 (this one), a replay of letter 1",
        ):
            assert line in told
        assert "poison    ×3" in told
        await ask(app, pilot, "d")
        await pilot.press("y")
        await until(pilot, lambda: "discarded" in says(app))
        await pilot.press("u")
        await until(pilot, lambda: canned.done[-1] == ("restore", (7,)))
        await ask(app, pilot, "e", screen=EditPayloadDialog)
        await pilot.press("escape", "escape")
        await back(app, pilot)


# What it looks like

SCREENS = {
    "filter": ("slash",),
    "filter-set": ("slash", "s t a t e : a l l", "enter"),
    "groups": ("g",),
    "marked": ("space down v down down v",),
    "edit": ("e",),
    "discard": ("space space d",),
}
"""Keys that are pressed in a row; between the rows the screen comes to rest."""


@pytest.mark.parametrize("size", ["80x24", MIDDLE])
@pytest.mark.parametrize("name", SCREENS)
def test_letters(snap_compare: Any, name: str, size: str) -> None:
    async def open_it(pilot: Pilot[Any]) -> None:
        await settled(pilot)
        await letters_view(cast(Dashboard, pilot.app), pilot)
        for keys in SCREENS[name]:
            await pilot.press(*keys.split())
            await settled(pilot)
        await pilot.pause(0.2)

    assert snap_compare(dashboard(operations(230)), terminal_size=SIZES[size], run_before=open_it)


@pytest.mark.slow
@pytest.mark.parametrize("keys", ["", "g", "g s"], ids=["groups", "letters", "sort"])
def test_letters_with_their_preview(snap_compare: Any, keys: str) -> None:
    async def open_it(pilot: Pilot[Any]) -> None:
        await settled(pilot)
        await pilot.press("2", *keys.split())
        await settled(pilot)
        await pilot.pause(0.2)

    assert snap_compare(dashboard(operations(30)), terminal_size=SIZES["160x48"], run_before=open_it)
