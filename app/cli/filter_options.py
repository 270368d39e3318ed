"""The options of a `LetterFilter`, one for each of its fields that an operator can name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any

import typer

from app.cli.completion import LETTER_STATES, complete_letter_state, complete_queue
from app.cli.values import check_choice, name_and_value
from app.errors import UsageError
from storage.dead_letters.filters import LetterFilter, describe_condition
from storage.errors import InvalidFilterError


def _option(name: str, declaration: str = "", note: str = "", **extra: Any) -> Any:
    """Return the option of one condition, with the description that HTTP has, too, and a note."""
    return typer.Option(declaration or f"--{name}", help=describe_condition(name) + note, **extra)


OPTIONS: Mapping[str, tuple[type, Any]] = {
    "queue": (str, _option("queue", autocompletion=complete_queue)),
    "function": (str, _option("function")),
    "state": (str, _option("state", autocompletion=complete_letter_state)),
    "since": (str, _option("since", metavar="TIME")),
    "until": (str, _option("until", metavar="TIME")),
    "error": (str, _option("error", metavar="TEXT")),
    "fingerprint": (str, _option("fingerprint", metavar="HEX")),
    "args": (list[str], _option("args", "--arg", " May be given again.", metavar="NAME=VALUE")),
    "poison": (bool, _option("poison", "--poison/--no-poison")),
    "archived": (bool, _option("archived")),
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
