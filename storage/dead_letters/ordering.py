"""The orders in which pages of dead letters can be read: each is the order of an index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from storage.dead_letters.filters import LetterFilter
from storage.errors import InvalidFilterError

OrderColumn = Literal["failed_at", "queue_name", "function", "fingerprint"]
ORDER_COLUMNS: tuple[OrderColumn, ...] = ("failed_at", "queue_name", "function", "fingerprint")


@dataclass(frozen=True, slots=True)
class LetterOrder:
    """Letters with the same value are in the order of their deaths, in the same direction."""

    column: OrderColumn = "failed_at"
    descending: bool = True

    @property
    def name(self) -> str:
        """The name that cursors carry."""
        if self == NEWEST_FIRST:
            return "failed_at"
        return f"{self.column} {'descending' if self.descending else 'ascending'}"


NEWEST_FIRST = LetterOrder()


def sortable_columns(letter_filter: LetterFilter) -> tuple[OrderColumn, ...]:
    """Return the columns by which an index returns the letters of a filter in order; none if it is a search.

    The index of another column begins with the state and that column.  With further conditions it would read
    letters only to leave them out: a million in the worst case.
    """
    if letter_filter.uses_text_search:
        return ()
    values = (
        letter_filter.queue,
        letter_filter.function,
        letter_filter.fingerprint,
        letter_filter.since,
        letter_filter.until,
        letter_filter.poison,
    )
    return ORDER_COLUMNS if all(value is None for value in values) else ("failed_at",)


def check_order(order: LetterOrder, letter_filter: LetterFilter) -> None:
    """Raise InvalidFilterError if no index has the order."""
    if order != NEWEST_FIRST and order.column not in sortable_columns(letter_filter):
        raise InvalidFilterError(
            f"with this filter no index sorts by {order.column}",
            field="order",
            fix="leave the order out, or filter by state only",
        )
