"""Replay, discard, export and edit dead letters, by their keys."""

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
from textual.widgets import Input, TextArea

from tests.support.dashboards import dashboard, letters_view, settled, title, until
from tests.support.fake_letters import item, letter
from tests.support.fake_moments import HEALTHY
from tests.support.fake_operations import CannedOperations
from tests.support.letters_view import MORE, ask, back, filtered, operations, says, shown, write
from tui.dialogs.confirm import Confirm
from tui.dialogs.edit_payload import EditPayloadDialog
from tui.dialogs.payload_diff import PayloadDiff
from tui.dialogs.prompt import Prompt
from tui.dialogs.replay_options import ReplayDialog
from tui.screens.dead_letters.letter import LetterScreen
from tui.widgets.group_table import GroupTable
from tui.widgets.letter_table import MarkableLetterTable
from workers.errors import ConflictError, InvalidJobError, ReadOnlyError


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
        selection = canned.done[-1][1]
        assert (selection.fingerprint, selection.up_to) == (MORE, 999)


@pytest.mark.slow
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
        await pilot.press("y" if screen is Confirm else "ctrl+s")
        shown: Callable[[], str] = lambda: says(app) + " ".join(n.message for n in app._notifications)  # noqa: E731
        await until(pilot, lambda: "read-only" in shown())
        canned.error = None
    assert all(kept.state == "dead" for kept in canned.letters.kept)


@pytest.mark.slow
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

        async def slowly(selection: Any) -> int:
            await gate.wait()
            return await discard(selection)

        canned.letters.discard = slowly  # type: ignore[method-assign]
        await pilot.press("y")
        await back(app, pilot)
        await pilot.press("R")
        await until(pilot, lambda: "still discarding 1 letter" in [n.message for n in app._notifications])
        gate.set()
        await until(pilot, lambda: shown(app) == [2, 3, 4, 5])
        await ask(app, pilot, "R")


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
async def test_without_an_editor_a_message_says_so_and_the_text_stays() -> None:
    app = dashboard(operations())
    async with app.run_test(size=(120, 36)) as pilot:
        await letters_view(app, pilot)
        await ask(app, pilot, "e", "x", screen=EditPayloadDialog)
        text = app.screen.query_one(TextArea).text
        await pilot.press("ctrl+o")
        await until(pilot, lambda: "an editor needs the terminal" in says(app))
        assert app.screen.query_one(TextArea).text == text


@pytest.mark.slow
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


@pytest.mark.slow
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
        shown = says(app)
        for line in (
            "letter 1: died",
            "plan 4 at",
            "died, same error",
            "letter 7 (this one), a replay of letter 1",
        ):
            assert line in shown
        assert "poison    ×3" in shown
        await ask(app, pilot, "d")
        await pilot.press("y")
        await until(pilot, lambda: "discarded" in says(app))
        await pilot.press("u")
        await until(pilot, lambda: canned.done[-1] == ("restore", (7,)))
        await ask(app, pilot, "e", screen=EditPayloadDialog)
        await pilot.press("escape", "escape")
        await back(app, pilot)
