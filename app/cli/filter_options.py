"""The options of a `LetterFilter`, one for each of its fields that an operator can name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any

import typer

from app.cli.completion import LETTER_STATES, complete_letter_state, complete_queue
from app.cli.values import check_choice, name_and_value, one_of
from app.errors import UsageError
from storage.dead_letters.filters import LetterFilter
from storage.errors import InvalidFilterError

OPTIONS: Mapping[str, tuple[type, Any]] = {
    "queue": (str, typer.Option("--queue", help="Of one queue.", autocompletion=complete_queue)),
    "function": (str, typer.Option("--function", help="Of one job function.")),
    "state": (
        str,
        typer.Option("--state", help=f"{one_of(LETTER_STATES)}.", autocompletion=complete_letter_state),
    ),
    "since": (
        str,
        typer.Option("--since", help="Died then or later: 2h, 7d, 2026-03-01T12:00.", metavar="TIME"),
    ),
    "until": (str, typer.Option("--until", help="Died before.", metavar="TIME")),
    "error": (str, typer.Option("--error", help="A text that the error contains.", metavar="TEXT")),
    "fingerprint": (str, typer.Option("--fingerprint", help="Of one group.", metavar="HEX")),
    "args": (
        list[str],
        typer.Option("--arg", help="An argument of the job; may be given again.", metavar="NAME=VALUE"),
    ),
    "poison": (
        bool,
        typer.Option(
            "--poison/--no-poison",
            help="Only letters that died three times in a row of the same error, or only the others.",
        ),
    ),
    "archived": (bool, typer.Option("--archived", help="Of the archive.")),
}
"""Type and option of each field of the filter."""


class FilterOptions:
    """The options of a filter that stand on the command line."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = {name: value for name, value in values.items() if value not in (None, [])}

    def __bool__(self) -> bool:
        return bool(self._values)

    def letter_filter(self, *, state: str = "dead") -> LetterFilter:
        """Return the filter; of letters in ``state`` if no option names one.  Raises UsageError."""
        values = {"state": state} | self._values
        check_choice(values["state"], LETTER_STATES, "--state")
        pairs = [name_and_value(text) for text in values.pop("args", [])]
        if len(dict(pairs)) < len(pairs):
            raise UsageError("two values for one name", field="--arg", fix="give each name once")
        try:
            return LetterFilter.from_options(**values, args=dict(pairs))
        except InvalidFilterError as error:
            raise UsageError(error.problem, field=f"--{error.field.replace('arg.', 'arg ', 1)}") from None


def with_filter_options(*without: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declare the options of a filter, without some, and pass them to the command as ``filter_options``.

    Typer reads the options of a command from its signature, so the decorated command gets one in which they
    take the place of that parameter.
    """
    names = [name for name in OPTIONS if name not in without]
    declared = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
        )
        for name, (kind, option) in OPTIONS.items()
        if name in names
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(command, eval_str=True).parameters.values():
            keyword = parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            parameters += declared if parameter.name == "filter_options" else [keyword]

        @wraps(command)
        def with_options(**values: Any) -> None:
            command(filter_options=FilterOptions({name: values.pop(name) for name in names}), **values)

        with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return with_options

    return decorate
