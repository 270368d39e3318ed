"""The view of dead letters: letters to be shown there, its filter and its questions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from textual.pilot import Pilot
from textual.widgets import Input, Static

from tests.support.dashboards import until
from tests.support.fake_moments import HEALTHY
from tests.support.fake_operations import CannedOperations
from tui.app import Dashboard
from tui.dialogs.confirm import Confirm
from tui.screens.dead_letters.list import DeadLettersScreen
from tui.widgets.filter_bar import FilterBar
from tui.widgets.letter_table import MarkableLetterTable

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
