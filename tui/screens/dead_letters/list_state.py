"""The state of the view of dead letters."""

from __future__ import annotations

from dataclasses import dataclass

from tui.screens.paged import ListState
from workers.operations.operations import ALL_DEAD, LetterFilter


@dataclass(frozen=True)
class LetterListState(ListState[LetterFilter]):
    """The shown letters, or their groups if ``grouped``."""

    filter: LetterFilter = ALL_DEAD
    grouped: bool = False
    parent_filter: LetterFilter | None = None
    """The filter of the groups of which one was opened; escape leads back to them."""
