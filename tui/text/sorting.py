"""Sorts rows by a column and a direction, which the headings show."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

ItemT = TypeVar("ItemT")

ASCENDING, DESCENDING = "↑", "↓"


@dataclass(frozen=True, slots=True)
class Order:
    """A column, and whether its greatest values come first."""

    column: str
    descending: bool = False

    @property
    def arrow(self) -> str:
        """``↓`` if the greatest values come first, else ``↑``."""
        return DESCENDING if self.descending else ASCENDING

    def __str__(self) -> str:
        """Return ``queue ↑``: as it is shown, and as it is remembered."""
        return f"{self.column} {self.arrow}"


@dataclass(frozen=True, slots=True)
class SortColumn(Generic[ItemT]):
    """A column by which rows can be sorted.

    ``key`` returns an item's value, None if it has none.  Without it the operation sorts: it has all rows.
    ``descending``: the greatest values come first, until the direction is reversed.
    """

    name: str
    key: Callable[[ItemT], Any] | None = None
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Sorting(Generic[ItemT]):
    """The columns by which the rows of a list can be sorted.

    ``name`` is that under which the order is remembered.  ``default`` None is the order in which rows arrive.
    ``note`` is why other columns are missing.
    """

    name: str
    columns: tuple[SortColumn[ItemT], ...]
    default: Order | None = None
    note: str = ""

    def parse(self, text: str | None) -> Order | None:
        """Return the order that was remembered; the default if it is unknown."""
        return next((order for order in self._orders() if str(order) == text), self.default)

    def choose(self, column: str, present: Order | None) -> Order | None:
        """Return the order after a choice of a column, reversed if chosen again; None: no such column."""
        if present is not None and present.column == column:
            return Order(column, not present.descending)
        return next(
            (Order(known.name, known.descending) for known in self.columns if known.name == column), None
        )

    def sort(self, items: Iterable[ItemT], order: Order | None) -> list[ItemT]:
        """Sort items that are all in memory; those without a value come last."""
        key = next((known.key for known in self.columns if order and known.name == order.column), None)
        if order is None or key is None:
            return list(items)
        with_value = [(value, item) for item in items if (value := key(item)) is not None]
        with_value.sort(key=lambda pair: pair[0], reverse=order.descending)
        return [item for _, item in with_value] + [item for item in items if key(item) is None]

    def _orders(self) -> Iterable[Order]:
        for column in self.columns:
            yield Order(column.name, column.descending)
            yield Order(column.name, not column.descending)


def heading(name: str, order: Order | None, width: int) -> str:
    """Return the heading of a column in ``width`` characters, with an arrow if rows are sorted by it."""
    if order is None or order.column != name:
        return name
    return f"{name} {order.arrow}" if len(name) + 2 <= width else f"{name[: width - 1]}{order.arrow}"
