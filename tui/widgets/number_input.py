"""A field for a number that is not negative."""

from __future__ import annotations

from textual.widgets import Input

_MAX_DIGITS = 12


class NumberInput(Input):
    """A field that accepts digits, and one point if ``fraction``.

    Textual's own ``type="number"`` matches with nested repetitions: 30 digits and a letter block the event
    loop for minutes, and no other thread runs.
    """

    def __init__(self, value: str = "", *, id: str, placeholder: str = "", fraction: bool = False) -> None:
        super().__init__(
            value,
            id=id,
            placeholder=placeholder,
            restrict=r"\d*\.?\d*" if fraction else r"\d*",
            max_length=_MAX_DIGITS,
            compact=True,
        )
